// The public functions that LibTorch does the work of.
#include <limpid/training.h>

#include <utility>

#include "core/torch_library.h"
#include "train/torch_training.h"

namespace limpid {
namespace {

const TorchTraining& torch_for(const char* purpose) { return *torch_library(purpose).training; }

}  // namespace

std::string_view name(Aberration aberration) {
  constexpr std::array<std::string_view, aberration_count> names{
      "none",    "guiding",   "defocus", "coma",           "second coma",         "astigmatism",
      "trefoil", "spherical", "spider",  "lateral colour", "longitudinal colour", "channel seeing",
      "mixed"};
  return names[static_cast<std::size_t>(aberration)];
}

std::string_view name(Recording recording) {
  constexpr std::array<std::string_view, recording_count> names{
      "plain", "drizzled", "clipped", "dense cluster", "galaxy", "narrowband", "stretched"};
  return names[static_cast<std::size_t>(recording)];
}

struct CorpusBuilder::Body {
  std::unique_ptr<CorpusWriter> writer;
};

CorpusBuilder::CorpusBuilder(std::filesystem::path output, CorpusOptions options)
    : body_(std::make_unique<Body>(
          Body{torch_for("a corpus").make_corpus_writer(std::move(output), std::move(options))})) {}
CorpusBuilder::~CorpusBuilder() = default;
void CorpusBuilder::add(const CorpusSource& source) { body_->writer->add(source); }
void CorpusBuilder::add_corpus(const std::filesystem::path& path) {
  body_->writer->add_corpus(path);
}
CorpusReport CorpusBuilder::finish() && { return body_->writer->finish(); }

struct Simulator::Body {
  std::unique_ptr<SceneDrawer> drawer;
};

Simulator::Simulator(const std::filesystem::path& corpus, bool validation, std::uint64_t seed,
                     int psf_bank, int threads, const Progress& progress)
    : body_(std::make_unique<Body>(
          Body{torch_for("the simulator")
                   .make_drawer(corpus, validation, seed, psf_bank, threads, progress)})) {}
Simulator::Simulator(Simulator&&) noexcept = default;
Simulator::~Simulator() = default;
SimulatedScene Simulator::draw(std::uint64_t index, const SceneOptions& options) const {
  return body_->drawer->draw(index, options);
}
std::string Simulator::corpus_hash() const { return body_->drawer->corpus_hash(); }

SimulatedNight simulate_night(const NightOptions& options, const Progress& progress) {
  return torch_for("the simulator").simulate_night(options, progress);
}

void train(const TrainOptions& options, const std::function<void(const TrainState&)>& log,
           const Progress& progress) {
  torch_for("training").train(options, log, progress);
}

Evaluation evaluate(const EvaluateOptions& options, const Progress& progress) {
  return torch_for("evaluation").evaluate(options, progress);
}

void record_table(const std::filesystem::path& weights, const std::filesystem::path& copy,
                  const std::string& table) {
  torch_for("evaluation").record_table(weights, copy, table);
}

}  // namespace limpid
