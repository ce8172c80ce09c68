#include "measure/star_fits.h"

#include <algorithm>
#include <cmath>

#include <Eigen/Dense>

#include "core/parallel.h"
#include "core/statistics.h"

namespace limpid {
namespace {

/// Fainter stars do not tell the exponent of their wings.
constexpr float least_snr_for_beta = 60;
/// Cosmic rays near a star, in single exposures one in every second cutout, pass for wings.
constexpr double outlier_sigma = 6;
/// Brighter ones show their wings further out, and a sky fitted too near would swallow these.
constexpr float bright_snr = 150;

Rect cutout_of(const FitInput& input, const Candidate& candidate) {
  // Out to 0.3 % of the peak (2.4 FWHM for beta 3): enough sky is in sight there to tell it from
  // the wings, and no more pixels are paid for than tell something.
  const StarTemplate& shape = input.scene.shape;
  float radius = 2 * shape.fwhm_px;
  const float level = candidate.star.snr > bright_snr ? 0.001F : 0.003F;
  while (radius < 4 * shape.fwhm_px && shape.profile(radius) > level) radius += 0.25F;
  const int reach = std::max(5, static_cast<int>(std::ceil(radius)) + 1);
  const Rect box{candidate.peak.x - reach, candidate.peak.y - reach, 2 * reach + 1, 2 * reach + 1};
  return intersect(box, {0, 0, input.scene.frame.width(), input.scene.frame.height()});
}

/// Pixels that hold more of a neighbour than of the star, or none of the picture.
Image mask_of(const FitInput& input, const Candidate& candidate, Rect box, int channel) {
  const StarTemplate& shape = input.scene.shape;
  const Coverage& coverage = input.scene.sky.coverage[static_cast<std::size_t>(channel)];
  Image mask(1, box.size());
  for (int y = 0; y < box.height; ++y) {
    const auto row = mask.view().row(0, y);
    for (int x = 0; x < box.width; ++x) {
      bool masked = !coverage.covers(box.x + x, box.y + y);
      const auto light = [&](const Candidate& star) {
        const auto dx = static_cast<float>(box.x + x) - star.peak.sub_x;
        const auto dy = static_cast<float>(box.y + y) - star.peak.sub_y;
        return star.brightness / shape.profile(star.plateau_px) * shape.profile(std::hypot(dx, dy));
      };
      for (const int index : candidate.neighbours) {
        if (masked) break;
        const float other = light(input.candidates[static_cast<std::size_t>(index)]);
        masked = other > 0.25F * light(candidate) + 0.3F;
      }
      row[static_cast<std::size_t>(x)] = masked ? 1.0F : 0.0F;
    }
  }
  return mask;
}

struct ChannelFit {
  MoffatFit fit;
  Rect box;
};

std::optional<ChannelFit> fit_channel(const FitInput& input, const Candidate& candidate,
                                      const ChannelNoise& noise, int channel) {
  const Rect box = cutout_of(input, candidate);
  const Image mask = mask_of(input, candidate, box, channel);
  MoffatOptions options;
  options.sky_sigma = noise.sigma;
  options.gain = noise.gain;
  options.model_error = noise.model_error;
  options.saturation = input.scene.saturation[static_cast<std::size_t>(channel)];
  options.mask = mask.view();
  options.sloping_sky = true;
  options.reject_sigma = outlier_sigma;
  if (noise.beta > 0 && candidate.star.snr < least_snr_for_beta) options.fixed_beta = noise.beta;
  const double beta = noise.beta > 0 ? noise.beta : input.scene.shape.beta;
  const MoffatStart start{candidate.peak.sub_x - box.x,
                          candidate.peak.sub_y - box.y,
                          input.scene.shape.fwhm_px,
                          beta,
                          0,
                          0};
  auto fit = fit_moffat(input.scene.frame.channel(channel).crop(box), start, options);
  if (!fit) return std::nullopt;
  const double moved = std::hypot(fit->value.x - start.x, fit->value.y - start.y);
  const bool sensible = moved < std::max(1.5, 0.5 * start.fwhm_px) &&
                        fit->value.flux > 3 * fit->error.flux && fit->value.fwhm_px < box.width &&
                        fit->error.fwhm_px < fit->value.fwhm_px;
  if (!sensible) return std::nullopt;
  return ChannelFit{*fit, box};
}

StarFit to_star_fit(const ChannelFit& found, float noise_correlation) {
  const MoffatFit& fit = found.fit;
  const auto error = [noise_correlation](double value) {
    return static_cast<float>(value) * noise_correlation;
  };
  StarFit star;
  star.psf = fit.psf();
  star.x = static_cast<float>(fit.value.x + found.box.x);
  star.y = static_cast<float>(fit.value.y + found.box.y);
  star.flux = static_cast<float>(fit.value.flux);
  star.sky = static_cast<float>(fit.value.sky);
  star.peak =
      star.flux *
      static_cast<float>(
          MoffatProfile(fit.value.fwhm_px, fit.value.e1, fit.value.e2, fit.value.beta).pixel(0, 0));
  star.x_error = error(fit.error.x);
  star.y_error = error(fit.error.y);
  star.flux_error = error(fit.error.flux);
  star.fwhm_error = error(fit.error.fwhm_px);
  star.ellipticity_error = error(std::hypot(fit.error.e1, fit.error.e2) / std::sqrt(2.0));
  star.chi2 = static_cast<float>(fit.chi2);
  star.beta_error = error(fit.error.beta);
  return star;
}

}  // namespace

std::vector<int> choose_stars(const std::vector<Candidate>& candidates, Size frame, int count,
                              float least_snr) {
  constexpr int squares = 8;
  std::vector<std::vector<int>> parts(squares * squares);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Star& star = candidates[i].star;
    if (star.saturated || star.blended || star.on_edge || star.artefact || star.snr < least_snr)
      continue;
    const int column = candidates[i].peak.x * squares / frame.width;
    const int row = candidates[i].peak.y * squares / frame.height;
    parts[static_cast<std::size_t>(row * squares + column)].push_back(static_cast<int>(i));
  }
  std::vector<int> chosen;
  for (std::size_t rank = 0; static_cast<int>(chosen.size()) < count; ++rank) {
    bool any = false;
    for (const auto& part : parts) {
      if (rank >= part.size() || static_cast<int>(chosen.size()) == count) continue;
      chosen.push_back(part[rank]);
      any = true;
    }
    if (!any) break;
  }
  return chosen;
}

