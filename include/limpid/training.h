// Simulated frames of known truth, and networks trained and judged on them.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/network.h>
#include <limpid/progress.h>
#include <limpid/stars.h>

namespace limpid {

// ---- corpus ------------------------------------------------------------------------------------

/// One sharp image for the corpus.
struct CorpusSource {
  std::string name;    ///< file name, for the manifest
  std::string object;  ///< images of one object stay on one side of the split
  std::string credit;
  double reduce = 1;    ///< area-averaged by this factor first
  bool linear = false;  ///< values are proportional to light (else a stretched picture)
  Image image;          ///< 1 or 3 channels in [0,1]
};

struct CorpusOptions {
  int patch_px = 512;
  double max_megapixels = 60;           ///< patches with the least structure are left out first
  std::vector<std::string> validation;  ///< objects whose name contains one of these words
};

struct CorpusReport {
  int training_patches = 0, validation_patches = 0, stars_removed = 0;
  std::string manifest_hash;
};

/// Sharp star-free patches, packed into one safetensors file.
class CorpusBuilder {
 public:
  CorpusBuilder(std::filesystem::path output, CorpusOptions options);
  ~CorpusBuilder();
  /// Reduces, removes stars, cuts patches.
  void add(const CorpusSource& source);
  CorpusReport finish() &&;

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

// ---- simulator ---------------------------------------------------------------------------------

/// What blurs a simulated frame beside seeing and pixel.
enum class Aberration {
  none,
  guiding,
  defocus,
  coma,
  second_coma,
  astigmatism,
  trefoil,
  spherical,
  spider,
  lateral_colour,
  longitudinal_colour,
  channel_seeing,
  mixed,
};
inline constexpr int aberration_count = 13;
std::string_view name(Aberration aberration);

/// What is drawn; every field that is not set is drawn at random.
struct SceneOptions {
  int side_px = 192;
  std::optional<Aberration> aberration = {};
  std::optional<double> fwhm_px = {};  ///< aimed at; the fitted one differs
  std::optional<double> sharpen_stars = {}, adjust_halos = {}, sharpen_nonstellar = {};
  std::optional<int> stars = {};
  std::optional<double> star_peak_min = {}, star_peak_max = {};  ///< in units of the sky noise
  std::optional<bool> nebula = {};
  std::optional<double> nebula_peak = {};  ///< 99th percentile, in units of the sky noise
  std::optional<bool> saturation = {}, correlated_noise = {}, mono = {};
  bool isolated_stars = false;  ///< on a jittered lattice, eight FWHM apart
  bool procedural_only = false;
  std::optional<bool> residual_known =
      {};  ///< enough stars to tell the PSF's departure from a Moffat
  std::optional<bool> sky_misjudged = {};  ///< the level taken for the sky lies over or under it
  bool perturb_measurement =
      true;  ///< the PSF handed over differs from the true one as a measured one would
  /// How badly FWHM, ellipticity and place are measured, as a share of SPEC 3.4's perturbation.
  std::optional<double> measurement_error = {};
};

/// One simulated star, its place in the frame and what it weighs in each channel.
struct SimulatedStar {
  float x = 0, y = 0;
  std::array<float, 3> flux{};
  bool saturated = false;
};

/// A simulated recording and what should become of it. All images have shape (3, side, side), in
/// units of the sky noise over the sky. `input` and `target` share their noise.
struct SimulatedScene {
  Image input, target, saturated;
  Image blurred;                 ///< the input without noise and clipping
  Image ideal;                   ///< the target without noise
  std::array<Image, 3> kernels;  ///< the true PSF at the centre, per channel, (1, 64, 64)
  std::vector<SimulatedStar> stars;
  std::array<Psf, 3> true_psf;
  TileControls controls;
  WantedPsfs wanted;  ///< of the true PSF
  Aberration aberration = Aberration::none;
  double saturation_level = 0;  ///< 0: none
};

/// Draws scenes; the same seed and index give the same scene.
class Simulator {
 public:
  /// `corpus`: a file of CorpusBuilder, or empty for procedural scenes alone. `validation` takes
  /// the held-out objects. `psf_bank`: how many PSFs are prepared and shared by all scenes.
  Simulator(const std::filesystem::path& corpus, bool validation, std::uint64_t seed, int psf_bank,
            int threads, const Progress& progress = {});
  Simulator(Simulator&&) noexcept;
  ~Simulator();
  [[nodiscard]] SimulatedScene draw(std::uint64_t index, const SceneOptions& options = {}) const;
  [[nodiscard]] std::string corpus_hash() const;

  struct Body;
  [[nodiscard]] const Body& body() const { return *body_; }

