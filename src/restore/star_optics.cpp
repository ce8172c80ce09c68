#include "restore/star_optics.h"

#include <algorithm>
#include <array>
#include <functional>
#include <numbers>
#include <utility>

namespace limpid {
namespace {

constexpr float step_px = 0.5F;
struct Weight {
  int i, j;  ///< of f(x + i steps, y + j steps)
  float value;
};
const std::array<std::vector<Weight>, term_count>& terms() {
  constexpr float first = 1 / (2 * step_px), second = 1 / (step_px * step_px), mixed = second / 4,
                  third = first * second;
  static const std::array<std::vector<Weight>, term_count> list{{
      {{0, 0, 1}},
      {{1, 0, first}, {-1, 0, -first}},
      {{0, 1, first}, {0, -1, -first}},
      {{1, 0, second}, {0, 0, -2 * second}, {-1, 0, second}},
      {{1, 1, mixed}, {-1, 1, -mixed}, {1, -1, -mixed}, {-1, -1, mixed}},
      {{0, 1, second}, {0, 0, -2 * second}, {0, -1, second}},
      {{2, 0, third},
       {1, 0, -4 * third},
       {-1, 0, 4 * third},
       {-2, 0, -third},
       {1, 1, third},
       {-1, 1, -third},
       {1, -1, third},
       {-1, -1, -third}},
      {{0, 2, third},
       {0, 1, -4 * third},
       {0, -1, 4 * third},
       {0, -2, -third},
       {1, 1, third},
       {1, -1, -third},
       {-1, 1, third},
       {-1, -1, -third}},
  }};
  return list;
}

/// Rows of a kernel, moved by less than a pixel (bilinear: residuals are smooth).
std::vector<float> moved(const std::vector<float>& rows, float dx, float dy) {
  if (rows.empty() || (dx == 0 && dy == 0)) return rows;
  constexpr int side = psf_kernel_px;
  const auto at = [&](int x, int y) {
    return x < 0 || y < 0 || x >= side || y >= side ? 0
                                                    : rows[static_cast<std::size_t>(y * side + x)];
  };
  std::vector<float> result(rows.size());
  const int left = dx > 0 ? -1 : 0, above = dy > 0 ? -1 : 0;
  const float fx = dx > 0 ? 1 - dx : -dx, fy = dy > 0 ? 1 - dy : -dy;
  for (int y = 0; y < side; ++y) {
    for (int x = 0; x < side; ++x) {
      const int u = x + left, v = y + above;
      result[static_cast<std::size_t>(y * side + x)] =
          (1 - fy) * ((1 - fx) * at(u, v) + fx * at(u + 1, v)) +
          fy * ((1 - fx) * at(u, v + 1) + fx * at(u + 1, v + 1));
    }
  }
  return result;
}

Psf moved(Psf psf, float dx, float dy) {
  psf.dx += dx;
  psf.dy += dy;
  return psf;
}

}  // namespace

Spectrum term_transfers(int side) {
  Spectrum spectrum(term_count, {side, side});
  const float unit = 2 * std::numbers::pi_v<float> * step_px / static_cast<float>(side);
  for (int k = 0; k < term_count; ++k) {
    for (int ky = 0; ky < side; ++ky) {
      const auto row = spectrum.row(k, ky);
      const float v = unit * static_cast<float>(ky <= side / 2 ? ky : ky - side);
      for (int kx = 0; kx < spectrum.columns(); ++kx) {
        const float u = unit * static_cast<float>(kx);
        std::complex<float> factor = 0;
        for (const Weight& weight : terms()[static_cast<std::size_t>(k)]) {
          factor += std::polar(weight.value,
                               static_cast<float>(weight.i) * u + static_cast<float>(weight.j) * v);
        }
        // by half a side along both axes
        row[static_cast<std::size_t>(kx)] = (kx + ky) % 2 == 0 ? factor : -factor;
      }
    }
  }
  return spectrum;
}

Optics::Optics(const TileControls& controls, int channels, const Spectrum& terms, int reach,
               float dx, float dy, double wider)
    : dx_(dx),
      dy_(dy),
      psf_(wanted_psfs(controls).stellar),
      transfers_(0, terms.size()) {
  psf_.fwhm_px *= static_cast<float>(wider);
  std::vector<Image> kernels;
  kernels.push_back(moved(psf_, dx, dy).kernel(psf_kernel_px));
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    kernels.push_back(moved(controls.measured[c], dx, dy)
                          .kernel(psf_kernel_px, moved(controls.residual[c], dx, dy)));
    measured_sigma_px_.push_back(static_cast<double>(controls.measured[c].fwhm_px) / 2.355);
  }
  transfers_ = transfer(kernels, terms.size());
  draw_wanted(kernels.front().view(), reach);
  for (int c = 0; c < channels; ++c) {
    Spectrum spectrum(term_count, terms.size());
    for (int k = 0; k < term_count; ++k)
      std::ranges::transform(terms.plane(k), measured(c), spectrum.plane(k).begin(),
                             std::multiplies<>());
    measured_terms_.push_back(inverse_fft(std::move(spectrum)));
  }
  find_core(controls);
}

