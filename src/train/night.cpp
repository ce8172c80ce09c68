// A whole night's frame: nebula, dust, a cluster, a sky full of stars, and a telescope that is
// sharp on its axis only.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include <limpid/error.h>

#include "core/parallel.h"
#include "core/statistics.h"
#include "train/scene.h"
#include "train/torch_training.h"

namespace limpid {
namespace {

constexpr int node_columns = 6, node_rows = 4;
/// Camera: level of the empty sky and its noise in units of full scale; shot noise grows with
/// light.
constexpr double sky_level = 0.02, sky_noise = 0.0012, shot = 0.02;

/// Coma grows with the distance from the axis, astigmatism and field curvature with its square.
std::array<Optics, 3> optics_at(double u, double v, double fwhm_px) {
  const double r = std::hypot(u, v), angle = std::atan2(v, u);
  Optics base;
  base.diffraction_px = 0.25 * fwhm_px;
  base.seeing_fwhm_px = 0.86 * fwhm_px;
  base.obstruction = 0.33;
  const double wave = fwhm_px / (6 * base.diffraction_px);
  base.coma = 0.26 * r * wave;
  base.coma_angle_rad = angle;
  base.astigmatism = 0.1 * r * r * wave;
  base.astigmatism_angle_rad = angle;
  base.defocus = (0.1 * r * r + 0.04 * u) * wave;  // curvature, and a slightly tilted sensor
  base.jitter_px = 0.1 * fwhm_px;
  std::array<Optics, 3> channels{base, base, base};
  for (std::size_t c = 0; c < 3; ++c) {
    const double side = static_cast<double>(c) - 1;
    channels[c].seeing_fwhm_px *= 1 + 0.05 * side;
    channels[c].shift_x_px = 0.35 * side * u;
    channels[c].shift_y_px = 0.35 * side * v;
  }
  return channels;
}

/// Linear light (3, height, width) with its 99th percentile near one: a red emission nebula with a
/// bluish core, dust across both.
torch::Tensor paint_sky(Random& random, int height, int width) {
  const auto ys = ((torch::arange(height).to(torch::kFloat) + 0.5) / height - 0.5).unsqueeze(1);
  const auto xs =
      ((torch::arange(width).to(torch::kFloat) + 0.5) / height - 0.5 * width / height).unsqueeze(0);
  const auto hump = [&](double x, double y, double sx, double sy) {
    return torch::exp(-((xs - x).square() / (2 * sx * sx) + (ys - y).square() / (2 * sy * sy)));
  };
  // Turbulence on scales up to the frame's height; ridges, where two fields cross, make filaments.
  const auto fy = torch::fft::fftfreq(height, torch::kFloat).unsqueeze(1),
             fx = torch::fft::rfftfreq(width, torch::kFloat).unsqueeze(0);
  const auto k = (fy.square() + fx.square()).sqrt();
  const auto turbulence = [&](double slope) {
    auto white = torch::empty({height, width});
    float* data = white.data_ptr<float>();
    for (std::int64_t i = 0; i < white.numel(); ++i) data[i] = static_cast<float>(random.normal());
    const auto field = torch::fft::irfft2(
        torch::fft::rfft2(white) * (k.square() + 1.0 / (0.25 * height * height)).pow(slope / 2),
        at::IntArrayRef({height, width}));
    return (field - field.mean()) / field.std();
  };
  const auto gas = turbulence(-1.75), ridges = torch::exp(-2.5 * turbulence(-1.7).abs());
  const auto red = torch::exp(0.55 * gas) * (0.45 + 0.9 * ridges);
  const auto blue =
      torch::exp(0.5 * turbulence(-1.8)) * (0.5 + 0.6 * torch::exp(-3 * turbulence(-1.6).abs()));
  const auto dust =
      torch::exp(-0.9 * torch::exp(0.9 * turbulence(-1.7)) * (hump(0.18, 0.1, 0.5, 0.16) + 0.25));
  const auto cloud = hump(-0.12, 0.02, 0.38, 0.26) + 0.45 * hump(0.38, -0.2, 0.22, 0.18) + 0.02;
  const auto core = hump(-0.16, 0.0, 0.14, 0.11);
  auto light =
      torch::stack({red * cloud + blue * core * 0.5, red * cloud * 0.27 + blue * core * 0.75,
                    red * cloud * 0.36 + blue * core * 1.1}) *
      dust;
  // a galaxy far behind, edge on
  const auto u = (xs - 0.52) * 0.8 + (ys - 0.3) * 0.6, v = -(xs - 0.52) * 0.6 + (ys - 0.3) * 0.8;
  const auto disc = torch::exp(-((u / 0.035).square() + (v / 0.008).square() + 1e-4).sqrt());
  for (int c = 0; c < 3; ++c) light[c] += disc * (0.45 - 0.08 * c);
  // LibTorch's own quantile ends at 16 million values
  const std::span<const float> values(light.data_ptr<float>(),
                                      static_cast<std::size_t>(light.numel()));
  return light / std::max(quantile(values, 0.995), 1e-9F);
}

std::vector<SceneStar> scatter_stars(Random& random, int height, int width, int count,
                                     double psf_peak) {
  std::vector<SceneStar> stars;
  for (int i = 0; i < count; ++i) {
    double x = random.uniform(0, width - 1), y = random.uniform(0, height - 1);
    if (i % 9 == 0) {  // an open cluster
      x = 0.78 * width + 0.035 * height * random.normal();
      y = 0.3 * height + 0.035 * height * random.normal();
      if (x < 0 || y < 0 || x > width - 1 || y > height - 1) continue;
    }
    const double peak =
        std::min(2e4, 4 * std::pow(1 - random.uniform(), -1 / 0.8));  // in sky noise
    const double colour = 0.3 * random.normal() + 0.05;
    SceneStar star{static_cast<int>(std::lround(4 * x)), static_cast<int>(std::lround(4 * y)), {}};
    for (int c = 0; c < 3; ++c)
      star.flux[static_cast<std::size_t>(c)] =
          static_cast<float>(peak / psf_peak * std::exp(colour * (1 - c)));
    stars.push_back(star);
  }
  return stars;
}

}  // namespace

SimulatedNight by_libtorch::simulate_night(const NightOptions& options, const Progress& progress) {
  const torch::NoGradGuard no_grad;
  if (options.size.width < 256 || options.size.height < 256 ||
      options.size.pixels() > 100'000'000) {
    throw Error(ErrorKind::usage,
                "a simulated frame has sides of at least 256 px and at most 100 megapixels");
  }
  const int threads = thread_count(options.threads);
  at::set_num_threads(threads);
  const int width = options.size.width, height = options.size.height;
  const int full_width = width + 2 * scene_margin_px, full_height = height + 2 * scene_margin_px;
  Random random(options.seed);
  progress(0, "painting the sky");
  const auto light = paint_sky(random, full_height, full_width) *
                     (220.0 * options.nebula);  // in units of the sky noise

  std::vector<torch::Tensor> psfs(node_columns * node_rows);
  parallel_for(node_columns * node_rows, threads, [&](int i) {
    const torch::NoGradGuard none;
    omp_set_num_threads(1);
    const double u = 2.0 * (i % node_columns) / (node_columns - 1) - 1,
                 v = 2.0 * (i / node_columns) / (node_rows - 1) - 1;
    std::vector<torch::Tensor> channels;
    for (const Optics& optics : optics_at(u, v * height / width, options.fwhm_px))
      channels.push_back(render_psf(optics));
    psfs[static_cast<std::size_t>(i)] = torch::stack(channels);
  });
  const double peak = psfs[node_columns + 2].amax().item<double>();
  const auto stars = scatter_stars(random, full_height, full_width, options.stars, peak);

  // Bilinear between the nodes: each node blurs the whole sky, weighted by its tent.
  const auto tent = [](int extent, int nodes, int node) {
    const auto at =
        torch::arange(extent).to(torch::kFloat) * (static_cast<double>(nodes - 1) / (extent - 1));
    return (1 - (at - node).abs()).clamp_min(0);
  };
  const std::array<std::int64_t, 2> size{full_height, full_width};
  const auto spectrum = torch::fft::rfft2(light);
  auto recorded = torch::zeros({3, full_height, full_width});
  for (int node = 0; node < node_columns * node_rows; ++node) {
    progress.throw_if_stopped();
    progress(0.1 + 0.7 * node / (node_columns * node_rows), "blurring");
    const int column = node % node_columns, row = node / node_columns;
    const auto weight = tent(full_height, node_rows, row).unsqueeze(1) *
                        tent(full_width, node_columns, column).unsqueeze(0);
    const auto& psf = psfs[static_cast<std::size_t>(node)];
    for (int c = 0; c < 3; ++c)
      recorded[c] +=
          weight *
          torch::fft::irfft2(
              spectrum[c] * kernel_spectrum(central_phase(psf[c]), full_height, full_width), size);
    std::vector<SceneStar> share;
    const float* w = weight.data_ptr<float>();
    for (SceneStar star : stars) {
      const float part = w[std::clamp(star.qy / 4, 0, full_height - 1) * full_width +
                           std::clamp(star.qx / 4, 0, full_width - 1)];
      if (part <= 0) continue;
      for (float& flux : star.flux) flux *= part;
      share.push_back(star);
    }
    add_stars(recorded, share, psf, {}, nullptr, 0.01F);
  }

  progress(0.85, "recording");
  Psf sharp_nonstellar, sharp_stellar;
  sharp_nonstellar.fwhm_px = smallest_fwhm_px;
  sharp_stellar.fwhm_px = static_cast<float>(0.75 * options.fwhm_px);
  sharp_nonstellar.beta = sharp_stellar.beta = 4;
  auto truth = torch::empty_like(recorded);
  const auto sharp_spectrum =
      kernel_spectrum(central_phase(oversampled_moffat(sharp_nonstellar)), full_height, full_width);
  for (int c = 0; c < 3; ++c) truth[c] = torch::fft::irfft2(spectrum[c] * sharp_spectrum, size);
  add_stars(truth, stars, oversampled_moffat(sharp_stellar).unsqueeze(0), {}, nullptr, 0.01F);
  float* r = recorded.data_ptr<float>();
  for (std::int64_t i = 0; i < recorded.numel(); ++i) {
    const double level = std::max(0.0F, r[i]);
    const double noisy =
        static_cast<double>(r[i]) + options.noise * std::sqrt(1 + shot * level) * random.normal();
    r[i] = static_cast<float>(std::min(1.0, sky_level + sky_noise * noisy));
  }
  SimulatedNight night;
  const auto frame_part = [&](const torch::Tensor& x) {
    return to_image(x.narrow(1, scene_margin_px, height).narrow(2, scene_margin_px, width));
  };
  night.recorded = frame_part(recorded);
  night.truth = frame_part((sky_level + sky_noise * truth).clamp_max(1));
  for (const SceneStar& star : stars) {
    const SimulatedStar known{
        static_cast<float>(star.qx) / 4 - scene_margin_px,
        static_cast<float>(star.qy) / 4 - scene_margin_px, star.flux,
        *std::ranges::max_element(star.flux) * peak * sky_noise > 0.95 - sky_level};
    if (known.x >= 0 && known.y >= 0 && known.x <= static_cast<float>(width - 1) &&
        known.y <= static_cast<float>(height - 1))
      night.stars.push_back(known);
  }
  progress(1, "done");
  return night;
}

}  // namespace limpid