 private:
  std::unique_ptr<Body> body_;
};

/// A whole simulated night: nebula, dust, stars, coma growing to the corners, colour, noise.
struct NightOptions {
  Size size{1536, 1024};
  std::uint64_t seed = 1;
  double fwhm_px = 3.6;
  int stars = 5000;
  int threads = 0;
  double noise = 1;   ///< factor on that of the sensor and the photons
  double nebula = 1;  ///< factor on the light that is no stars'
};
struct SimulatedNight {
  Image recorded;  ///< (3, height, width), in [0,1], with noise and clipped cores
  Image truth;  ///< the same scene, stars (1 - 0.25) times as wide, nebula with 1 px FWHM, no noise
  std::vector<SimulatedStar> stars;
};
SimulatedNight simulate_night(const NightOptions& options, const Progress& progress = {});

// ---- trainer -----------------------------------------------------------------------------------

struct TrainOptions {
  std::filesystem::path corpus, output;  ///< weights; the checkpoint lies beside as .checkpoint
  std::string name = "limpid";
  std::string architecture = "guided_unet";
  std::vector<int> widths{48, 96};
  std::vector<int> blocks{0, 1, 1};
  std::int64_t steps = 40000;
  int batch = 8, patch_px = 192;
  double learning_rate = 1e-3, final_learning_rate = 2e-5;
  std::int64_t warm_up_steps = 300;
  double decay_fraction = 0.25;   ///< of the steps, at the end, linear to the final rate
  double weight_average = 0.999;  ///< exponential moving average of the weights
  double gradient_clip = 1.0;
  double relative_weight = 0.02;  ///< errors count in units of noise plus this share of the light
  double flux_weight = 1.0;       ///< of the 4x4-mean term
  double slope_weight = 0.25;     ///< of the differences between neighbouring pixels' errors
  double large_error_weight = 1;  ///< of the squares of errors up to four units
  int reuse = 2;                  ///< times each scene is shown, newly turned and recoloured
  int psf_bank = 512;
  std::uint64_t seed = 1;
  int loader_threads = 1, threads = 0;
  double checkpoint_minutes = 5;
  Device device;
  Precision precision = Precision::automatic;  ///< of the convolutions; weights stay float32
  bool resume = false;
  /// Start from these instead of from random ones; they may have fewer residual blocks, and those
  /// added change nothing until they are trained (Net2Net: Chen, Goodfellow and Shlens 2016).
  std::filesystem::path initial_weights;
  std::string config_text;  ///< the configuration file, kept in the weights by its hash
};

struct TrainState {
  std::int64_t step = 0;
  double loss = 0, identity_loss = 0, patches_per_s = 0, loader_share = 0, wait_share = 0,
         seconds_left = 0, learning_rate = 0;
};
/// Returns when all steps are done or a stop was requested; a checkpoint and the averaged weights
/// are on disk then. `log`, if given, is called about every 20 s.
void train(const TrainOptions& options, const std::function<void(const TrainState&)>& log = {},
           const Progress& progress = {});

// ---- evaluation --------------------------------------------------------------------------------

struct EvaluateOptions {
  std::filesystem::path weights, previous, corpus;
  std::uint64_t seed = 1000;
  int scenes = 6;  ///< per row of the table
  int threads = 0;
  Device device;
  Precision precision = Precision::automatic;
};

/// Median over the isolated unsaturated stars of a row, with the number of stars.
struct StarRow {
  std::string label;
  double asked_fwhm_ratio = 0, fwhm_ratio_error = 0;  ///< achieved / asked - 1
  double ellipticity_before = 0, ellipticity_after = 0;
  double flux_error = 0, flux_scatter = 0, centroid_error_px = 0, ring_depth = 0,
         colour_shift_px = 0;
  double previous_fwhm_ratio_error = 0;
  int stars = 0;
};
/// Non-stellar gain over the input, dB.
struct NebulaRow {
  std::string label;
  double network = 0, previous = 0, guide_low = 0, guide_high = 0, richardson_lucy = 0,
         wiener_bound = 0;
  int richardson_lucy_iterations = 0, scenes = 0;
};
struct Evaluation {
  std::vector<StarRow> stars;
  std::vector<NebulaRow> nebulae;
  double noise_change_sigma = 0;            ///< rms change of pure noise
  [[nodiscard]] std::string table() const;  ///< Markdown
};
Evaluation evaluate(const EvaluateOptions& options, const Progress& progress = {});
/// A copy of the weights that carries `table` as its validation table.
void record_table(const std::filesystem::path& weights, const std::filesystem::path& copy,
                  const std::string& table);

}  // namespace limpid
