// Judges weights on scenes of known truth: held-out objects, fresh seeds, one row per kind of
// fault.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include <limpid/error.h>
#include <limpid/training.h>

#include "core/parallel.h"
#include "measure/moffat.h"
#include "nn/device.h"
#include "nn/model_file.h"
#include "nn/weights.h"
#include "train/simulator.h"

namespace limpid {
namespace {

/// (3, side, side) of the inner frame.
torch::Tensor inner(const torch::Tensor& x, int side) {
  return x.narrow(-2, scene_margin_px, side).narrow(-1, scene_margin_px, side).contiguous();
}

torch::Tensor answer_of(Model& model, const torch::Device& device, torch::ScalarType type,
                        const SceneTensors& scene, const torch::Tensor& guides, int side) {
  model.network->to(device, type);
  const auto planes = torch::cat({inner(scene.input, side),
                                  inner(guides, side).reshape({3 * guide_count, side, side}),
                                  inner(scene.saturated, side)});
  const auto wishes = control_vector(scene.controls);
  const auto controls =
      torch::tensor(at::ArrayRef<float>(wishes.data(), wishes.size())).unsqueeze(0);
  return from_blocks(model.network->forward(to_blocks(planes).to(device), controls.to(device)))
      .cpu();
}

double decibels(const torch::Tensor& before, const torch::Tensor& after,
                const torch::Tensor& truth) {
  return 10 * std::log10((before - truth).square().mean().item<double>() /
                         (after - truth).square().mean().item<double>());
}

/// Richardson (1972, JOSA 62, 55) and Lucy (1974, AJ 79, 745) with the true PSF, after 5, 10 and 20
/// steps.
std::array<torch::Tensor, 3> richardson_lucy(const SceneTensors& scene) {
  const auto field = scene.input.size(1);
  const double pedestal = 20 - std::min(0.0, scene.input.amin().item<double>());
  const auto recorded = (scene.input + pedestal).clamp_min(0.01);
  std::vector<torch::Tensor> spectra;
  for (const auto& kernel : scene.kernels) spectra.push_back(kernel_spectrum(kernel, field, field));
  const auto transfer = torch::stack(spectra);
  const std::array<std::int64_t, 2> size{field, field};
  auto estimate = recorded.clone();
  std::array<torch::Tensor, 3> results;
  for (int i = 1; i <= 20; ++i) {
    const auto predicted =
        torch::fft::irfft2(torch::fft::rfft2(estimate) * transfer, size).clamp_min(0.01);
    estimate =
        estimate *
        torch::fft::irfft2(torch::fft::rfft2(recorded / predicted) * torch::conj(transfer), size);
    if (i == 5) results[0] = estimate - pedestal;
    if (i == 10) results[1] = estimate - pedestal;
    if (i == 20) results[2] = estimate - pedestal;
  }
  return results;
}

/// The best linear filter there is: true PSF, the scene's own power spectrum, the noise's power.
/// For the target f*g' + n it is (G' conj(G) P + N) / (|G|^2 P + N).
torch::Tensor wiener_bound(const SceneTensors& scene) {
  const auto field = scene.input.size(1);
  const auto wanted =
      kernel_spectrum(central_phase(oversampled_moffat(scene.wanted.nonstellar)), field, field);
  const auto fy = torch::fft::fftfreq(field, torch::kFloat).unsqueeze(1),
             fx = torch::fft::rfftfreq(field, torch::kFloat).unsqueeze(0);
  const auto radius = ((fy.square() + fx.square()).sqrt() * static_cast<double>(field))
                          .round()
                          .to(torch::kLong)
                          .flatten();
  const auto bins = radius.max().item<std::int64_t>() + 1;
  const auto counts = torch::zeros({bins}).index_add_(0, radius, torch::ones({radius.numel()}));
  const auto radial = [&](const torch::Tensor& power) {
    const auto sums = torch::zeros({bins}).index_add_(0, radius, power.flatten());
    return (sums / counts.clamp_min(1)).index_select(0, radius).view(power.sizes());
  };
  const auto wanted_power = radial(wanted.abs().square());
  std::vector<torch::Tensor> channels;
  for (std::int64_t c = 0; c < 3; ++c) {
    const auto psf = kernel_spectrum(scene.kernels[static_cast<std::size_t>(c)], field, field);
    const auto light =
        radial(torch::fft::rfft2(scene.ideal[c] - scene.ideal[c].mean()).abs().square()) /
        wanted_power.clamp_min(1e-6);
    const double noise = (scene.input[c] - scene.blurred[c]).square().mean().item<double>() *
                         static_cast<double>(field * field);
    const auto filter =
        (wanted * torch::conj(psf) * light + noise) / (psf.abs().square() * light + noise);
    channels.push_back(torch::fft::irfft2(torch::fft::rfft2(scene.input[c]) * filter,
                                          at::IntArrayRef({field, field})));
  }
  return torch::stack(channels);
}

/// Share of SPEC 3.4's perturbation whose medians are those that limpid itself misses by on
/// simulated frames: FWHM 1.2 %, ellipticity .009 (limpid_psf_accuracy, docs/measure.md).
constexpr double measured_error = 0.6;

struct StarFigures {
  double fwhm_error, before, after, flux, centroid, ring, colour, previous_error;
  bool bright;
};

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

double median(std::vector<double> values) {
  if (values.empty()) return NAN;
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

std::string line(const char* format, auto... values) {
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

}  // namespace

std::string Evaluation::table() const {
  std::string text =
      "Stars (isolated, unsaturated, S/N of the peak 60 to 3000; medians):\n\n"
      "| class | FWHM asked / input | achieved / asked | ellipticity before | after | flux | "
      "centroid px | ring | colour shift px | stars |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const StarRow& r : stars) {
    text += line("| %s | %.2f | %.3f | %.3f | %.3f | %+.2f %% | %.3f | %.2f %% | %.3f | %d |\n",
                 r.label.c_str(), r.asked_fwhm_ratio, 1 + r.fwhm_ratio_error, r.ellipticity_before,
                 r.ellipticity_after, 100 * r.flux_error, r.centroid_error_px, 100 * r.ring_depth,
                 r.colour_shift_px, r.stars);
  }
  text +=
      "\nNon-stellar gain over the input in dB, against f*g' + n (N = 0.9, held-out objects):\n\n"
      "| class | network | previous | guide 0.7 | guide 8 | Richardson-Lucy, best of 5, 10, 20 | "
      "best linear filter | share of it |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const NebulaRow& r : nebulae) {
    text += line("| %s | %.2f | %s | %.2f | %.2f | %.2f (%d) | %.2f | %.0f %% |\n", r.label.c_str(),
                 r.network, std::isfinite(r.previous) ? line("%.2f", r.previous).c_str() : "-",
                 r.guide_low, r.guide_high, r.richardson_lucy, r.richardson_lucy_iterations,
                 r.wiener_bound, 100 * r.network / r.wiener_bound);
  }
  text += line("\nPure noise changed by %.3f sigma rms.\n", noise_change_sigma);
  return text;
}

void record_table(const std::filesystem::path& weights, const std::filesystem::path& copy,
                  const std::string& table) {
  TensorFile file = read_safetensors(weights);
  model_info(weights, file.metadata);  // refuses what is no network
  file.metadata["validation_table"] = table;
  write_safetensors(copy, file);
}

Evaluation evaluate(const EvaluateOptions& options, const Progress& progress) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(thread_count(options.threads));
  const torch::Device device = torch_device(options.device);
  const auto type = scalar_type(options.precision, device);
  Model model = load_model(options.weights);
  std::optional<Model> previous;
  if (!options.previous.empty()) previous = load_model(options.previous);
  const Simulator simulator(options.corpus, true, options.seed, 0, options.threads);
  Evaluation result;
  constexpr int side = 192;
  std::uint64_t index = 0;

