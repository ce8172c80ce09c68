#include "train/recording.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "train/procedural.h"

namespace limpid {
namespace {

/// Share of the scenes that are drizzled, clipped and so on, in the order of the enumeration; the
/// others are plain. With 0.067 of each, networks gave up coma for clipped stars and clusters.
constexpr std::array<double, recording_count - 1> special_shares{0.06, 0.05, 0.04,
                                                                 0.05, 0.09, 0.07};

torch::Tensor blurred(const torch::Tensor& noise, double share) {
  const double a = share * (1 - share);
  auto rows = (1 - 2 * a) * noise + a * (noise.roll(1, 1) + noise.roll(-1, 1));
  return (1 - 2 * a) * rows + a * (rows.roll(1, 2) + rows.roll(-1, 2));
}

}  // namespace

Recording draw_recording(std::uint64_t seed, std::uint64_t index) {
  Random random(seed ^ 0x4ec04dULL, index + 1);
  double left = random.uniform();
  for (std::size_t kind = 0; kind < special_shares.size(); ++kind) {
    left -= special_shares[kind];
    if (left < 0) return static_cast<Recording>(kind + 1);
  }
  return Recording::plain;
}

std::optional<BankPsf> drizzled(const BankPsf& psf, double drop) {
  // The rendered PSF holds one fine pixel. A recorded one is two wide: cos(pi f) more. The drop
  // adds its own square, sinc(2 drop f).
  const auto f =
      torch::fft::fftfreq(psf_grid, torch::kFloat) * static_cast<double>(psf_oversampling);
  const auto transfer = torch::cos(std::numbers::pi * f) * torch::sinc(2 * drop * f);
  const auto both =
      transfer.unsqueeze(1) * transfer.narrow(0, 0, psf_grid / 2 + 1).abs().unsqueeze(0);
  const auto blur = [&](const torch::Tensor& x) {
    const auto wide =
        torch::fft::irfft2(torch::fft::rfft2(x) * both, at::IntArrayRef({psf_grid, psf_grid}))
            .clamp_min(0);
    return wide / (wide.sum({1, 2}, true) / (psf_oversampling * psf_oversampling));
  };
  BankPsf result = psf;
  const auto describe = [](const torch::Tensor& stack, std::array<Psf, 3>& described) {
    for (std::size_t c = 0; c < 3; ++c) {
      const auto fit = describe_psf(stack[static_cast<std::int64_t>(c)]);
      if (!fit || fit->fwhm_px > 9) return false;
      described[c] = *fit;
    }
    return true;
  };
  result.here = blur(psf.here);
  if (!describe(result.here, result.described)) return std::nullopt;
  if (psf.there.defined()) {
    result.there = blur(psf.there);
    if (!describe(result.there, result.described_there)) return std::nullopt;
  }
  return result;
}

torch::Tensor draw_noise(Random& random, int channels, int height, int width, bool correlated) {
  auto noise = torch::empty({channels, height, width});
  float* data = noise.data_ptr<float>();
  for (std::int64_t i = 0; i < noise.numel(); ++i) data[i] = static_cast<float>(random.normal());
  if (!correlated) return noise;
  // Bilinear interpolation at one sub-pixel shift or a mixture of many frames' shifts; drizzle by 2
  // spreads a recorded pixel over two fine ones, and once more by the drop's own size.
  const auto spread = [&](double share) {
    const double a = share * (1 - share);
    return std::array<double, 3>{a, 1 - 2 * a, a};
  };
  const auto blur = [&](const std::array<double, 3>& kx, const std::array<double, 3>& ky) {
    torch::Tensor blurred = torch::zeros_like(noise);
    for (int j = 0; j < 3; ++j) {
      for (int i = 0; i < 3; ++i) {
        blurred += kx[static_cast<std::size_t>(i)] * ky[static_cast<std::size_t>(j)] *
                   noise.roll({j - 1, i - 1}, {1, 2});
      }
    }
    noise = blurred;
  };
  const bool drizzled = random.chance(0.25);
  const auto kx = spread(random.uniform(0, 0.5)), ky = spread(random.uniform(0, 0.5));
  blur(kx, ky);
  if (drizzled) {
    blur(spread(0.5), spread(0.5));
    const auto drop = spread(random.uniform(0, 0.5));
    blur(drop, drop);
  }
  return noise / noise.square().mean().sqrt().clamp_min(1e-6);
}

torch::Tensor drizzled_noise(Random& random, int channels, int height, int width, double drop) {
  auto noise = torch::empty({channels, height, width});
  float* data = noise.data_ptr<float>();
  for (std::int64_t i = 0; i < noise.numel(); ++i) data[i] = static_cast<float>(random.normal());
  // A drop as wide as a fine pixel leaves a correlation of 0.25 between neighbours, one as wide as
  // a recorded pixel 0.7: the overlaps of squares. [a, 1 - 2a, a] has these for shares .13 and .5.
  noise = blurred(noise, 0.13 + 0.74 * (drop - 0.5));
  return noise / noise.square().mean().sqrt().clamp_min(1e-6);
}

torch::Tensor draw_galaxy(Random& random, int side) {
  const double scale = side * random.log_uniform(0.04, 0.14);  // of the disc
  const double angle = random.uniform(0, std::numbers::pi), q = random.uniform(0.25, 1),
               cx = side * random.uniform(0.4, 0.6), cy = side * random.uniform(0.4, 0.6);
  const auto ys = (torch::arange(side).to(torch::kFloat) - cy).unsqueeze(1),
             xs = (torch::arange(side).to(torch::kFloat) - cx).unsqueeze(0);
  const auto u = xs * std::cos(angle) + ys * std::sin(angle),
             v = (-xs * std::sin(angle) + ys * std::cos(angle)) / q;
  const auto r = (u.square() + v.square() + 0.25).sqrt(), theta = torch::atan2(v, u);
  const double pitch = random.uniform(2, 5), arms = 2 + random.index(2),
               contrast = random.uniform(0.2, 0.8);
  const auto texture = draw_procedural(random, side, side),
             dust = draw_procedural(random, side, side);
  // logarithmic spirals; knots and dust follow turbulence
  const auto arm = 1 + contrast * torch::cos(arms * theta - pitch * arms * torch::log(r / scale));
  const auto disc = torch::exp(-r / scale) * arm;
  const double bulge_scale = scale * random.uniform(0.1, 0.35), bulge = random.uniform(0.3, 3);
  const auto core = bulge * torch::exp(-(r / bulge_scale).sqrt() * 2);
  auto light = torch::empty({3, side, side});
  const double knots = random.uniform(0, 1.5), depth = random.uniform(0, 2);
  for (int c = 0; c < 3; ++c) {
    light[c] = (disc * (1 + knots * texture[c]) * std::exp(0.15 * (c - 1)) +
                core * std::exp(-0.25 * (c - 1))) *
               torch::exp(-depth * (0.7 + 0.3 * c) * dust[0] * torch::exp(-r / (2 * scale)));
  }
  return light / light.amax().clamp_min(1e-9);
}

torch::Tensor Stretch::apply(const torch::Tensor& light) const {
  const double m = midtones, range = full_scale + black, sky = black / range;
  const auto curve = [m](auto v) { return (m - 1) * v / ((2 * m - 1) * v - m); };
  const double slope = m * (1 - m) / std::pow((2 * m - 1) * sky - m, 2);
  // far below black the curve has a pole, which nothing of a frame may reach
  const auto v = ((light + black) / range).clamp_min(m < 0.5 ? -0.5 * m / (1 - 2 * m) : -1.0);
  return (curve(v) - curve(sky)) * (range / slope);
}

double Stretch::widening(const torch::Tensor& oversampled, double peak) const {
  const auto star = oversampled * (peak / oversampled.amax().item<double>());
  const auto before = describe_psf(star), after = describe_psf(apply(star));
  if (!before || !after) return 1;
  return std::clamp(static_cast<double>(after->fwhm_px / before->fwhm_px), 1.0, 1.5);
}

Stretch draw_stretch(Random& random, double full_scale) {
  // 1.5 to 6 times steeper at black than a straight line: what is left of detail by eye
  return {1 / (1 + random.log_uniform(1.5, 6)), random.log_uniform(10, 60), full_scale};
}

}  // namespace limpid
