// Judges weights on scenes of known truth: held-out objects, fresh seeds, one row per kind of
// fault.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include <limpid/error.h>
#include <limpid/training.h>

#include "core/parallel.h"
#include "nn/model_file.h"
#include "nn/weights.h"
#include "train/evaluation_rows.h"
#include "train/interval.h"
#include "train/invented_stars.h"
#include "train/judge.h"
#include "train/reference.h"
#include "train/simulator.h"
#include "train/star_figures.h"

namespace limpid {
namespace {

constexpr int side = evaluation_px;

double decibels(const torch::Tensor& before, const torch::Tensor& after,
                const torch::Tensor& truth) {
  return 10 * std::log10((before - truth).square().mean().item<double>() /
                         (after - truth).square().mean().item<double>());
}

/// The scenes of a row stay the same when other rows come and go.
std::uint64_t first_scene(const std::string& label) {
  return std::stoull(hash_text(label).substr(0, 8), nullptr, 16) << 16U;
}

StarPictures pictures_of(const Judge::Answer& a) {
  const auto& psf = a.scene.true_psf;
  return {.before = a.input,
          .after = a.network,
          .wanted = a.target,
          .previous = a.previous,
          .fwhm_before =
              std::cbrt(static_cast<double>(psf[0].fwhm_px * psf[1].fwhm_px * psf[2].fwhm_px)),
          .fwhm_wanted = a.scene.wanted.stellar.fwhm_px,
          .width_from_wanted = a.scene.recording == Recording::stretched};
}

/// Medians of a row over the stars of its scenes.
StarRow star_row(const std::string& label, double asked,
                 const std::vector<std::vector<StarFigures>>& figures) {
  StarRow r;
  r.label = label;
  r.asked_fwhm_ratio = asked;
  for (const auto& scene : figures) r.stars += static_cast<int>(scene.size());
  const auto column = [&](double StarFigures::*field) {
    std::vector<std::vector<double>> values(figures.size());
    for (std::size_t i = 0; i < figures.size(); ++i) {
      for (const StarFigures& f : figures[i]) values[i].push_back(f.*field);
    }
    return median_of(values);
  };
  r.fwhm_ratio_error = column(&StarFigures::fwhm_error);
  r.ellipticity_before = column(&StarFigures::ellipticity_before);
  r.ellipticity_after = column(&StarFigures::ellipticity_after);
  r.flux_error = column(&StarFigures::flux_error);
  r.flux_to_wanted = column(&StarFigures::flux_to_wanted);
  r.centroid_before_px = column(&StarFigures::centroid_before);
  r.centroid_after_px = column(&StarFigures::centroid_after);
  r.ring_depth = column(&StarFigures::ring);
  r.colour_shift_px = column(&StarFigures::colour);
  r.previous_fwhm_ratio_error = column(&StarFigures::previous_error);
  return r;
}

void judge_stars(Judge& judge, const EvaluationRow& row, int scenes, Evaluation& result) {
  double asked = 0;
  std::vector<std::vector<StarFigures>> network(static_cast<std::size_t>(scenes)),
      program(network.size());
  for (int i = 0; i < scenes; ++i) {
    const auto a = judge.answer(first_scene(row.label) + static_cast<std::uint64_t>(i), row.scene);
    const auto used = judge.program(a.scene);
    StarPictures pictures = pictures_of(a);
    asked += pictures.fwhm_wanted / pictures.fwhm_before / scenes;
    const auto judge_all = [&](std::vector<StarFigures>& figures) {
      for (const SimulatedStar& star : a.scene.stars) {
        if (const auto f = judge_star(pictures, star)) figures.push_back(*f);
      }
    };
    judge_all(network[static_cast<std::size_t>(i)]);
    if (!used.defined()) continue;
    pictures.after = used;
    judge_all(program[static_cast<std::size_t>(i)]);
  }
  result.stars.push_back(star_row(row.label, asked, network));
  const StarRow as_used = star_row(row.label, asked, program);
  if (as_used.stars > 0) result.program_stars.push_back(as_used);
}

InventedStars invented_by(const torch::Tensor& result, const Judge::Answer& a) {
  const auto view = [](const torch::Tensor& picture) {
    return ConstView(picture.data_ptr<float>(), 3, {side, side}, side, side * side);
  };
  return invented_stars(view(result), view(a.target), 1);
}

/// Counts the stars that the network invents, and those in use of it.
void count_invented(const Judge::Answer& a, const torch::Tensor& used, Evaluation& result) {
  const auto network = invented_by(a.network, a),
             in_use = used.defined() ? invented_by(inner(used, side).contiguous(), a) : network;
  result.starless_megapixels += side * side * 1e-6;
  result.invented_by_network += network.invented;
  result.invented += in_use.invented;
  result.unseen += in_use.unseen;
}

/// The step (and weight of the total variation) with the best mean over the scenes.
struct Lucy {
  std::vector<double> gains;
  int steps = 0;
  double variation = 0;
};

Lucy best_of(const std::map<std::pair<double, int>, std::vector<double>>& tried, bool variation) {
  Lucy best;
  double highest = -INFINITY;
  for (const auto& [key, gains] : tried) {
    if ((key.first > 0) != variation) continue;
    const double mean = mean_of(gains).value;
    if (mean <= highest) continue;
    highest = mean;
    best = {gains, key.second, key.first};
  }
  return best;
}

NebulaRow judge_nebula(Judge& judge, const EvaluationRow& row, int scenes, bool network_only,
                       Evaluation& result) {
  NebulaRow r;
  r.label = row.label;
  r.scenes = scenes;
  const bool starless = row.scene.stars == 0;
  std::vector<double> network, measured, in_use, previous, low, high, wiener;
  std::map<std::pair<double, int>, std::vector<double>> lucy;
  for (int i = 0; i < scenes; ++i) {
    const auto index = first_scene("nebula " + row.label) + static_cast<std::uint64_t>(i);
    const auto a = judge.answer(index, row.scene);
    const auto gain = [&](const torch::Tensor& x) { return decibels(a.input, x, a.target); };
    network.push_back(gain(a.network));
    previous.push_back(a.previous.defined() ? gain(a.previous) : NAN);
    low.push_back(gain(inner(a.guides[0], side)));
    high.push_back(gain(inner(a.guides[1], side)));
    if (!starless) continue;  // the others make no difference between stars and the rest
    if (network_only) {
      count_invented(a, {}, result);
      continue;
    }
    const auto psf = judge.measured_psf(a, index, row.scene);
    const TileControls& controls = psf ? psf->controls : a.scene.controls;
    const auto answer = judge.told(a, controls);
    if (psf) measured.push_back(gain(inner(answer, side)));
    const auto used = judge.in_agreement(a, answer, controls, psf ? psf->noise_correlation : 1);
    in_use.push_back(used.defined() ? gain(inner(used, side)) : NAN);
    wiener.push_back(gain(inner(wiener_bound(a.scene), side)));
    for (const double variation : {0.0, lucy_variations[0], lucy_variations[1]}) {
      for (const auto& [steps, estimate] : richardson_lucy(a.scene, variation))
        lucy[{variation, steps}].push_back(gain(inner(estimate, side)));
    }
    count_invented(a, used, result);
  }
  r.network = mean_of(network);
  r.previous = mean_of(previous);
  r.guide_low = mean_of(low);
  r.guide_high = mean_of(high);
  constexpr Estimate none{NAN, NAN, NAN};
  r.wiener_bound = r.richardson_lucy = r.variation_lucy = r.over_lucy = r.measured_psf = r.in_use =
      none;
  if (static_cast<int>(measured.size()) == scenes) r.measured_psf = mean_of(measured);
  if (!starless || network_only) return r;
  r.in_use = mean_of(in_use);
  const Lucy plain = best_of(lucy, false), varied = best_of(lucy, true);
  r.wiener_bound = mean_of(wiener);
  r.richardson_lucy = mean_of(plain.gains);
  r.variation_lucy = mean_of(varied.gains);
  r.richardson_lucy_steps = plain.steps;
  r.variation_lucy_steps = varied.steps;
  r.variation = varied.variation;
  const auto& better =
      r.richardson_lucy.value > r.variation_lucy.value ? plain.gains : varied.gains;
  std::vector<double> margin(std::isfinite(r.in_use.value) ? in_use : network);
  for (std::size_t i = 0; i < margin.size(); ++i) margin[i] -= better[i];
  r.over_lucy = mean_of(margin);
  return r;
}

/// A scene holds few clipped stars: so many scenes instead of one.
constexpr int clipped_scenes = 4;

/// Figures by how far the stars are over full scale, and by scene.
class ClippedTable {
 public:
  explicit ClippedTable(int scenes) {
    for (auto& bin : figures_) bin.resize(static_cast<std::size_t>(scenes));
  }
  void add(const ClippedFigures& f, int scene) {
    for (std::size_t bin = 0; bin < figures_.size(); ++bin) {
      if (f.times_full_scale >= edges[bin] && f.times_full_scale < edges[bin + 1])
        figures_[bin][static_cast<std::size_t>(scene)].push_back(f);
    }
  }
  [[nodiscard]] std::vector<ClippedRow> rows() const {
    std::vector<ClippedRow> rows;
    for (std::size_t bin = 0; bin < figures_.size(); ++bin) {
      ClippedRow r;
      r.label = labelled("%.0f to %.0f times full scale", edges[bin], edges[bin + 1]);
      const auto column = [&](double ClippedFigures::*field) {
        std::vector<std::vector<double>> values(figures_[bin].size());
        for (std::size_t i = 0; i < values.size(); ++i) {
          for (const ClippedFigures& f : figures_[bin][i]) values[i].push_back(f.*field);
        }
        return median_of(values);
      };
      r.gain_db = column(&ClippedFigures::gain_db);
      r.light_error = column(&ClippedFigures::light_error);
      r.ring_depth = column(&ClippedFigures::ring);
      r.peak_ratio = column(&ClippedFigures::peak_ratio);
      for (const auto& scene : figures_[bin]) r.stars += static_cast<int>(scene.size());
      rows.push_back(r);
    }
    return rows;
  }
  [[nodiscard]] bool empty() const {
    return std::ranges::all_of(figures_, [](const auto& bin) {
      return std::ranges::all_of(bin, [](const auto& scene) { return scene.empty(); });
    });
  }

