// limpid evaluate: weights judged on simulated scenes of known truth.
#include <limpid/training.h>

#include "command.h"

namespace limpid::cli {
namespace {

struct Options {
  std::filesystem::path weights, previous, corpus, record;
  std::uint64_t seed = 1000;
  int scenes = 6;
  std::string device = "auto", precision = "auto";
};

nlohmann::ordered_json to_json(const Evaluation& evaluation) {
  nlohmann::ordered_json json;
  json["stars"] = nlohmann::ordered_json::array();
  for (const StarRow& r : evaluation.stars) {
    json["stars"].push_back({{"class", r.label},
                             {"fwhm_asked", r.asked_fwhm_ratio},
                             {"fwhm_achieved_over_asked", 1 + r.fwhm_ratio_error},
                             {"ellipticity_before", r.ellipticity_before},
                             {"ellipticity_after", r.ellipticity_after},
                             {"flux_error", r.flux_error},
                             {"centroid_px", r.centroid_error_px},
                             {"ring", r.ring_depth},
                             {"colour_shift_px", r.colour_shift_px},
                             {"stars", r.stars}});
  }
  json["nonstellar"] = nlohmann::ordered_json::array();
  for (const NebulaRow& r : evaluation.nebulae) {
    json["nonstellar"].push_back({{"class", r.label},
                                  {"network_db", r.network},
                                  {"previous_db", r.previous},
                                  {"guide_low_db", r.guide_low},
                                  {"guide_high_db", r.guide_high},
                                  {"richardson_lucy_db", r.richardson_lucy},
                                  {"richardson_lucy_iterations", r.richardson_lucy_iterations},
                                  {"best_linear_db", r.wiener_bound}});
  }
  json["noise_change_sigma"] = evaluation.noise_change_sigma;
  return json;
}

}  // namespace

void add_evaluate(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(app, common, "evaluate",
                  "Judges weights on simulated scenes of known truth; prints a table.",
                  "limpid evaluate models/limpid-1.safetensors --corpus corpus.safetensors");
  command.argument("weights", options->weights, "a safetensors file of 'limpid train'")
      .option("--corpus", options->corpus,
              "its held-out objects become the nebulae; without it they are procedural")
      .option("--previous", options->previous, "weights to compare with")
      .option("--scenes", options->scenes, {1, 1000}, "scenes per row of the table")
      .option("--seed", options->seed, "of the scenes")
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
    o.threads = common.threads();
    o.device = Device::parse(options->device);
    o.precision = parse_precision(options->precision);
    const Evaluation evaluation = evaluate(o, common.progress());
    if (!options->record.empty()) record_table(o.weights, options->record, evaluation.table());
    common.print({to_json(evaluation), evaluation.table()});
  });
}

}  // namespace limpid::cli
