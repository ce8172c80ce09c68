#include "train/simulator.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include <limpid/error.h>

#include "core/parallel.h"
#include "train/recording.h"
#include "train/scene.h"

namespace limpid {

using torch::indexing::Slice;

torch::Tensor kernel_spectrum(const torch::Tensor& kernel, std::int64_t height,
                              std::int64_t width) {
  auto shape = kernel.sizes().vec();
  shape[shape.size() - 2] = height;
  shape[shape.size() - 1] = width;
  auto field = torch::zeros(shape);
  field.index_put_({torch::indexing::Ellipsis, Slice(0, psf_side_px), Slice(0, psf_side_px)},
                   kernel);
  return torch::fft::rfft2(field.roll({-psf_side_px / 2, -psf_side_px / 2}, {-2, -1}));
}

namespace {

torch::Tensor phases(const torch::Tensor& psfs) {
  return psfs.index({torch::indexing::Ellipsis, Slice(0, torch::indexing::None, psf_oversampling),
                     Slice(0, torch::indexing::None, psf_oversampling)});
}

torch::Tensor convolved(const torch::Tensor& spectrum, const torch::Tensor& kernel,
                        std::int64_t height, std::int64_t width) {
  return torch::fft::irfft2(spectrum * kernel_spectrum(kernel, height, width),
                            at::IntArrayRef({height, width}));
}

/// Noise of unit variance; `correlated`: as registration, or drizzle onto a finer grid, leaves it.
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

Aberration draw_aberration(Random& random) {
  if (random.chance(0.15)) return Aberration::none;
  if (random.chance(0.4)) return Aberration::mixed;
  return static_cast<Aberration>(random.index(aberration_count));
}

std::optional<BankPsf> draw_psf(Random& random, Aberration aberration, double fwhm_px) {
  BankPsf entry;
  entry.aberration = aberration;
  const auto optics = draw_optics(random, aberration, fwhm_px);
  const auto render = [&](const std::array<Optics, 3>& channels,
                          std::array<Psf, 3>& described) -> torch::Tensor {
    std::vector<torch::Tensor> psfs;
    double dx = 0, dy = 0;
    const bool same = aberration == Aberration::none || aberration == Aberration::guiding ||
                      aberration == Aberration::defocus || aberration == Aberration::coma ||
                      aberration == Aberration::second_coma ||
                      aberration == Aberration::astigmatism || aberration == Aberration::trefoil ||
                      aberration == Aberration::spherical || aberration == Aberration::spider;
    for (std::size_t c = 0; c < 3; ++c) {
      if (same && c > 0) {
        psfs.push_back(psfs[0]);
        described[c] = described[0];
      } else {
        psfs.push_back(render_psf(channels[c]));
        const auto psf = describe_psf(psfs.back());
        if (!psf || psf->fwhm_px < 1.3F || psf->fwhm_px > 9.0F || psf->ellipticity() > 0.5F)
          return {};
        described[c] = *psf;
      }
      dx += described[c].dx / 3;
      dy += described[c].dy / 3;
    }
    // Positions are those of the mean over the channels: put the mean centroid on the pixel.
    for (std::size_t c = 0; c < 3; ++c) {
      described[c].dx -= static_cast<float>(dx);
      described[c].dy -= static_cast<float>(dy);
    }
    auto stack = torch::stack(psfs);
    const auto fy = torch::fft::fftfreq(psf_grid, torch::kFloat).unsqueeze(1),
               fx = torch::fft::rfftfreq(psf_grid, torch::kFloat).unsqueeze(0);
    const auto phase = 2 * std::numbers::pi * psf_oversampling * (fx * dx + fy * dy);
    stack =
        torch::fft::irfft2(torch::fft::rfft2(stack) * torch::polar(torch::ones_like(phase), phase),
                           at::IntArrayRef({psf_grid, psf_grid}))
            .clamp_min(0);
    return stack / (stack.sum({1, 2}, true) / (psf_oversampling * psf_oversampling));
  };
  entry.here = render(optics, entry.described);
  if (!entry.here.defined()) return std::nullopt;
  if (random.chance(0.3)) {
    entry.there = render(draw_neighbour(random, optics), entry.described_there);
    if (!entry.there.defined()) return std::nullopt;
  }
  return entry;
}

BankPsf turned_psf(const BankPsf& psf, int turn, const std::array<int, 3>& order) {
  const auto turn_tensor = [&](const torch::Tensor& x) {
    // sample (grid/2, grid/2) is the centre: mirroring must map it onto itself
    auto result = x.index_select(0, torch::tensor({order[0], order[1], order[2]}));
    if ((turn & 1) != 0) result = result.flip(-1).roll(1, -1);
    if ((turn & 2) != 0) result = result.flip(-2).roll(1, -2);
    if ((turn & 4) != 0) result = result.transpose(-1, -2);
    return result.contiguous();
  };
  const auto turn_psf = [&](Psf p) {
    if ((turn & 1) != 0) p.e2 = -p.e2, p.dx = -p.dx;
    if ((turn & 2) != 0) p.e2 = -p.e2, p.dy = -p.dy;
    if ((turn & 4) != 0) p.e1 = -p.e1, std::swap(p.dx, p.dy);
    return p;
  };
  BankPsf result = psf;
  result.here = turn_tensor(psf.here);
  if (psf.there.defined()) result.there = turn_tensor(psf.there);
  for (std::size_t c = 0; c < 3; ++c) {
    result.described[c] = turn_psf(psf.described[static_cast<std::size_t>(order[c])]);
    result.described_there[c] = turn_psf(psf.described_there[static_cast<std::size_t>(order[c])]);
  }
  return result;
}

/// What a measurement of this PSF would hand over. `error` = 1: FWHM and ellipticity as badly known
/// as SPEC 3.4 says (3 %, .015), which few stars give; beta is always uncertain by 8 %.
std::array<Psf, 3> measured_like(Random& random, const std::array<Psf, 3>& truth, double error) {
  std::array<Psf, 3> measured = truth;
  const auto known_to = [&](double sigma) { return error * sigma * random.normal(); };
  const double common = known_to(0.02), common_beta = 0.06 * random.normal();
  const double ce1 = known_to(0.01), ce2 = known_to(0.01);
  for (Psf& psf : measured) {
    psf.fwhm_px *= static_cast<float>(std::exp(common + known_to(0.02)));
    const double own_beta = 0.05 * random.normal();
    psf.beta =
        std::clamp(psf.beta * static_cast<float>(std::exp(common_beta + own_beta)), 1.3F, 11.5F);
    psf.e1 += static_cast<float>(ce1 + known_to(0.01));
    psf.e2 += static_cast<float>(ce2 + known_to(0.01));
    psf.dx += static_cast<float>(known_to(0.02));
    psf.dy += static_cast<float>(known_to(0.02));
  }
  return measured;
}

/// What a stack of measured stars would tell beyond the Moffat fits: a share of the true difference
/// and noise, inside a window that ends where stars drown in the sky.
void add_measured_residual(Random& random, SceneTensors& scene,
                           const std::optional<bool>& is_known) {
  const bool drawn = random.chance(0.85), known = is_known.value_or(drawn);
  const double share = random.uniform(0.75, 1), noise = random.log_uniform(0.0003, 0.01);
  const double window_px =
      std::min(0.45 * psf_side_px,
               3 * static_cast<double>(scene.true_psf[1].fwhm_px) + random.uniform(2, 8));
  const auto common = draw_noise(random, 1, psf_side_px, psf_side_px, true)[0];
  const auto own = draw_noise(random, 3, psf_side_px, psf_side_px, true);
  if (!known) return;
  const auto axis = torch::arange(psf_side_px, torch::kFloat) - psf_side_px / 2;
  const auto radius = (axis.unsqueeze(0).square() + axis.unsqueeze(1).square()).sqrt();
  const auto window =
      0.5 + 0.5 * torch::cos(std::numbers::pi * ((radius / window_px - 0.7) / 0.3).clamp(0, 1));
  for (std::size_t c = 0; c < 3; ++c) {
    if (scene.controls.mono && c > 0) {
      scene.controls.residual[c] = scene.controls.residual[0];
      continue;
    }
    // stars are stacked over their own fits, so that what these have wrong in the wings is told
    Psf fit = scene.true_psf[c];
    fit.beta = scene.controls.measured[c].beta;
    const Image moffat = fit.kernel(psf_side_px);
    const auto fitted =
        torch::from_blob(const_cast<float*>(moffat.pixels().data()), {psf_side_px, psf_side_px});
    const auto& kernel = scene.kernels[c];
    const auto errors = (common + own[static_cast<std::int64_t>(c)]) *
                        (noise * kernel.amax().item<double>() / std::numbers::sqrt2);
    const auto residual = (window * (share * (kernel - fitted) + errors)).contiguous();
    scene.controls.residual[c].assign(residual.data_ptr<float>(),
                                      residual.data_ptr<float>() + residual.numel());
  }
}

/// And what rings around stars would tell of the light further out (measure_psf_wings): the mean
/// of a ring, less that of the ring where the sky is read, right to a tenth and 0.1 % of the light.
/// Nearer than two FWHM it is the Moffat's affair, and wrong with it. A random stream of its own:
/// scenes stay what they are without.
void add_measured_wings(Random random, SceneTensors& scene) {
  constexpr std::int64_t sky_from_px = 25, sky_width_px = 6, bins = psf_side_px / 2 + 1;
  constexpr double ring_error = 0.001;
  const double share = random.uniform(0.9, 1);
  const auto axis = torch::arange(psf_side_px, torch::kFloat) - psf_side_px / 2;
  const auto radius = (axis.unsqueeze(0).square() + axis.unsqueeze(1).square()).sqrt();
  const auto ring = radius.round().clamp_max(psf_side_px / 2).to(torch::kLong).flatten();
  const auto counts = torch::zeros({bins}).index_add_(0, ring, torch::ones({ring.numel()}));
  auto errors = torch::empty({bins});
  for (std::int64_t i = 0; i < bins; ++i) errors[i] = ring_error * random.normal();
  for (std::size_t c = 0; c < 3; ++c) {
    const auto& residual = scene.controls.residual[c];
    if (residual.empty()) return;
    const Psf& measured = scene.controls.measured[c];
    const Image near = measured.kernel(psf_side_px, residual);
    const auto known =
        torch::from_blob(const_cast<float*>(near.pixels().data()), {psf_side_px, psf_side_px});
    auto light =
        torch::zeros({bins}).index_add_(0, ring, (scene.kernels[c] - known).flatten()) / counts;
    light = light - light.narrow(0, sky_from_px, sky_width_px).mean();
    light.narrow(0, sky_from_px + sky_width_px / 2, bins - sky_from_px - sky_width_px / 2).zero_();
    const auto far =
        (torch::arange(bins, torch::kFloat) / static_cast<double>(measured.fwhm_px) - 1)
            .clamp(0, 1);
    const auto wings = (far * (share * light + errors / counts)).index_select(0, ring).contiguous();
    auto& whole = scene.controls.nonstellar_residual[c];
    whole = residual;
    const float* add = wings.data_ptr<float>();
    for (std::size_t i = 0; i < whole.size(); ++i) whole[i] += add[i];
  }
}

/// What a kind of recording asks for where the caller asks nothing.
SceneOptions with_recording(SceneOptions options, Recording recording, Random& random) {
  const int field = options.side_px + 2 * scene_margin_px;
  if (recording == Recording::clipped) options.saturation = true;
  if (recording == Recording::cluster && !options.stars)
    options.stars = static_cast<int>(0.05 * field * field);
  if (recording == Recording::galaxy) {
    options.nebula = true;
    if (!options.stars) options.stars = random.index(5);
  }
  if (recording == Recording::narrowband) options.mono = false;
  return options;
}

/// A few stars of 1 to 300 times full scale; on the whole lattice when stars shall be isolated.
SceneOptions clipped_stars(SceneOptions options, double full_scale, int field, Random& random) {
  options.star_peak_min = full_scale;
  options.star_peak_max = 300 * full_scale;
  const double area = field * field / 65536.0;
  options.stars = std::max(1, static_cast<int>(area * random.log_uniform(1, 12)));
  return options;
}

/// Full scale: over what is drawn for it and the nebula, but now and then far under the nebula's
/// brightest parts, as in frames of galaxies and on photographic plates. A random stream of its
/// own: other scenes stay what they are without.
double draw_full_scale(std::uint64_t seed, std::uint64_t index, double drawn, double nebula_peak) {
  Random random(seed ^ 0xf5ca1eULL, index + 1);
  const bool burnt_out = random.chance(0.2);
  const double share = random.log_uniform(0.1, 1);
  return burnt_out && nebula_peak > 100 ? share * nebula_peak : std::max(1.5 * nebula_peak, drawn);
}

struct Brightness {
  double peak_min = 1, peak_max = 3e4, slope = 0.8;
};

std::vector<SceneStar> draw_stars(Random& random, const SceneOptions& options, int field,
                                  double fwhm_px, float psf_peak,
                                  const std::array<double, 3>& channel_scale, bool dense) {
  Brightness brightness;
  // counts over brightness, from the Galaxy's 0.5 to 1.2; flat ones show many bright stars at once
  brightness.slope = random.chance(0.3) ? random.uniform(0.25, 0.5) : random.uniform(0.5, 1.2);
  brightness.peak_min = options.star_peak_min.value_or(random.log_uniform(0.5, 5));
  brightness.peak_max = options.star_peak_max.value_or(random.log_uniform(300, 1e5));
  const auto make = [&](double x, double y) {
    SceneStar star;
    star.qx = static_cast<int>(std::lround(4 * x));
    star.qy = static_cast<int>(std::lround(4 * y));
    const double peak =
        options.isolated_stars
            ? random.log_uniform(brightness.peak_min, brightness.peak_max)
            : std::min(brightness.peak_max,
                       brightness.peak_min * std::pow(1 - random.uniform(), -1 / brightness.slope));
    const double colour = 0.35 * random.normal();
    for (int c = 0; c < 3; ++c) {
      star.flux[static_cast<std::size_t>(c)] =
          static_cast<float>(peak / psf_peak * std::exp(colour * (1 - c)) *
                             channel_scale[static_cast<std::size_t>(c)]);
    }
    return star;
  };
  std::vector<SceneStar> stars;
  if (options.isolated_stars) {
    const double pitch = std::max(16.0, 8 * fwhm_px);
    for (double y = scene_margin_px + pitch / 2; y < field - scene_margin_px - pitch / 3;
         y += pitch) {
      for (double x = scene_margin_px + pitch / 2; x < field - scene_margin_px - pitch / 3;
           x += pitch) {
        stars.push_back(make(x + random.uniform(-2, 2), y + random.uniform(-2, 2)));
      }
    }
    return stars;
  }
  const double area = field * field / 65536.0;
  int count = 0;
  double cluster = 0;
  if (options.stars) {
    count = *options.stars;
  } else {
    const double kind = random.uniform();
    if (kind < 0.08)
      count = 0;
    else if (kind < 0.7)
      count = static_cast<int>(area * random.log_uniform(5, 200));
    else if (kind < 0.9)
      count = static_cast<int>(area * random.log_uniform(200, 900));
    else
      count = static_cast<int>(area * random.log_uniform(600, 3000)),
      cluster = random.chance(0.6) ? field * random.uniform(0.08, 0.25) : 0;
  }
  if (dense) cluster = 0.25 * field;
  const double cx = random.uniform(0.3, 0.7) * field, cy = random.uniform(0.3, 0.7) * field;
  for (int i = 0; i < count; ++i) {
    double x = random.uniform(0, field), y = random.uniform(0, field);
    if (cluster > 0 && random.chance(dense ? 0.35 : 0.7)) {
      x = cx + cluster * random.normal();
      y = cy + cluster * random.normal();
      if (x < 0 || y < 0 || x >= field - 1 || y >= field - 1) continue;
    }
    stars.push_back(make(x, y));
  }
  return stars;
}

}  // namespace

std::string_view name(Aberration aberration) {
  constexpr std::array<std::string_view, aberration_count> names{
      "none",    "guiding",   "defocus", "coma",           "second coma",         "astigmatism",
      "trefoil", "spherical", "spider",  "lateral colour", "longitudinal colour", "channel seeing",
      "mixed"};
  return names[static_cast<std::size_t>(aberration)];
}

torch::Tensor Simulator::Body::draw_sky(Random& random, int side) const {
  if (procedural.empty() || side > procedural_px) return draw_procedural(random, side, side);
  const auto& sky =
      procedural[static_cast<std::size_t>(random.index(static_cast<int>(procedural.size())))];
  const int x = random.index(procedural_px - side + 1), y = random.index(procedural_px - side + 1);
  return turned(sky.narrow(1, y, side).narrow(2, x, side), random.index(8))
      .to(torch::kFloat)
      .contiguous();
}

SceneTensors Simulator::Body::draw(std::uint64_t index, const SceneOptions& asked) const {
  const torch::NoGradGuard no_grad;
  Random random(seed, index + 1);
  SceneTensors scene;
  scene.recording = asked.recording.value_or(draw_recording(seed, index));
  const SceneOptions options = with_recording(asked, scene.recording, random);
  const int field = options.side_px + 2 * scene_margin_px;

  // The telescope: from the bank, or made to order.
  BankPsf psf;
  if (options.aberration || options.fwhm_px || bank.empty()) {
    for (;;) {
      const auto drawn = draw_psf(random, options.aberration.value_or(draw_aberration(random)),
                                  options.fwhm_px.value_or(random.log_uniform(1.6, 7.5)));
      if (drawn) {
        psf = *drawn;
        break;
      }
    }
  } else {
    psf = bank[static_cast<std::size_t>(random.index(static_cast<int>(bank.size())))];
  }
  std::array<int, 3> order{0, 1, 2};
  for (int i = 2; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(random.index(i + 1))]);
  const bool mono = options.mono.value_or(random.chance(0.15));
  if (mono) order = {order[0], order[0], order[0]};
  psf = turned_psf(psf, random.index(8), order);
  double drop = 0;  // of a drizzle; 0: none
  if (scene.recording == Recording::drizzled) {
    const double tried = random.uniform(0.5, 1);
    if (auto wider = drizzled(psf, tried)) {
      psf = std::move(*wider);
      drop = tried;
    }
  }
  if (mono) {
    for (auto* described : {&psf.described, &psf.described_there}) {
      for (Psf& p : *described) p.dx = p.dy = 0;
    }
  }
  const bool varies = psf.there.defined();
  const double turn = random.uniform(0, 2 * std::numbers::pi);
  const auto weight_there = [&](int x, int y) {
    const double u = ((x - field / 2) * std::cos(turn) + (y - field / 2) * std::sin(turn)) / field;
    return static_cast<float>(std::clamp(0.5 + u, 0.0, 1.0));
  };
  scene.aberration = psf.aberration;
  scene.true_psf = psf.described;
  for (std::size_t c = 0; varies && c < 3; ++c) {
    Psf& p = scene.true_psf[c];
    const Psf& q = psf.described_there[c];
    p.fwhm_px = std::sqrt(p.fwhm_px * q.fwhm_px);
    p.beta = std::sqrt(p.beta * q.beta);
    p.e1 = (p.e1 + q.e1) / 2;
    p.e2 = (p.e2 + q.e2) / 2;
    p.dx = (p.dx + q.dx) / 2;
    p.dy = (p.dy + q.dy) / 2;
  }
  for (std::int64_t c = 0; c < 3; ++c) {
    scene.kernels[static_cast<std::size_t>(c)] =
        central_phase(varies ? (psf.here[c] + psf.there[c]) / 2 : psf.here[c]);
  }