namespace {

/// Squared residuals against the star's light, pixel by pixel.
struct Residual {
  double light, square;
};

std::vector<Residual> residuals_of(const FitInput& input, const Candidate& candidate,
                                   const ChannelFit& found, int channel) {
  const MoffatParameters& p = found.fit.value;
  const MoffatProfile profile(p.fwhm_px, p.e1, p.e2, p.beta);
  const Image mask = mask_of(input, candidate, found.box, channel);
  const ConstView cutout = input.scene.frame.channel(channel).crop(found.box);
  std::vector<Residual> residuals;
  std::vector<double> dx, dy;
  for (int y = 0; y < found.box.height; ++y) {
    for (int x = 0; x < found.box.width; ++x) {
      const float value = cutout(0, y, x);
      if (mask.view()(0, y, x) != 0 || !std::isfinite(value)) continue;
      if (value >= input.scene.saturation[static_cast<std::size_t>(channel)]) continue;
      dx.push_back(x - p.x);
      dy.push_back(y - p.y);
      residuals.push_back({0, value - p.sky});
    }
  }
  const auto count = static_cast<Eigen::Index>(dx.size());
  const Eigen::ArrayXd light =
      p.flux * profile.pixels(Eigen::Map<const Eigen::ArrayXd>(dx.data(), count),
                              Eigen::Map<const Eigen::ArrayXd>(dy.data(), count));
  for (std::size_t i = 0; i < residuals.size(); ++i) {
    const double of_star = light[static_cast<Eigen::Index>(i)];
    residuals[i] = {of_star, std::pow(residuals[i].square - of_star, 2)};
  }
  return residuals;
}

/// square = sigma^2 + light / gain + (model_error light)^2, fitted to the mean squares in bins of
/// one octave of light; neither term may be negative.
void fit_noise(std::vector<Residual> residuals, ChannelNoise& noise) {
  const double floor = noise.sigma * noise.sigma;
  constexpr std::size_t bins = 24;
  std::vector<std::vector<float>> lights(bins), squares(bins);
  for (const Residual& residual : residuals) {
    const double octave = std::log2(residual.light / noise.sigma) + 1;
    if (!(octave >= 0)) continue;
    const std::size_t bin = std::min(static_cast<std::size_t>(octave), bins - 1);
    lights[bin].push_back(static_cast<float>(residual.light));
    squares[bin].push_back(static_cast<float>(residual.square));
  }
  Eigen::Matrix2d normal = Eigen::Matrix2d::Zero();
  Eigen::Vector2d right = Eigen::Vector2d::Zero();
  for (std::size_t bin = 0; bin < bins; ++bin) {
    if (squares[bin].size() < 10) continue;
    const double light = median_in_place(lights[bin]);
    // The median of a squared normal deviate is 0.4549 of its mean, and outliers do not move it.
    const double square = median_in_place(squares[bin]) / 0.4549;
    const double weight = static_cast<double>(squares[bin].size()) / (square * square);
    const Eigen::Vector2d term(light, light * light);
    normal += weight * term * term.transpose();
    right += weight * (square - floor) * term;
  }
  if (normal(0, 0) <= 0) return;
  Eigen::Vector2d solution = normal.ldlt().solve(right);
  if (solution[0] < 0 || !solution.allFinite()) solution = {0, right[1] / normal(1, 1)};
  if (solution[1] < 0) solution = {right[0] / normal(0, 0), 0};
  noise.gain = solution[0] > 0 ? 1 / solution[0] : 0;
  noise.model_error = std::sqrt(std::max(solution[1], 0.0));
}

/// Median, drawn towards what seeing and optics usually give and the detection found, as far as the
/// stars leave it open. NaN: no fit; an error of 0: beta hit its bound, which tells nothing.
double typical_beta(const std::vector<float>& betas, const std::vector<float>& errors,
                    double found) {
  const double usual = std::sqrt(3.5 * found);
  constexpr double usual_spread = 0.35, own_spread = 0.15, median_efficiency = 0.64;
  std::vector<float> known;
  double weight = 0;
  for (std::size_t i = 0; i < betas.size(); ++i) {
    if (!(errors[i] > 0)) continue;
    known.push_back(std::log(betas[i]));
    weight += median_efficiency / (std::pow(errors[i] / betas[i], 2) + own_spread * own_spread);
  }
  const double prior = 1 / (usual_spread * usual_spread);
  const double sum = known.empty() ? 0.0 : weight * median(known);
  return std::exp((sum + prior * std::log(usual)) / (weight + prior));
}

}  // namespace