  struct Row {
    std::string label;
    SceneOptions scene;
  };
  std::vector<Row> star_rows, nebula_rows;
  for (const double sharpen : {0.1, 0.25, 0.5}) {
    for (const double fwhm : {2.0, 3.0, 4.5, 7.0}) {
      star_rows.push_back(
          {line("S %.2f, FWHM about %.1f px", sharpen, fwhm),
           {.aberration = Aberration::none, .fwhm_px = fwhm, .sharpen_stars = sharpen}});
    }
  }
  for (int k = 1; k < aberration_count; ++k) {
    const auto aberration = static_cast<Aberration>(k);
    star_rows.push_back({std::string(name(aberration)) + ", S 0.25",
                         {.aberration = aberration, .fwhm_px = 3.5, .sharpen_stars = 0.25}});
  }
  for (int k = 0; k < aberration_count; ++k) {
    const auto aberration = static_cast<Aberration>(k);
    nebula_rows.push_back(
        {std::string(name(aberration)), {.aberration = aberration, .fwhm_px = 3.5}});
  }
  // The rows above have the PSF that a frame with some hundred stars tells; these have its Moffat
  // alone.
  for (const auto aberration : {Aberration::coma, Aberration::spider, Aberration::mixed}) {
    const std::string label = std::string(name(aberration)) + ", few stars";
    star_rows.push_back({label + ", S 0.25",
                         {.aberration = aberration,
                          .fwhm_px = 3.5,
                          .sharpen_stars = 0.25,
                          .residual_known = false}});
    nebula_rows.push_back(
        {label, {.aberration = aberration, .fwhm_px = 3.5, .residual_known = false}});
  }
  const double total = static_cast<double>(star_rows.size() + nebula_rows.size());
  double done = 0;