  // What is asked.
  TileControls truth;
  truth.measured = truth.nonstellar = scene.true_psf;
  truth.mono = mono;
  const bool correct_only = random.chance(0.08);
  const double s = random.chance(0.12) ? 0 : random.chance(0.25) ? 0.25 : random.uniform(0, 0.7);
  const double n = random.chance(0.12) ? 0 : random.chance(0.35) ? 0.9 : random.uniform(0, 1);
  const double a = random.chance(0.6) ? 0 : random.uniform(-0.5, 0.5);
  truth.sharpen_stars = static_cast<float>(options.sharpen_stars.value_or(correct_only ? 0 : s));
  truth.sharpen_nonstellar =
      static_cast<float>(options.sharpen_nonstellar.value_or(correct_only ? 0 : n));
  truth.adjust_halos = static_cast<float>(options.adjust_halos.value_or(correct_only ? 0 : a));
  scene.wanted = wanted_psfs(truth);
  scene.controls = truth;
  const double drawn_error = random.log_uniform(0.15, 1);
  if (options.perturb_measurement) {
    scene.controls.measured =
        measured_like(random, scene.true_psf, options.measurement_error.value_or(drawn_error));
  }
  scene.controls.nonstellar = scene.controls.measured;
  if (mono) {
    scene.controls.measured.fill(scene.controls.measured[0]);
    for (Psf& p : scene.controls.measured) p.dx = p.dy = 0;
    scene.controls.nonstellar = scene.controls.measured;
  }
  if (options.perturb_measurement) {
    add_measured_residual(random, scene, options.residual_known);
    add_measured_wings(Random(seed ^ 0x3196eULL, index + 1), scene);
  }
  if (random.chance(0.12) && options.perturb_measurement) {  // a round PSF given by hand
    TileControls unsharpened = scene.controls;
    unsharpened.sharpen_stars = unsharpened.adjust_halos = 0;
    Psf round = wanted_psfs(unsharpened).stellar;
    round.fwhm_px *= static_cast<float>(std::exp(0.06 * random.normal()));
    scene.controls.nonstellar.fill(round);
    scene.controls.nonstellar_residual.fill({});
  }

