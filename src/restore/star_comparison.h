// The bright isolated stars of a frame, and how wide they are before and after.
#pragma once

#include <memory>

#include <limpid/image.h>
#include <limpid/progress.h>
#include <limpid/stars.h>

namespace limpid {

struct WidthRatio {
  int stars = 0;      ///< that could be fitted before and after
  double median = 0;  ///< of width after over width before
};

/// The stars of compare_stars(), which this is a part of, fitted once before and then as often as
/// there are results. Refers to the catalogue and the frame, which must outlive it.
class StarComparison {
 public:
  StarComparison(const StarCatalogue& catalogue, ConstView before, int threads,
                 const Progress& progress = {}, std::size_t most_stars = 150);
  ~StarComparison();
  StarComparison(const StarComparison&) = delete;
  StarComparison& operator=(const StarComparison&) = delete;

  [[nodiscard]] WidthRatio width_ratio(ConstView after, double fwhm_ratio_asked, int threads,
                                       const Progress& progress = {}) const;

  /// Of the widths before over those of a field.
  [[nodiscard]] WidthRatio width_over(const PsfField& field) const;

  struct Body;  ///< for trust.cpp
  [[nodiscard]] const Body& body() const { return *body_; }

 private:
  std::unique_ptr<Body> body_;
};

}  // namespace limpid