 private:
  static constexpr std::array<double, 4> edges{1, 3, 30, 300};
  std::array<std::vector<std::vector<ClippedFigures>>, 3> figures_;
};

void judge_clipped(Judge& judge, const EvaluationRow& row, int scenes, Evaluation& result) {
  ClippedTable network(scenes), program(scenes);
  for (int i = 0; i < scenes; ++i) {
    const auto a = judge.answer(first_scene(row.label) + static_cast<std::uint64_t>(i), row.scene);
    const auto used = judge.program(a.scene);
    double psf_peak = 0;
    for (const auto& kernel : a.scene.kernels)
      psf_peak = std::max(psf_peak, kernel.amax().item<double>());
    StarPictures pictures = pictures_of(a);
    const auto judge_all = [&](ClippedTable& table) {
      for (const SimulatedStar& star : a.scene.stars)
        table.add(judge_clipped_star(pictures, star, psf_peak, a.scene.saturation_level), i);
    };
    judge_all(network);
    if (!used.defined()) continue;
    pictures.after = used;
    judge_all(program);
  }
  result.clipped = network.rows();
  if (!program.empty()) result.program_clipped = program.rows();
}

}  // namespace

void by_libtorch::record_table(const std::filesystem::path& weights,
                               const std::filesystem::path& copy, const std::string& table) {
  TensorFile file = read_safetensors(weights);
  model_info(weights, file.metadata);  // refuses what is no network
  file.metadata["validation_table"] = table;
  write_safetensors(copy, file);
}

Evaluation by_libtorch::evaluate(const EvaluateOptions& options, const Progress& progress) {
  const torch::NoGradGuard no_grad;
  at::set_num_threads(thread_count(options.threads));
  Judge judge(options);
  Evaluation result;
  const auto wanted = [&](const std::string& label) {
    return options.only.empty() || label.find(options.only) != std::string::npos;
  };
  const auto without_others = [&](std::vector<EvaluationRow> rows) {
    std::erase_if(rows, [&](const EvaluationRow& row) { return !wanted(row.label); });
    return rows;
  };
  const auto stars = without_others(star_rows()), nebulae = without_others(nebula_rows()),
             clipped_rows = without_others({clipped_row()}),
             noise_rows = without_others({noise_row()});

  const double total =
      static_cast<double>(stars.size() + nebulae.size() + clipped_rows.size() + noise_rows.size());
  double done = 0;
  const auto begin = [&](const EvaluationRow& row) {
    progress.throw_if_stopped();
    progress(done++ / total, row.label);
  };
  for (const EvaluationRow& row : stars) {
    begin(row);
    judge_stars(judge, row, options.scenes, result);
  }
  for (const EvaluationRow& row : nebulae) {
    begin(row);
    result.nebulae.push_back(
        judge_nebula(judge, row, options.scenes, options.network_only, result));
  }
  for (const EvaluationRow& row : clipped_rows) {
    begin(row);
    judge_clipped(judge, row, clipped_scenes * options.scenes, result);
  }
  std::vector<double> changes;
  for (const EvaluationRow& row : noise_rows) {
    begin(row);
    for (int i = 0; i < options.scenes; ++i) {
      const auto a =
          judge.answer(first_scene(row.label) + static_cast<std::uint64_t>(i), row.scene);
      changes.push_back((a.network - a.input).square().mean().sqrt().item<double>());
      count_invented(a, judge.in_agreement(a, judge.told(a, a.scene.controls), a.scene.controls, 1),
                     result);
    }
  }
  result.noise_change_sigma = mean_of(changes);
  result.invented_per_4_megapixels = result.starless_megapixels > 0
                                         ? counted(result.invented, 4 / result.starless_megapixels)
                                         : Estimate{NAN, NAN, NAN};
  return result;
}

}  // namespace limpid
