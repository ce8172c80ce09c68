// FFTW's plans, kept until the program ends, and the one lock under which they are made.
#pragma once

#include <complex>
#include <map>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include <fftw3.h>

#include <limpid/error.h>

namespace limpid {

struct DestroyPlan {
  void operator()(fftwf_plan plan) const { fftwf_destroy_plan(plan); }
};
using Plan = std::unique_ptr<std::remove_pointer_t<fftwf_plan>, DestroyPlan>;

/// Both directions of one transform.
struct Plans {
  Plan forward, inverse;
};

inline fftwf_complex* as_fftw(std::complex<float>* values) {
  return reinterpret_cast<fftwf_complex*>(values);  // the same layout: both standards promise it
}

/// FFTW makes one plan at a time in the whole process, of whatever kind; many threads may use it.
std::mutex& planner_lock();

/// Plans of one kind by what they are made for. Estimated, not measured: what is measured depends
/// on the moment, and with it the last bits of every result. Few sizes are ever asked for.
template <typename Key>
class PlanStore {
 public:
  /// What `make` made for `key`. Throws Error(exhausted).
  template <typename Make>
  const Plans& find(const Key& key, const Make& make) {
    const std::scoped_lock lock(planner_lock());
    auto found = known_.find(key);
    if (found == known_.end()) {
      Plans plans = make();
      if (!plans.forward || !plans.inverse)
        throw Error(ErrorKind::exhausted, "no memory to prepare a Fourier transform");
      found = known_.emplace(key, std::move(plans)).first;
    }
    return found->second;
  }

 private:
  std::map<Key, Plans> known_;
};

}  // namespace limpid