  // The sky behind: nebulae, galaxies.
  std::array<double, 3> channel_scale{1, 1, 1};
  if (random.chance(0.3))
    for (double& scale : channel_scale) scale = random.log_uniform(0.15, 1.5);
  if (scene.recording == Recording::narrowband)
    for (double& scale : channel_scale) scale = random.log_uniform(0.02, 1.5);
  torch::Tensor light;
  double nebula_peak = 0;
  if (options.nebula.value_or(random.chance(0.85))) {
    const auto draw_light = [&] {
      const bool real = corpus && !options.procedural_only && random.chance(0.65);
      auto drawn = real ? corpus->draw(random, field) : draw_sky(random, field);
      if (real && random.chance(0.25)) drawn = drawn + 0.3 * draw_sky(random, field);
      return drawn;
    };
    light = scene.recording == Recording::galaxy ? draw_galaxy(random, field) : draw_light();
    if (scene.recording == Recording::narrowband)
      light = torch::stack({light[0], draw_light()[1], draw_light()[2]});
    nebula_peak = options.nebula_peak.value_or(random.log_uniform(2, 1500));
    light = light * (nebula_peak / light.quantile(0.99).clamp_min(1e-6).item<double>());
    for (std::size_t c = 0; c < 3; ++c) light[static_cast<std::int64_t>(c)] *= channel_scale[c];
    if (mono) light = light.mean(0, true).expand({3, -1, -1}).contiguous();
  } else {
    light = torch::zeros({3, field, field});
  }

