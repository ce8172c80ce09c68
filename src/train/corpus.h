// Sharp star-free patches from a file.
#pragma once

#include <torch/torch.h>

#include <filesystem>
#include <string>

#include "core/random.h"

namespace limpid {

/// Patches of one side of the split, kept as 16-bit or packed 8-bit display values.
class CorpusPatches {
 public:
  /// Throws Error(bad_input) when the file is not a corpus.
  static CorpusPatches load(const std::filesystem::path& path, bool validation);
  [[nodiscard]] int count() const { return static_cast<int>(patches_.size(0)); }
  [[nodiscard]] const std::string& hash() const { return hash_; }
  /// Display values (3, side, side) in [0,1].
  [[nodiscard]] torch::Tensor patch(int index) const;
  [[nodiscard]] bool linear(int index) const { return linear_[static_cast<std::size_t>(index)]; }
  /// A random window (3, side, side) of linear light in [0,1], turned at random, its stretch undone
  /// by a random power; sometimes averaged 2x first.
  [[nodiscard]] torch::Tensor draw(Random& random, int side) const;

 private:
  torch::Tensor
      patches_;  // int16 view of unsigned values, (n, 3, side, side); uint8 (n, side, side)
  torch::Tensor colour_;  // of the latter: (n, 2, side / 2, side / 2)
  std::vector<bool> linear_;
  std::string hash_;
};

/// The eight turns and mirrorings of the last two dimensions; `turn` in [0, 8).
torch::Tensor turned(const torch::Tensor& x, int turn);

}  // namespace limpid
