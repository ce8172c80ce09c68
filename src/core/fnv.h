// A hash that is the same everywhere.
#pragma once

#include <cstdint>

namespace limpid {

/// FNV-1a, 64 bits (Fowler, Noll, Vo; RFC 9923), of bytes; larger values are taken whole.
class Fnv {
 public:
  void add(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001b3ULL; }
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325ULL;
};

}  // namespace limpid
