// The guide planes on the CPU, by FFTW, which is faster there than LibTorch's transforms.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "core/fft_columns.h"
#include "nn/block_rows.h"
#include "nn/guides.h"

namespace limpid {

/// What the planes of one kind are made of beside the pixels.
struct GuideRecipe {
  bool stellar = false, mono = false;
  Psf wanted;
  std::array<Psf, 3> undone;
  std::array<std::vector<float>, 3> residual;  ///< beyond `undone`
  bool operator==(const GuideRecipe&) const = default;
};

/// Spectra of a tile, and the planes that were made of it last.
struct GuideMemory {
  struct Made {
    GuideRecipe recipe;
    std::shared_ptr<const Image> planes;
  };
  std::size_t most = 1;  ///< planes of each kind
  std::optional<ColumnSpectrum> spectra;
  std::deque<Made> stellar, nonstellar;  ///< newest first
};

/// A tile's planes: nonstellar_guide_count, then the rest, each plane with its channels; for mono
/// controls one, the channels being equal.
struct Guides {
  std::shared_ptr<const Image> nonstellar, stellar;
};

/// What guide_planes() gives, `part` of it: a tile's margins need not be made. `memory`, where
/// there is one, is of this tile and part.
Guides guides_in(ConstView tile, Rect part, const TileControls& controls, int threads,
                 GuideMemory* memory = nullptr);

/// The planes that a network sees of what lies within a tile's margins, one after the other as
/// plane_count says.
class TilePlanes {
 public:
  /// `light`: (3, height, width) with its margins; `saturated`: (1, ..) without. Both are only
  /// looked at. `memory`: see guides_in().
  TilePlanes(ConstView light, int margin, ConstView saturated, const TileControls& controls,
             int threads, GuideMemory* memory);
  [[nodiscard]] const std::vector<Plane>& planes() const { return planes_; }

 private:
  Guides guides_;
  std::vector<Plane> planes_;
};

}  // namespace limpid
