// limpid evaluate: weights judged on simulated scenes of known truth.
#include <cmath>
#include <memory>

#include <limpid/error.h>
#include <limpid/training.h>
#ifndef LIMPID_TRAINER_ONLY
#include <limpid/deconvolve.h>
#endif

#include "command.h"

namespace limpid::cli {
namespace {

struct Options {
  std::filesystem::path weights, previous, corpus, record;
  std::string only;
  bool network_only = false;
  std::uint64_t seed = 1000;
  int scenes = 6;
  std::string device = "auto", precision = "auto";
};

using nlohmann::ordered_json;

ordered_json number(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}

/// The figure with the ends of its 95 % interval; null for what does not apply.
ordered_json to_json(const Estimate& e, double offset = 0) {
  return {{"value", number(e.value + offset)},
          {"low", number(e.low + offset)},
          {"high", number(e.high + offset)}};
}

ordered_json to_json(const std::vector<StarRow>& rows) {
  ordered_json json = ordered_json::array();
  for (const StarRow& r : rows) {
    json.push_back({{"class", r.label},
                    {"fwhm_asked", r.asked_fwhm_ratio},
                    {"fwhm_achieved_over_asked", to_json(r.fwhm_ratio_error, 1)},
                    {"ellipticity_before", to_json(r.ellipticity_before)},
                    {"ellipticity_after", to_json(r.ellipticity_after)},
                    {"flux_error", to_json(r.flux_error)},
                    {"flux_to_wanted", to_json(r.flux_to_wanted)},
                    {"centroid_before_px", to_json(r.centroid_before_px)},
                    {"centroid_px", to_json(r.centroid_after_px)},
                    {"ring", to_json(r.ring_depth)},
                    {"colour_shift_px", to_json(r.colour_shift_px)},
                    {"stars", r.stars}});
  }
  return json;
}

ordered_json to_json(const Evaluation& evaluation) {
  ordered_json json;
  json["stars"] = to_json(evaluation.stars);
  if (!evaluation.program_stars.empty()) json["program_stars"] = to_json(evaluation.program_stars);
  json["nonstellar"] = ordered_json::array();
  for (const NebulaRow& r : evaluation.nebulae) {
    json["nonstellar"].push_back({{"class", r.label},
                                  {"network_db", to_json(r.network)},
                                  {"previous_db", to_json(r.previous)},
                                  {"network_measured_psf_db", to_json(r.measured_psf)},
                                  {"in_use_db", to_json(r.in_use)},
                                  {"guide_low_db", to_json(r.guide_low)},
                                  {"guide_high_db", to_json(r.guide_high)},
                                  {"richardson_lucy_db", to_json(r.richardson_lucy)},
                                  {"richardson_lucy_steps", r.richardson_lucy_steps},
                                  {"variation_lucy_db", to_json(r.variation_lucy)},
                                  {"variation_lucy_steps", r.variation_lucy_steps},
                                  {"variation", r.variation},
                                  {"over_better_lucy_db", to_json(r.over_lucy)},
                                  {"best_linear_db", to_json(r.wiener_bound)},
                                  {"scenes", r.scenes}});
  }
  const auto clipped = [](const std::vector<ClippedRow>& rows) {
    auto list = ordered_json::array();
    for (const ClippedRow& r : rows) {
      list.push_back({{"class", r.label},
                      {"gain_db", to_json(r.gain_db)},
                      {"light_error", to_json(r.light_error)},
                      {"ring", to_json(r.ring_depth)},
                      {"peak_over_wanted", to_json(r.peak_ratio)},
                      {"stars", r.stars}});
    }
    return list;
  };
  json["clipped"] = clipped(evaluation.clipped);
  json["program_clipped"] = clipped(evaluation.program_clipped);
  json["noise_change_sigma"] = to_json(evaluation.noise_change_sigma);
  json["invented"] = {{"stars", evaluation.invented},
                      {"stars_by_network", evaluation.invented_by_network},
                      {"unseen_in_wanted", evaluation.unseen},
                      {"megapixels", evaluation.starless_megapixels},
                      {"per_4_megapixels", to_json(evaluation.invented_per_4_megapixels)}};
  return json;
}

/// `limpid deconvolve` with these weights; nothing in the trainer alone, which has no such command.
std::function<Image(ConstView, const TileControls&)> restoration(const EvaluateOptions& o) {
#ifdef LIMPID_TRAINER_ONLY
  (void)o;
  return {};
#else
  const auto network =
      std::make_shared<const Network>(Network::load(o.weights, o.device, o.precision));
  return [network, threads = o.threads](ConstView frame, const TileControls& asked) {
    DeconvolveOptions options;
    options.sharpen_stars = asked.sharpen_stars;
    options.sharpen_nonstellar = asked.sharpen_nonstellar;
    options.threads = threads;
    options.check = false;
    try {
      return deconvolve(frame, *network, options).image;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::failed) throw;
      return Image();  // no star tells the PSF
    }
  };
#endif
}

/// What that command does with nebulae after the network; nothing in the trainer alone.
decltype(EvaluateOptions::agree) agreement(const EvaluateOptions& o) {
#ifdef LIMPID_TRAINER_ONLY
  (void)o;
  return {};
#else
  return [threads = o.threads](ConstView frame, const StarCatalogue& known,
                               const TileControls& controls, MutableView result) {
    agree_with_record(frame, known, controls, result, threads);
  };
#endif
}

}  // namespace

void add_evaluate(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(app, common, "evaluate",
                  "Judges weights on simulated scenes of known truth; prints a table with 95 % "
                  "intervals (bootstrap over scenes).",
                  "limpid evaluate models/limpid-2.safetensors --corpus corpus.safetensors");
  command.argument("weights", options->weights, "a safetensors file of 'limpid train'")
      .option("--corpus", options->corpus,
              "its held-out objects become the nebulae; without it they are procedural")
      .option("--previous", options->previous, "weights to compare with")
      .option("--scenes", options->scenes, {1, 1000},
              "scenes per row of the table; no intervals with fewer than three")
      .option("--only", options->only, "rows whose name contains this, such as mono or S/N")
      .option("--seed", options->seed, "of the scenes")
      .flag("--network-only", options->network_only,
            "without Richardson-Lucy, the best linear filter and what 'limpid deconvolve' makes of "
            "it: a quick look")
      .option("--record", options->record, "write a copy of the weights that carries this table")
      .choice("--precision", options->precision, {"auto", "f32", "bf16"}, "of the convolutions")
      .device(options->device);
  command.run([options, common] {
    EvaluateOptions o;
    o.weights = options->weights;
    o.previous = options->previous;
    o.corpus = options->corpus;
    o.seed = options->seed;
    o.scenes = options->scenes;
    o.only = options->only;
    o.threads = common.threads();
    o.device = Device::parse(options->device);
    o.precision = parse_precision(options->precision);
    o.network_only = options->network_only;
    if (o.network_only && !options->record.empty())
      throw Error(ErrorKind::usage, "--record keeps the whole table: leave --network-only out");
    o.restore = restoration(o);
    o.agree = agreement(o);
    const Evaluation evaluation = evaluate(o, common.progress());
    if (!options->record.empty()) record_table(o.weights, options->record, evaluation.table());
    common.print({to_json(evaluation), evaluation.table()});
  });
}

}  // namespace limpid::cli