/// Where a Moffat comes to lie when all pixels weigh the same: to first order -<R, G_x> / <G_x,
/// G_x>, R the measured residual. Mean over the channels.
void Optics::find_core(const TileControls& controls) {
  const auto channels = static_cast<double>(measured_terms_.size());
  for (std::size_t c = 0; c < measured_terms_.size(); ++c) {
    const auto residual = moved(controls.residual[c], dx_, dy_);
    if (residual.empty()) continue;
    const ConstView terms = measured_terms_[c].view();
    const int corner = terms.width() / 2 - psf_kernel_px / 2;
    std::array<double, 2> with{}, own{};
    for (int y = 0; y < psf_kernel_px; ++y) {
      for (int x = 0; x < psf_kernel_px; ++x) {
        for (const int k : {1, 2}) {
          const auto slope = static_cast<double>(terms(k, corner + y, corner + x));
          const auto at = static_cast<std::size_t>(k - 1);
          with[at] += slope * static_cast<double>(
                                  residual[static_cast<std::size_t>(y * psf_kernel_px + x)]);
          own[at] += slope * slope;
        }
      }
    }
    for (const std::size_t i : {0U, 1U}) to_core_[i] -= with[i] / own[i] / channels;
  }
}

Image Optics::drawn(float dx, float dy, int side_px) const {
  return moved(psf_, dx, dy).kernel(side_px);
}

void Optics::draw_wanted(ConstView kernel, int reach) {
  const int size = 2 * reach + 1, corner = psf_kernel_px / 2 - reach;
  double inside = 0;
  for (int y = std::max(0, corner); y < std::min(psf_kernel_px, corner + size); ++y) {
    for (int x = std::max(0, corner); x < std::min(psf_kernel_px, corner + size); ++x)
      inside += static_cast<double>(kernel(0, y, x));
  }
  // Steps are half a pixel long: a square that is a pixel larger on each side, drawn in four places
  // of a pixel, holds all that are needed. Each sums to 1.
  std::array<Image, 4> larger;
  for (int phase = 0; phase < 4; ++phase) {
    larger[static_cast<std::size_t>(phase)] =
        moved(psf_, dx_ - static_cast<float>(phase % 2) * step_px,
              dy_ - static_cast<float>(phase / 2) * step_px)
            .kernel(size + 2);
  }
  const auto drawn = [&](int i, int j) {
    const int whole_x = i >= 0 ? i / 2 : (i - 1) / 2, whole_y = j >= 0 ? j / 2 : (j - 1) / 2;
    const auto phase = static_cast<std::size_t>(i - 2 * whole_x + 2 * (j - 2 * whole_y));
    return std::as_const(larger[phase]).view().crop({1 + whole_x, 1 + whole_y, size, size});
  };
  wanted_terms_ = Image(term_count, {size, size}, 0.0F);
  for (int k = 0; k < term_count; ++k) {
    const auto to = wanted_terms_.view().channel(k);
    for (const Weight& weight : terms()[static_cast<std::size_t>(k)]) {
      const ConstView image = drawn(weight.i, weight.j);
      double sum = 0;
      for (int y = 0; y < size; ++y) {
        for (const float value : image.row(0, y)) sum += static_cast<double>(value);
      }
      const auto factor = static_cast<float>(inside / sum) * weight.value;
      for (int y = 0; y < size; ++y) {
        const auto row = to.row(0, y);
        const auto from = image.row(0, y);
        for (std::size_t x = 0; x < row.size(); ++x) row[x] += factor * from[x];
      }
    }
  }
}

}  // namespace limpid