  for (auto* rows : {&star_rows, &nebula_rows}) {
    for (Row& row : *rows) {
      row.scene.sky_misjudged = false;
      row.scene.measurement_error = measured_error;
      row.scene.residual_known = row.scene.residual_known.value_or(true);
    }
  }
  for (Row& row : star_rows) {
    progress.throw_if_stopped();
    progress(done++ / total, row.label);
    row.scene.side_px = side;
    row.scene.adjust_halos = 0;
    row.scene.sharpen_nonstellar = 0.9;
    row.scene.nebula = false;
    row.scene.isolated_stars = true;
    row.scene.star_peak_min = 60;
    row.scene.star_peak_max = 3000;
    row.scene.saturation = row.scene.mono = row.scene.correlated_noise = false;
    std::vector<StarFigures> figures;
    double asked = 0;
    for (int i = 0; i < options.scenes; ++i) {
      const SceneTensors scene = simulator.body().draw(index++, row.scene);
      const auto guides = guide_planes(scene.input, scene.controls);
      const auto out = answer_of(model, device, type, scene, guides, side).contiguous();
      const auto old = previous
                           ? answer_of(*previous, device, type, scene, guides, side).contiguous()
                           : torch::Tensor();
      const auto in = inner(scene.input, side);
      const double wanted = scene.wanted.stellar.fwhm_px;
      const double measured = std::cbrt(scene.true_psf[0].fwhm_px * scene.true_psf[1].fwhm_px *
                                        scene.true_psf[2].fwhm_px);
      asked += wanted / measured / options.scenes;
      for (const SimulatedStar& star : scene.stars) {
        const auto after = fit(out, star, wanted);
        const auto before = fit(in, star, measured);
        if (!after || !before) continue;
        StarFigures f{};
        double width = 0, x = 0, y = 0;
        for (std::size_t c = 0; c < 3; ++c) {
          width += (*after)[c].value.fwhm_px / 3;
          x += (*after)[c].value.x / 3;
          y += (*after)[c].value.y / 3;
          f.before += (*before)[c].psf().ellipticity() / 3;
          f.after += (*after)[c].psf().ellipticity() / 3;
          f.flux += ((*after)[c].value.flux / static_cast<double>(star.flux[c]) - 1) / 3;
        }
        f.fwhm_error = width / wanted - 1;
        f.centroid = std::hypot(x - static_cast<double>(star.x), y - static_cast<double>(star.y));
        f.colour = std::hypot((*after)[0].value.x - (*after)[2].value.x,
                              (*after)[0].value.y - (*after)[2].value.y);
        f.ring = ring_depth(out, star, wanted);
        f.bright = (*after)[1].value.flux > 1500;
        f.previous_error = NAN;
        if (const auto earlier = old.defined() ? fit(old, star, wanted) : std::nullopt) {
          f.previous_error = ((*earlier)[0].value.fwhm_px + (*earlier)[1].value.fwhm_px +
                              (*earlier)[2].value.fwhm_px) /
                                 3 / wanted -
                             1;
        }
        figures.push_back(f);
      }
    }
    const auto column = [&](double StarFigures::*field, bool bright_only = false) {
      std::vector<double> values;
      for (const StarFigures& f : figures) {
        if ((!bright_only || f.bright) && std::isfinite(f.*field)) values.push_back(f.*field);
      }
      return median(values);
    };
    StarRow r;
    r.label = row.label;
    r.asked_fwhm_ratio = asked;
    r.fwhm_ratio_error = column(&StarFigures::fwhm_error);
    r.ellipticity_before = column(&StarFigures::before);
    r.ellipticity_after = column(&StarFigures::after);
    r.flux_error = column(&StarFigures::flux);
    r.centroid_error_px = column(&StarFigures::centroid);
    r.ring_depth =
        column(&StarFigures::ring, true);  // in faint stars the lowest of many means is noise
    r.colour_shift_px = column(&StarFigures::colour);
    r.previous_fwhm_ratio_error = column(&StarFigures::previous_error);
    r.stars = static_cast<int>(figures.size());
    result.stars.push_back(r);
  }

