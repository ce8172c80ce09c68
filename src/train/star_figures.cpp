#include "train/star_figures.h"

#include <algorithm>
#include <cmath>

#include "measure/moffat.h"

namespace limpid {
namespace {

/// Fits of one star in the three channels of `picture`; nothing when any of them fails.
std::optional<std::array<MoffatFit, 3>> fit(const torch::Tensor& picture, const SimulatedStar& star,
                                            double fwhm_px) {
  const int half = static_cast<int>(std::ceil(3 * fwhm_px)) + 3;
  const int x0 = static_cast<int>(std::lround(star.x)) - half,
            y0 = static_cast<int>(std::lround(star.y)) - half;
  const int side = 2 * half + 1, size = static_cast<int>(picture.size(1));
  if (x0 < 0 || y0 < 0 || x0 + side > size || y0 + side > size) return std::nullopt;
  std::array<MoffatFit, 3> fits;
  for (int c = 0; c < 3; ++c) {
    const ConstView view(picture.data_ptr<float>() + (c * size + y0) * size + x0, 1, {side, side},
                         size, size * size);
    MoffatOptions options;
    options.sky_sigma = 1;
    const auto result = fit_moffat(view,
                                   {.x = star.x - static_cast<float>(x0),
                                    .y = star.y - static_cast<float>(y0),
                                    .fwhm_px = fwhm_px},
                                   options);
    if (!result) return std::nullopt;
    fits[static_cast<std::size_t>(c)] = *result;
    fits[static_cast<std::size_t>(c)].value.x += x0;
    fits[static_cast<std::size_t>(c)].value.y += y0;
  }
  return fits;
}

/// Light gained over `before` within 3.5 FWHM of the input, as a share of the star's: in the
/// difference of the pictures, which share their noise. The flux of a fitted Moffat is an
/// extrapolation, and changes with the width: an untouched star of twice the width asked for has
/// 6 % less in it. The wanted picture itself gains up to 4 % over the input, what it draws in of
/// the wings further out.
double light_error(const StarPictures& p, const torch::Tensor& before, const SimulatedStar& star) {
  const double reach = 3.5 * p.fwhm_before;
  const int size = static_cast<int>(p.after.size(1));
  const auto first = [&](float at) {
    return std::max(0, static_cast<int>(std::ceil(static_cast<double>(at) - reach)));
  };
  const auto last = [&](float at) {
    return std::min(size - 1, static_cast<int>(std::floor(static_cast<double>(at) + reach)));
  };
  double error = 0;
  for (int c = 0; c < 3; ++c) {
    double gained = 0;
    for (int y = first(star.y); y <= last(star.y); ++y) {
      for (int x = first(star.x); x <= last(star.x); ++x) {
        if (std::hypot(x - static_cast<double>(star.x), y - static_cast<double>(star.y)) > reach)
          continue;
        const std::int64_t at = (static_cast<std::int64_t>(c) * size + y) * size + x;
        gained += static_cast<double>(p.after.data_ptr<float>()[at] - before.data_ptr<float>()[at]);
      }
    }
    error += gained / static_cast<double>(star.flux[static_cast<std::size_t>(c)]) / 3;
  }
  return error;
}

/// Lowest point of the azimuthal mean between one and three and a half output FWHM, over the peak.
double ring_depth(const torch::Tensor& picture, const SimulatedStar& star, double fwhm_px) {
  const int size = static_cast<int>(picture.size(1)),
            reach = static_cast<int>(std::ceil(3.5 * fwhm_px));
  std::vector<double> sum(static_cast<std::size_t>(reach) + 2), count(sum.size());
  double peak = 0;
  for (int y = static_cast<int>(star.y) - reach; y <= static_cast<int>(star.y) + reach + 1; ++y) {
    for (int x = static_cast<int>(star.x) - reach; x <= static_cast<int>(star.x) + reach + 1; ++x) {
      if (x < 0 || y < 0 || x >= size || y >= size) continue;
      const double r = std::hypot(x - static_cast<double>(star.x), y - static_cast<double>(star.y));
      double light = 0;
      for (int c = 0; c < 3; ++c)
        light += static_cast<double>(picture.data_ptr<float>()[(c * size + y) * size + x]) / 3;
      peak = std::max(peak, r < 1.5 ? light : 0.0);
      const auto bin = static_cast<std::size_t>(std::lround(r));
      if (bin < sum.size()) sum[bin] += light, count[bin] += 1;
    }
  }
  double lowest = 0;
  for (std::size_t bin = static_cast<std::size_t>(std::ceil(fwhm_px)); bin < sum.size(); ++bin) {
    if (count[bin] > 0) lowest = std::min(lowest, sum[bin] / count[bin]);
  }
  return peak > 0 ? lowest / peak : 0;
}

}  // namespace

std::optional<StarFigures> judge_star(const StarPictures& p, const SimulatedStar& star) {
  const auto after = fit(p.after, star, p.fwhm_wanted);
  const auto before = fit(p.before, star, p.fwhm_before);
  const auto right = fit(p.wanted, star, p.fwhm_wanted);
  if (!after || !before || !right) return std::nullopt;
  const auto width = [](const std::array<MoffatFit, 3>& fits) {
    return (fits[0].value.fwhm_px + fits[1].value.fwhm_px + fits[2].value.fwhm_px) / 3;
  };
  const auto miss = [&](const std::array<MoffatFit, 3>& fits) {
    return std::hypot(
        (fits[0].value.x + fits[1].value.x + fits[2].value.x) / 3 - static_cast<double>(star.x),
        (fits[0].value.y + fits[1].value.y + fits[2].value.y) / 3 - static_cast<double>(star.y));
  };
  StarFigures f;
  for (std::size_t c = 0; c < 3; ++c) {
    f.ellipticity_before += static_cast<double>((*before)[c].psf().ellipticity()) / 3;
    f.ellipticity_after += static_cast<double>((*after)[c].psf().ellipticity()) / 3;
  }
  f.flux_error = light_error(p, p.before, star);
  f.flux_to_wanted = light_error(p, p.wanted, star);
  const double wanted = p.width_from_wanted ? width(*right) : p.fwhm_wanted;
  f.fwhm_error = width(*after) / wanted - 1;
  f.centroid_before = miss(*before);
  f.centroid_after = miss(*after);
  f.colour = std::hypot((*after)[0].value.x - (*after)[2].value.x,
                        (*after)[0].value.y - (*after)[2].value.y);
  // in faint stars the lowest of many means is noise
  f.ring = (*after)[1].value.flux > 1500 ? ring_depth(p.after, star, p.fwhm_wanted) : NAN;
  const auto earlier = p.previous.defined() ? fit(p.previous, star, p.fwhm_wanted) : std::nullopt;
  f.previous_error = earlier ? width(*earlier) / wanted - 1 : NAN;
  return f;
}

ClippedFigures judge_clipped_star(const StarPictures& p, const SimulatedStar& star, double psf_peak,
                                  double full_scale) {
  const auto size = p.after.size(1);
  const double reach = 4 * p.fwhm_before;
  const auto offset = [&](float centre) {
    return torch::arange(size).to(torch::kFloat) - static_cast<double>(centre);
  };
  const auto radius =
      (offset(star.y).unsqueeze(1).square() + offset(star.x).unsqueeze(0).square()).sqrt();
  const auto disc = (radius <= reach).to(torch::kFloat);
  const auto total = [&](const torch::Tensor& x) { return (disc * x).sum().item<double>(); };
  const auto error = (p.after - p.wanted).mean(0);
  ClippedFigures f;
  f.times_full_scale =
      static_cast<double>(*std::ranges::max_element(star.flux)) * psf_peak / full_scale;
  f.gain_db = 10 * std::log10(total((p.before - p.wanted).square().sum(0)) /
                              total((p.after - p.wanted).square().sum(0)));
  f.light_error = total(error) / std::max(1.0, total(p.wanted.mean(0)));
  f.peak_ratio = (disc * p.after).amax().item<double>() / (disc * p.wanted).amax().item<double>();
  for (int r = 1; r < static_cast<int>(reach); ++r) {
    const auto ring = (radius.round() == r).to(torch::kFloat);
    f.ring = std::min(f.ring,
                      (ring * error).sum().item<double>() / ring.sum().item<double>() / full_scale);
  }
  return f;
}

}  // namespace limpid