  // Stars, the same list twice: as recorded and as wanted.
  const float psf_peak = psf.here.amax().item<float>();
  const auto draw_list = [&](const SceneOptions& which) {
    return draw_stars(random, which, field, scene.true_psf[0].fwhm_px, psf_peak, channel_scale,
                      scene.recording == Recording::cluster);
  };
  auto stars = options.stars.value_or(1) == 0 ? std::vector<SceneStar>{} : draw_list(options);
  if (scene.recording == Recording::clipped) {
    scene.saturation_level =
        draw_full_scale(seed, index, random.log_uniform(500, 5000), nebula_peak);
    const auto bright = draw_list(clipped_stars(options, scene.saturation_level, field, random));
    if (options.isolated_stars) {  // most are left to tell the PSF
      for (std::size_t i = 0; i < std::min(stars.size(), bright.size()); i += 5)
        stars[i] = bright[i];
    } else {
      stars.insert(stars.end(), bright.begin(), bright.end());
    }
  }
  if (mono)
    for (SceneStar& star : stars) star.flux.fill(star.flux[1]);

  torch::Tensor blurred, ideal;
  const auto wanted_nonstellar = central_phase(oversampled_moffat(scene.wanted.nonstellar));
  if (nebula_peak > 0) {
    const auto spectrum = torch::fft::rfft2(light);
    blurred = convolved(spectrum, phases(psf.here), field, field);
    if (varies) {
      auto weights = torch::empty({field, field});
      float* w = weights.data_ptr<float>();
      for (int y = 0; y < field; ++y)
        for (int x = 0; x < field; ++x) w[y * field + x] = weight_there(x, y);
      blurred =
          blurred + weights * (convolved(spectrum, phases(psf.there), field, field) - blurred);
    }
    ideal = convolved(spectrum, wanted_nonstellar, field, field);
  } else {
    blurred = torch::zeros({3, field, field});
    ideal = torch::zeros({3, field, field});
  }
  blurred = blurred.contiguous();
  ideal = ideal.contiguous();
  const auto ideal_rest = ideal.clone();
  const auto wanted_stellar = oversampled_moffat(scene.wanted.stellar).unsqueeze(0);
  if (!stars.empty()) {
    add_stars(blurred, stars, psf.here, psf.there, weight_there, 0.01F);
    add_stars(ideal, stars, wanted_stellar, {}, nullptr, 0.01F);
  }

