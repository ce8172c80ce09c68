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

#include <limpid/hosts.h>
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
  double max_megapixels = 60;  ///< patches with the least structure are left out first
  double max_megabytes = 0;    ///< of the file, in millions of bytes; 0: no limit
  int bits = 16;  ///< 8: a quarter of the bytes; brightness in 256 steps, colour of 2x2 pixels
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
  /// The patches of another corpus, as it has split them.
  void add_corpus(const std::filesystem::path& path);
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

/// What was recorded, and how, beside the telescope's faults.
enum class Recording {
  plain,
  drizzled,    ///< onto pixels half as wide: wider PSF, correlated noise
  clipped,     ///< stars of 1 to 300 times full scale
  cluster,     ///< 0.05 stars per pixel, denser in the middle
  galaxy,      ///< one that fills the frame, four stars at most
  narrowband,  ///< three unlike channels, up to 75 times apart in brightness
  stretched,   ///< a mild histogram transformation came before
};
inline constexpr int recording_count = 7;
std::string_view name(Recording recording);

/// What is drawn; every field that is not set is drawn at random.
struct SceneOptions {
  int side_px = 192;
  std::optional<Aberration> aberration = {};
  std::optional<Recording> recording = {};  ///< not set: plain in two of three scenes
  std::optional<double> fwhm_px = {};       ///< aimed at; the fitted one differs
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
  Recording recording = Recording::plain;
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
  double flux_weight = 1.0;       ///< of the errors of 4x4 means
  int flux_levels = 1;            ///< and of means of blocks 8, 16, ... px wide: so many sizes
  double slope_weight = 0.25;     ///< of the differences between neighbouring pixels' errors
  double large_error_weight = 1;  ///< of the squares of errors up to four units
  /// Over 0: scenes count by the logarithm of their loss plus this, as decibels do, so that those
  /// with the largest errors, clipped cores that nobody can know, do not drown the others.
  double scene_floor = 0;
  int reuse = 2;  ///< times each scene is shown, newly turned and recoloured
  int psf_bank = 512;
  std::uint64_t seed = 1;
  int loader_threads = 1, threads = 0;
  double checkpoint_minutes = 5;
  double log_seconds = 20;  ///< between two calls of `log`; 0: after every step
  Device device;
  Precision precision = Precision::automatic;  ///< of the convolutions; weights stay float32
  bool resume = false;
  /// Data-parallel: each host takes `batch` patches per step, gradients are averaged, host 0 writes
  /// and logs. The loss is that of one host with `count` times the batch.
  Hosts hosts = {};
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
/// are on disk then. `log`, if given, is called every `log_seconds`.
void train(const TrainOptions& options, const std::function<void(const TrainState&)>& log = {},
           const Progress& progress = {});

// ---- evaluation --------------------------------------------------------------------------------

struct EvaluateOptions {
  std::filesystem::path weights, previous, corpus;
  std::uint64_t seed = 1000;
  int scenes = 6;    ///< per row of the table
  std::string only;  ///< rows whose label contains this; empty: all
  /// The network and its guide planes alone: no measured PSF, no Richardson-Lucy, no Wiener filter,
  /// and no use of `restore` and `agree`. Takes a fraction of the time; for runs that are compared.
  bool network_only = false;
  int threads = 0;
  Device device;
  Precision precision = Precision::automatic;
  /// How a program restores a frame (3, height, width) by what it measures there itself, with the
  /// sharpening that `asked` names; returns an empty image where it finds too little. Its stars are
  /// judged beside those of the network alone, which is told the PSF with errors.
  std::function<Image(ConstView frame, const TileControls& asked)> restore = {};
  /// What that program does with nebulae after the network: agree_with_record().
  std::function<void(ConstView frame, const StarCatalogue& known, const TileControls& controls,
                     MutableView result)>
      agree = {};
};

/// A figure and its 95 % interval; the ends are NaN when there are too few scenes for one.
struct Estimate {
  double value = 0, low = 0, high = 0;
};

/// Median over the isolated unsaturated stars of a row, with the number of stars.
struct StarRow {
  std::string label;
  double asked_fwhm_ratio = 0;
  Estimate fwhm_ratio_error;  ///< achieved / asked - 1
  Estimate ellipticity_before, ellipticity_after, flux_error, flux_to_wanted, centroid_before_px,
      centroid_after_px, ring_depth, colour_shift_px, previous_fwhm_ratio_error;
  int stars = 0;
};
/// Gain over the input, dB, against the wanted picture; NaN where a method does not apply.
struct NebulaRow {
  std::string label;
  Estimate network, previous, guide_low, guide_high, richardson_lucy, variation_lucy, wiener_bound;
  /// The network told the PSF that limpid measures in 300 stars of the same telescope, instead of
  /// the true one with simulated errors. NaN where not every scene has one.
  Estimate measured_psf;
  /// As `limpid deconvolve` makes them: told the measured PSF where there is one, and in agreement
  /// with the record. NaN without EvaluateOptions::agree.
  Estimate in_use;
  Estimate over_lucy;  ///< in use, or the network, less the better of both kinds of Richardson-Lucy
  int richardson_lucy_steps = 0, variation_lucy_steps = 0, scenes = 0;
  double variation = 0;  ///< weight of the total variation
};
/// Stars whose cores were clipped: the light within four FWHM against the wanted picture.
struct ClippedRow {
  std::string label;
  Estimate gain_db, light_error, ring_depth;  ///< ring: below the wanted picture, over full scale
  Estimate peak_ratio;                        ///< highest pixel over that of the wanted picture
  int stars = 0;
};
struct Evaluation {
  std::vector<StarRow> stars;          ///< the network alone
  std::vector<StarRow> program_stars;  ///< EvaluateOptions::restore, where it was given
  std::vector<NebulaRow> nebulae;
  std::vector<ClippedRow> clipped;          ///< the network alone
  std::vector<ClippedRow> program_clipped;  ///< EvaluateOptions::restore, where it was given
  Estimate noise_change_sigma;              ///< rms change of pure noise
  /// In results of starless scenes, as in use, or the network's without EvaluateOptions::agree:
  /// what is found at 5 sigma and of whose light the wanted picture lacks more than half.
  Estimate invented_per_4_megapixels;
  int invented = 0, invented_by_network = 0;
  int unseen = 0;  ///< found at 5 sigma where the wanted picture shows no star at 3.5
  double starless_megapixels = 0;
  [[nodiscard]] std::string table() const;  ///< Markdown
};
Evaluation evaluate(const EvaluateOptions& options, const Progress& progress = {});
/// A copy of the weights that carries `table` as its validation table.
void record_table(const std::filesystem::path& weights, const std::filesystem::path& copy,
                  const std::string& table);

}  // namespace limpid
