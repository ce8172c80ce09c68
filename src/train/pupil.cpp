#include "train/pupil.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "measure/moffat.h"

namespace limpid {
namespace {

constexpr double pi = std::numbers::pi;

/// Frequency of FFT bin `k` of psf_grid, in cycles per pixel.
double frequency(int k) {
  const int signed_k = k < psf_grid / 2 ? k : k - psf_grid;
  return static_cast<double>(signed_k) / psf_side_px;
}

double wavefront(const Optics& o, double r, double theta) {
  const double r2 = r * r;
  double waves = o.defocus * std::sqrt(3.0) * (2 * r2 - 1);
  waves += o.spherical * std::sqrt(5.0) * (6 * r2 * r2 - 6 * r2 + 1);
  waves += o.astigmatism * std::sqrt(6.0) * r2 * std::cos(2 * (theta - o.astigmatism_angle_rad));
  waves += o.coma * std::sqrt(8.0) * (3 * r2 * r - 2 * r) * std::cos(theta - o.coma_angle_rad);
  waves += o.second_coma * std::sqrt(12.0) * (10 * r2 * r2 * r - 12 * r2 * r + 3 * r) *
           std::cos(theta - o.second_coma_angle_rad);
  waves += o.trefoil * std::sqrt(8.0) * r2 * r * std::cos(3 * (theta - o.trefoil_angle_rad));
  return waves;
}

/// 1 inside `edge`, 0 outside, one sample wide in between: keeps the pupil's rim from aliasing.
double soft_step(double distance, double step) {
  return std::clamp(0.5 - distance / step, 0.0, 1.0);
}

/// Amplitude and phase over the pupil, its centre at bin (0, 0).
torch::Tensor pupil_function(const Optics& o) {
  const double radius = 0.5 / o.diffraction_px;  // cycles per pixel
  const double step = 1.0 / psf_side_px / radius;
  auto field = torch::zeros({psf_grid, psf_grid}, torch::kComplexFloat);
  auto* data = field.data_ptr<c10::complex<float>>();
  for (int ky = 0; ky < psf_grid; ++ky) {
    for (int kx = 0; kx < psf_grid; ++kx) {
      const double x = frequency(kx) / radius, y = frequency(ky) / radius;
      const double r = std::hypot(x, y);
      if (r > 1 + step) continue;
      double amplitude = soft_step(r - 1, step);
      if (o.obstruction > 0) amplitude *= 1 - soft_step(r - o.obstruction, step);
      for (int vane = 0; vane < o.vanes; ++vane) {
        const double angle = o.vane_angle_rad + 2 * pi * vane / o.vanes;
        const double along = x * std::cos(angle) + y * std::sin(angle);
        const double across = std::abs(-x * std::sin(angle) + y * std::cos(angle));
        if (along > 0)
          amplitude *=
              1 - std::min(1.0, o.vane_width / step) * soft_step(across - o.vane_width / 2, step);
      }
      const double phase = 2 * pi * wavefront(o, r, std::atan2(y, x));
      data[ky * psf_grid + kx] =
          c10::complex<float>(static_cast<float>(amplitude * std::cos(phase)),
                              static_cast<float>(amplitude * std::sin(phase)));
    }
  }
  return field;
}

double sinc(double x) { return std::abs(x) < 1e-9 ? 1.0 : std::sin(pi * x) / (pi * x); }

}  // namespace

torch::Tensor render_psf(const Optics& o) {
  const auto amplitude = torch::fft::fft2(pupil_function(o));
  auto transfer = torch::fft::rfft2(amplitude.abs().square());
  transfer = transfer / torch::real(transfer[0][0]).clone();
  // Kolmogorov: FWHM = 0.976 lambda / r0, MTF = exp(-3.44 (lambda f / r0)^(5/3)).
  const double seeing = o.seeing_fwhm_px / 0.976;
  auto* data = transfer.data_ptr<c10::complex<float>>();
  const int columns = psf_grid / 2 + 1;
  const double cos_m = std::cos(o.motion_angle_rad), sin_m = std::sin(o.motion_angle_rad);
  for (int ky = 0; ky < psf_grid; ++ky) {
    for (int kx = 0; kx < columns; ++kx) {
      const double fx = frequency(kx) < 0 ? -frequency(kx) : frequency(kx), fy = frequency(ky);
      const double f = std::hypot(fx, fy), along = fx * cos_m + fy * sin_m;
      double mtf = std::exp(-3.44 * std::pow(f * seeing, 5.0 / 3.0));
      mtf *= std::exp(-2 * pi * pi * o.jitter_px * o.jitter_px * along * along);
      mtf *= sinc(along * o.drift_px) * sinc(fx) * sinc(fy);  // drift, then the square pixel
      // the centre goes to sample (grid/2, grid/2): a shift by half the grid is (-1)^(kx+ky)
      const double angle = -2 * pi * (fx * o.shift_x_px + fy * o.shift_y_px) + pi * (kx + ky);
      data[ky * columns + kx] *= c10::complex<float>(static_cast<float>(mtf * std::cos(angle)),
                                                     static_cast<float>(mtf * std::sin(angle)));
    }
  }
  auto psf = torch::fft::irfft2(transfer, at::IntArrayRef({psf_grid, psf_grid})) *
             static_cast<double>(psf_oversampling * psf_oversampling);
  // The frame's edge must not show: fade over the last eighth of the radius.
  const auto axis = (torch::arange(psf_grid) - psf_grid / 2).to(torch::kFloat) / (psf_grid / 2.0);
  const auto r = (axis.unsqueeze(0).square() + axis.unsqueeze(1).square()).sqrt();
  const auto fade = (0.5 + 0.5 * torch::cos(pi * ((r - 0.86) / 0.12).clamp(0, 1)));
  psf = (psf * fade).clamp_min(0);
  return psf / (psf.sum() / (psf_oversampling * psf_oversampling));
}

torch::Tensor central_phase(const torch::Tensor& oversampled) {
  using torch::indexing::Slice;
  return oversampled
      .index({Slice(0, torch::indexing::None, psf_oversampling),
              Slice(0, torch::indexing::None, psf_oversampling)})
      .contiguous();
}

std::optional<Psf> describe_psf(const torch::Tensor& oversampled) {
  const auto kernel = central_phase(oversampled);
  const ConstView view(kernel.data_ptr<float>(), 1, {psf_side_px, psf_side_px}, psf_side_px,
                       psf_side_px * psf_side_px);
  // A star of measurable brightness shows its core and inner wings, not 32 px of them.
  constexpr int half = 20;
  const auto core =
      view.crop({psf_side_px / 2 - half, psf_side_px / 2 - half, 2 * half + 1, 2 * half + 1});
  MoffatOptions options;
  options.fixed_sky = 0;
  const auto fit = fit_moffat(core, {.x = half, .y = half}, options);
  if (!fit) return std::nullopt;
  Psf psf = fit->psf();
  psf.dx = static_cast<float>(fit->value.x - half);
  psf.dy = static_cast<float>(fit->value.y - half);
  return psf;
}

torch::Tensor oversampled_moffat(const Psf& psf) {
  // Each of the 16 phases is a pixel-integrated kernel shifted by quarters of a pixel.
  auto result = torch::empty({psf_grid, psf_grid});
  float* out = result.data_ptr<float>();
  const MoffatProfile profile(psf.fwhm_px, psf.e1, psf.e2, psf.beta);
  const double fade_start = 0.86 * psf_side_px / 2, fade_width = 0.12 * psf_side_px / 2;
  const bool round = psf.e1 == 0 && psf.e2 == 0;
  double sum = 0;
  for (int y = 0; y < psf_grid; ++y) {
    for (int x = 0; x < psf_grid; ++x) {
      const int ix = x - psf_grid / 2, iy = y - psf_grid / 2;
      float& value = out[y * psf_grid + x];
      // a round profile is computed for one octant and mirrored
      if (round && (ix > 0 || iy > 0 || ix < iy)) continue;
      const double dx = static_cast<double>(ix) / psf_oversampling;
      const double dy = static_cast<double>(iy) / psf_oversampling;
      const double r = std::hypot(dx, dy);
      const double fade =
          0.5 + 0.5 * std::cos(pi * std::clamp((r - fade_start) / fade_width, 0.0, 1.0));
      value = fade > 0 ? static_cast<float>(fade * profile.pixel(dx, dy)) : 0.0F;
    }
  }
  for (int y = 0; y < psf_grid; ++y) {
    for (int x = 0; x < psf_grid; ++x) {
      if (round) {
        int ix = -std::abs(x - psf_grid / 2), iy = -std::abs(y - psf_grid / 2);
        if (ix < iy) std::swap(ix, iy);
        if (x != ix + psf_grid / 2 || y != iy + psf_grid / 2) {
          out[y * psf_grid + x] = out[(iy + psf_grid / 2) * psf_grid + ix + psf_grid / 2];
        }
      }
      sum += static_cast<double>(out[y * psf_grid + x]);
    }
  }
  return result / (sum / (psf_oversampling * psf_oversampling));
}

std::array<Optics, 3> draw_optics(Random& random, Aberration aberration, double fwhm_px) {
  Optics base;
  const bool faulty = aberration != Aberration::none;
  base.diffraction_px = std::clamp(fwhm_px * random.uniform(0.12, 0.35), 0.3, 2.0);
  base.seeing_fwhm_px = fwhm_px * (faulty ? random.uniform(0.45, 0.9) : random.uniform(0.8, 0.95));
  if (random.chance(0.4)) base.obstruction = random.uniform(0.2, 0.45);
  // Wavefront that spreads the light over `share` of the wanted width: the slope of a Zernike term
  // of one wave rms moves light by about six times lambda / D.
  const auto waves = [&](double low, double high) {
    return fwhm_px * random.uniform(low, high) / (6.0 * base.diffraction_px);
  };
  const auto angle = [&] { return random.uniform(0, 2 * pi); };
  const auto has = [&](Aberration kind, double share_in_mixture) {
    return aberration == kind ||
           (aberration == Aberration::mixed && random.chance(share_in_mixture));
  };
  if (has(Aberration::guiding, 0.4)) {
    base.motion_angle_rad = angle();
    (random.chance(0.5) ? base.jitter_px : base.drift_px) = fwhm_px * random.uniform(0.15, 0.42);
    if (base.drift_px > 0) base.drift_px *= 2.4;
  }
  if (has(Aberration::defocus, 0.4)) base.defocus = waves(0.15, 0.55);
  if (has(Aberration::coma, 0.4)) {
    base.coma = waves(0.15, 0.6);
    base.coma_angle_rad = angle();
  }
  if (has(Aberration::second_coma, 0.15)) {
    base.second_coma = waves(0.1, 0.4);
    base.second_coma_angle_rad = angle();
  }
  if (has(Aberration::astigmatism, 0.4)) {
    base.astigmatism = waves(0.15, 0.5);
    base.astigmatism_angle_rad = angle();
    base.defocus += waves(0.0, 0.3) * (random.chance(0.5) ? 1 : -1);
  }
  if (has(Aberration::trefoil, 0.2)) {
    base.trefoil = waves(0.1, 0.45);
    base.trefoil_angle_rad = angle();
  }
  if (has(Aberration::spherical, 0.2)) base.spherical = waves(0.08, 0.35);
  if (has(Aberration::spider, 0.2)) {
    base.obstruction = random.uniform(0.2, 0.45);
    base.vanes = random.chance(0.7) ? 4 : 3;
    base.vane_width = random.uniform(0.01, 0.05);
    base.vane_angle_rad = angle();
    base.seeing_fwhm_px *= 0.8;
  }
  std::array<Optics, 3> channels{base, base, base};
  const bool channel_seeing = has(Aberration::channel_seeing, 0.4);
  const bool lateral = has(Aberration::lateral_colour, 0.4);
  const bool longitudinal = has(Aberration::longitudinal_colour, 0.3);
  const double shift = fwhm_px * random.uniform(0.05, 0.3), direction = angle();
  const double blue_focus = waves(0.1, 0.5);
  for (int c = 0; c < 3; ++c) {
    Optics& o = channels[static_cast<std::size_t>(c)];
    if (channel_seeing) o.seeing_fwhm_px *= random.uniform(0.75, 1.3);
    if (lateral) {
      o.shift_x_px = (c - 1) * shift * std::cos(direction);
      o.shift_y_px = (c - 1) * shift * std::sin(direction);
    }
    if (longitudinal) o.defocus += blue_focus * (c == 2 ? 1.0 : c == 0 ? 0.4 : 0.0);
  }
  return channels;
}

std::array<Optics, 3> draw_neighbour(Random& random, std::array<Optics, 3> channels) {
  const double coma = random.uniform(0.8, 1.2), astigmatism = random.uniform(0.8, 1.2);
  const double seeing = random.uniform(0.96, 1.04), turn = random.uniform(-0.15, 0.15);
  const double defocus = random.uniform(0.8, 1.2), lateral = random.uniform(0.8, 1.2);
  for (Optics& o : channels) {
    o.coma *= coma;
    o.second_coma *= coma;
    o.astigmatism *= astigmatism;
    o.trefoil *= astigmatism;
    o.defocus *= defocus;
    o.seeing_fwhm_px *= seeing;
    o.coma_angle_rad += turn;
    o.astigmatism_angle_rad += turn;
    o.shift_x_px *= lateral;
    o.shift_y_px *= lateral;
  }
  return channels;
}

}  // namespace limpid