  // The recording.
  const double shot = random.log_uniform(0.003, 0.4);
  const bool correlated = options.correlated_noise.value_or(random.chance(0.45));
  auto noise = drop > 0 ? drizzled_noise(random, mono ? 1 : 3, field, field, drop)
                        : draw_noise(random, mono ? 1 : 3, field, field, correlated);
  noise = noise * (1 + shot * blurred.clamp_min(0)).sqrt();
  scene.blurred = blurred;
  scene.ideal = ideal;
  scene.input = blurred + noise;
  scene.target = ideal + noise;
  scene.saturated = torch::zeros({1, field, field});
  if (options.saturation.value_or(random.chance(0.7))) {
    if (scene.saturation_level == 0)
      scene.saturation_level =
          draw_full_scale(seed, index, random.log_uniform(300, 3e4), nebula_peak);
    const auto level = scene.saturation_level;
    const double gain = std::max(1.0, wanted_stellar.amax().item<double>() / psf_peak);
    scene.saturated = (scene.input >= 0.98 * level).any(0, true).to(torch::kFloat);
    scene.input = scene.input.clamp_max(level);
    // Stars are clipped as if the frame had been sharper when it was recorded. Where nebulae are
    // clipped, what lies above is unknown and shall stay so.
    const auto stellar = ((ideal - ideal_rest) / ideal.clamp_min(1e-6)).clamp(0, 1);
    scene.target = torch::minimum(scene.target, level * (1 + (gain - 1) * stellar));
  }
  if (scene.recording == Recording::stretched) {
    const double full_scale = scene.saturation_level > 0
                                  ? scene.saturation_level
                                  : std::max(1.5 * nebula_peak, random.log_uniform(300, 3e4));
    const Stretch stretch = draw_stretch(random, full_scale);
    for (auto* x : {&scene.blurred, &scene.ideal, &scene.input, &scene.target})
      *x = stretch.apply(*x);
    // bright stars tell the PSF, and look wider now
    const auto wider =
        static_cast<float>(stretch.widening(psf.here[1], random.log_uniform(30, 300)));
    for (auto* psfs : {&scene.controls.measured, &scene.controls.nonstellar})
      for (Psf& p : *psfs) p.fwhm_px *= wider;
  }
  for (const SceneStar& star : stars) {
    SimulatedStar known{static_cast<float>(star.qx) / 4 - scene_margin_px,
                        static_cast<float>(star.qy) / 4 - scene_margin_px, star.flux, false};
    if (known.x < 0 || known.y < 0 || known.x > options.side_px - 1 ||
        known.y > options.side_px - 1)
      continue;
    known.saturated = scene.saturation_level > 0 &&
                      *std::max_element(star.flux.begin(), star.flux.end()) * psf_peak >
                          0.8 * scene.saturation_level;
    scene.stars.push_back(known);
  }
  // The sky and noise of a real frame are measured, not known.
  if (options.perturb_measurement) {
    // Where nebulae fill the frame the level found is theirs, and dark clouds lie far below it.
    const bool drawn = random.chance(0.35), misjudged = options.sky_misjudged.value_or(drawn);
    const double error =
        random.log_uniform(0.5, 40) * (random.chance(0.85) ? -1 : 1) * (misjudged ? 1 : 0);
    const double common = random.uniform(0, 1);
    for (std::int64_t c = 0; c < 3; ++c) {
      const double own = error * (common + (1 - common) * random.uniform(0, 1));
      const double offset = own + 0.05 * random.normal(), scale = std::exp(0.04 * random.normal());
      const auto at = mono ? 0 : c;
      if (mono && c > 0) {
        scene.input[c] = scene.input[at];
        scene.target[c] = scene.target[at];
        continue;
      }
      for (auto* x : {&scene.input, &scene.target}) (*x)[c].add_(offset).mul_(scale);
      for (auto* x : {&scene.blurred, &scene.ideal}) (*x)[c].add_(offset).mul_(scale);
    }
  }
  return scene;
}