  for (Row& row : nebula_rows) {
    progress.throw_if_stopped();
    progress(done++ / total, row.label);
    row.scene.side_px = side;
    row.scene.sharpen_stars = 0.25;
    row.scene.adjust_halos = 0;
    row.scene.sharpen_nonstellar = 0.9;
    row.scene.stars = 0;
    row.scene.nebula = true;
    row.scene.nebula_peak = 200;
    row.scene.saturation = row.scene.mono = row.scene.correlated_noise = false;
    NebulaRow r;
    r.label = row.label;
    std::array<double, 3> lucy{};
    for (int i = 0; i < options.scenes; ++i) {
      const SceneTensors scene = simulator.body().draw(index++, row.scene);
      const auto guides = guide_planes(scene.input, scene.controls);
      const auto in = inner(scene.input, side), truth = inner(scene.target, side);
      const double n = options.scenes;
      r.network += decibels(in, answer_of(model, device, type, scene, guides, side), truth) / n;
      r.previous +=
          previous
              ? decibels(in, answer_of(*previous, device, type, scene, guides, side), truth) / n
              : NAN;
      r.guide_low += decibels(in, inner(guides[0], side), truth) / n;
      r.guide_high += decibels(in, inner(guides[1], side), truth) / n;
      r.wiener_bound += decibels(in, inner(wiener_bound(scene), side), truth) / n;
      const auto estimates = richardson_lucy(scene);
      for (std::size_t k = 0; k < 3; ++k)
        lucy[k] += decibels(in, inner(estimates[k], side), truth) / n;
    }
    const auto best = std::ranges::max_element(lucy) - lucy.begin();
    r.richardson_lucy = lucy[static_cast<std::size_t>(best)];
    r.richardson_lucy_iterations = std::array{5, 10, 20}[static_cast<std::size_t>(best)];
    r.scenes = options.scenes;
    result.nebulae.push_back(r);
  }

  double power = 0;
  for (int i = 0; i < options.scenes; ++i) {
    const SceneTensors scene = simulator.body().draw(index++, {.side_px = side,
                                                               .sharpen_stars = 0.25,
                                                               .sharpen_nonstellar = 0.9,
                                                               .stars = 0,
                                                               .nebula = false,
                                                               .saturation = false,
                                                               .mono = false,
                                                               .sky_misjudged = false});
    const auto guides = guide_planes(scene.input, scene.controls);
    power += (answer_of(model, device, type, scene, guides, side) - inner(scene.input, side))
                 .square()
                 .mean()
                 .item<double>() /
             options.scenes;
  }
  result.noise_change_sigma = std::sqrt(power);
  return result;
}

}  // namespace limpid
