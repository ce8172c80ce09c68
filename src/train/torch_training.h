// What training, simulating and judging are made of, in the library that has LibTorch.
#pragma once

#include <limpid/training.h>

namespace limpid {

/// What Simulator hides.
class SceneDrawer {
 public:
  virtual ~SceneDrawer() = default;
  [[nodiscard]] virtual SimulatedScene draw(std::uint64_t index,
                                            const SceneOptions& options) const = 0;
  [[nodiscard]] virtual std::string corpus_hash() const = 0;
};

/// What CorpusBuilder hides.
class CorpusWriter {
 public:
  virtual ~CorpusWriter() = default;
  virtual void add(const CorpusSource& source) = 0;
  virtual void add_corpus(const std::filesystem::path& path) = 0;
  virtual CorpusReport finish() = 0;
};

/// Each as limpid/training.h says.
struct TorchTraining {
  std::unique_ptr<SceneDrawer> (*make_drawer)(const std::filesystem::path& corpus, bool validation,
                                              std::uint64_t seed, int psf_bank, int threads,
                                              const Progress& progress);
  std::unique_ptr<CorpusWriter> (*make_corpus_writer)(std::filesystem::path output,
                                                      CorpusOptions options);
  SimulatedNight (*simulate_night)(const NightOptions& options, const Progress& progress);
  void (*train)(const TrainOptions& options, const std::function<void(const TrainState&)>& log,
                const Progress& progress);
  Evaluation (*evaluate)(const EvaluateOptions& options, const Progress& progress);
  void (*record_table)(const std::filesystem::path& weights, const std::filesystem::path& copy,
                       const std::string& table);
};
extern const TorchTraining torch_training;

/// The same functions, for the table and for tests.
namespace by_libtorch {
std::unique_ptr<SceneDrawer> make_drawer(const std::filesystem::path& corpus, bool validation,
                                         std::uint64_t seed, int psf_bank, int threads,
                                         const Progress& progress);
std::unique_ptr<CorpusWriter> make_corpus_writer(std::filesystem::path output,
                                                 CorpusOptions options);
SimulatedNight simulate_night(const NightOptions& options, const Progress& progress);
void train(const TrainOptions& options, const std::function<void(const TrainState&)>& log,
           const Progress& progress);
Evaluation evaluate(const EvaluateOptions& options, const Progress& progress);
void record_table(const std::filesystem::path& weights, const std::filesystem::path& copy,
                  const std::string& table);
}  // namespace by_libtorch

}  // namespace limpid