Simulator::Simulator(const std::filesystem::path& corpus, bool validation, std::uint64_t seed,
                     int psf_bank, int threads, const Progress& progress)
    : body_(std::make_unique<Body>()) {
  body_->seed = seed;
  if (!corpus.empty()) body_->corpus = CorpusPatches::load(corpus, validation);
  body_->bank.resize(static_cast<std::size_t>(psf_bank));
  body_->procedural.resize(static_cast<std::size_t>(psf_bank / 4));
  progress(0, "preparing skies");
  parallel_for(psf_bank / 4, threads, [&](int i) {
    const torch::NoGradGuard no_grad;
    omp_set_num_threads(1);
    Random random(seed ^ 0x51a7ULL, static_cast<std::uint64_t>(i));
    body_->procedural[static_cast<std::size_t>(i)] =
        draw_procedural(random, procedural_px, procedural_px).to(torch::kHalf);
  });
  progress(0, "preparing PSFs");
  parallel_for(psf_bank, threads, [&](int i) {
    const torch::NoGradGuard no_grad;
    omp_set_num_threads(1);
    Random random(seed ^ 0x9f5fULL, static_cast<std::uint64_t>(i));
    for (;;) {
      const auto aberration = draw_aberration(random);
      if (auto drawn = draw_psf(random, aberration, random.log_uniform(1.5, 7.5))) {
        body_->bank[static_cast<std::size_t>(i)] = std::move(*drawn);
        return;
      }
    }
  });
}
Simulator::Simulator(Simulator&&) noexcept = default;
Simulator::~Simulator() = default;

