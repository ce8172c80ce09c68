// What stars show beyond the Moffat profile, told anywhere in the frame.
#include <algorithm>
#include <cmath>
#include <numbers>

#include <Eigen/Dense>

#include <limpid/stars.h>

#include "core/statistics.h"
#include "measure/neighbours.h"
#include "measure/polynomials.h"
#include "measure/residual_stack.h"

namespace limpid {
namespace {

constexpr std::size_t most_stars = 200;
constexpr float least_snr = 40;

}  // namespace

std::vector<float> EffectivePsf::residual(float x, float y, int channel, int side_px, float dx,
                                          float dy) const {
  std::vector<float> kernel(static_cast<std::size_t>(side_px * side_px));
  const auto& planes = channels_[static_cast<std::size_t>(channel)];
  if (planes.empty()) return kernel;
  const Eigen::VectorXd terms =
      polynomial_terms(unit(static_cast<double>(x), frame_.width),
                       unit(static_cast<double>(y), frame_.height), term_count(highest_order));
  const auto here = plane_at(planes, terms);
  const double centre = (side_ - 1) / 2.0;
  const int middle = side_px / 2;
  for (int j = 0; j < side_px; ++j) {
    for (int i = 0; i < side_px; ++i) {
      const double px = i - middle - static_cast<double>(dx),
                   py = j - middle - static_cast<double>(dy);
      const double r = std::sqrt(px * px + py * py) / reach_px_;
      if (r >= 1) continue;
      const double fade = r <= 0.7 ? 1 : 0.5 + 0.5 * std::cos(std::numbers::pi * (r - 0.7) / 0.3);
      kernel[cell_of(i, j, side_px)] = static_cast<float>(
          fade * interpolate(here, side_, centre + oversampling * px, centre + oversampling * py));
    }
  }
  return kernel;
}

std::shared_ptr<const EffectivePsf> measure_effective_psf(ConstView frame,
                                                          const StarCatalogue& catalogue,
                                                          const PsfField& field, int threads) {
  const auto chosen = bright_isolated_stars(catalogue, most_stars, least_snr);
  if (chosen.size() < fewest_stacked) return nullptr;
  std::vector<float> widths;
  widths.reserve(chosen.size());
  for (const Star* star : chosen) widths.push_back(star->fwhm_px);
  const float fwhm = median(widths);
  const auto reach_of = [&](int times_fwhm) {
    return std::clamp(static_cast<int>(std::ceil(static_cast<float>(times_fwhm) * fwhm)) + 5, 8,
                      28);
  };
  int reach = reach_of(3);
  auto stacked = stack_stars(frame, catalogue, field, chosen, reach, threads);
  if (const int farther = reach_of(5);
      farther > reach && ends_in_a_tail(stacked, reach, field.mean_at(0, 0))) {
    auto longer = stack_stars(frame, catalogue, field, chosen, farther, threads);
    if (tells_left_out_stars(longer, farther, reach)) {
      reach = farther;
      stacked = std::move(longer);
    }
  }
  auto result = std::make_shared<EffectivePsf>();
  result->frame_ = catalogue.frame;
  result->reach_px_ = reach;
  result->side_ = grid_side(reach);
  for (StackedChannel& channel : stacked) {
    result->order_ = std::max(result->order_, channel.order);
    result->star_count_ = std::max(result->star_count_, static_cast<int>(channel.samples.size()));
    result->channels_.push_back(std::move(channel.planes));
  }
  return result->order_ < 0 ? nullptr : result;
}

}  // namespace limpid