std::vector<ChannelNoise> learn_noise(const FitInput& input, const std::vector<int>& chosen,
                                      int threads) {
  std::vector<ChannelNoise> noise;
  for (int channel = 0; channel < input.scene.frame.channels(); ++channel) {
    ChannelNoise learnt;
    learnt.sigma = input.scene.sky.level[static_cast<std::size_t>(channel)].sigma;
    std::vector<std::vector<Residual>> by_star(chosen.size());
    std::vector<float> betas(chosen.size(), std::numeric_limits<float>::quiet_NaN());
    std::vector<float> misfits = betas, beta_errors = betas;
    parallel_for(static_cast<int>(chosen.size()), threads, [&](int i) {
      const auto slot = static_cast<std::size_t>(i);
      const Candidate& candidate = input.candidates[static_cast<std::size_t>(chosen[slot])];
      const auto found = fit_channel(input, candidate, learnt, channel);
      if (!found) return;
      by_star[slot] = residuals_of(input, candidate, *found, channel);
      betas[slot] = static_cast<float>(found->fit.value.beta);
      beta_errors[slot] = static_cast<float>(found->fit.error.beta);
      misfits[slot] = static_cast<float>(found->fit.misfit);
    });
    // What is unlike a Moffat beyond what most stars are would pass for noise.
    const float typical = median(misfits);
    std::vector<Residual> residuals;
    for (std::size_t i = 0; i < by_star.size(); ++i) {
      if (!(misfits[i] <= 3 * typical + 0.05F)) {
        betas[i] = std::numeric_limits<float>::quiet_NaN();
      } else {
        residuals.insert(residuals.end(), by_star[i].begin(), by_star[i].end());
      }
    }
    if (learnt.sigma > 0) fit_noise(std::move(residuals), learnt);
    learnt.beta = typical_beta(betas, beta_errors, input.scene.shape.beta);
    noise.push_back(learnt);
  }
  return noise;
}

std::vector<StarFit> fit_star(const FitInput& input, const std::vector<ChannelNoise>& noise,
                              int index) {
  const Candidate& candidate = input.candidates[static_cast<std::size_t>(index)];
  std::vector<StarFit> fits(noise.size());
  double x = 0, y = 0, count = 0;
  for (std::size_t c = 0; c < noise.size(); ++c) {
    const auto found = fit_channel(input, candidate, noise[c], static_cast<int>(c));
    if (!found) continue;
    fits[c] = to_star_fit(*found, input.noise_correlation);
    x += fits[c].x;
    y += fits[c].y;
    count += 1;
  }
  if (count == 0) return {};
  for (StarFit& fit : fits) {
    if (fit.psf.fwhm_px == 0) continue;
    fit.psf.dx = static_cast<float>(fit.x - x / count);
    fit.psf.dy = static_cast<float>(fit.y - y / count);
  }
  return fits;
}

}  // namespace limpid