std::string Simulator::corpus_hash() const {
  return body_->corpus ? body_->corpus->hash() : "procedural";
}

torch::Tensor inner(const torch::Tensor& x, int side) {
  const auto from = (x.size(-1) - side) / 2;
  return x.narrow(-2, from, side).narrow(-1, from, side).contiguous();
}

SimulatedScene Simulator::draw(std::uint64_t index, const SceneOptions& options) const {
  const SceneTensors tensors = body_->draw(index, options);
  SimulatedScene scene;
  const auto shown = [&](const torch::Tensor& x) { return to_image(inner(x, options.side_px)); };
  scene.input = shown(tensors.input);
  scene.target = shown(tensors.target);
  scene.saturated = shown(tensors.saturated);
  scene.blurred = shown(tensors.blurred);
  scene.ideal = shown(tensors.ideal);
  for (std::size_t c = 0; c < 3; ++c) scene.kernels[c] = to_image(tensors.kernels[c].unsqueeze(0));
  scene.stars = tensors.stars;
  scene.true_psf = tensors.true_psf;
  scene.controls = tensors.controls;
  scene.wanted = tensors.wanted;
  scene.aberration = tensors.aberration;
  scene.recording = tensors.recording;
  scene.saturation_level = tensors.saturation_level;
  return scene;
}

}  // namespace limpid
