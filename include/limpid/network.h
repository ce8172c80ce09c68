// A trained network: where it runs, what it says of itself, and one tile through it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

enum class Precision { automatic, f32, bf16 };
/// Reads "auto", "f32" or "bf16". Throws Error(usage).
Precision parse_precision(const std::string& text);

/// Where to compute. `automatic` takes the first CUDA device when there is one.
struct Device {
  enum class Kind { automatic, cpu, cuda } kind = Kind::automatic;
  int index = 0;
  /// Reads "auto", "cpu", "cuda" or "cuda:N". Throws Error(usage).
  static Device parse(const std::string& text);
};

/// What a weights file says of itself.
struct NetworkInfo {
  std::string name, architecture;
  std::int64_t parameters = 0, steps = 0;
  std::int64_t patches = 0;  ///< training patches seen
  std::string config_hash, corpus_hash;
  std::string validation_table;  ///< what `limpid evaluate` printed when it was published
  std::map<std::string, std::string> metadata;  ///< all of the file's
};

/// Side of the kernels that TileControls::residual holds.
inline constexpr int psf_kernel_px = 64;

/// What is wanted of one tile; constant over it.
struct TileControls {
  std::array<Psf, 3> measured;  ///< local PSF of each channel
  /// What the non-stellar guide planes undo; the measured one, or a round one given by hand.
  std::array<Psf, 3> nonstellar;
  /// What the Moffat profile leaves of the measured PSF (coma, spikes, wings): rows of
  /// `psf_kernel_px` squared, centre at psf_kernel_px / 2, as a share of the star's flux. Empty:
  /// unknown.
  std::array<std::vector<float>, 3> residual;
  /// What the non-stellar guide planes undo beyond `nonstellar`, far wings included. Empty: the
  /// residual where they undo the measured PSF, nothing else.
  std::array<std::vector<float>, 3> nonstellar_residual;
  float sharpen_stars = 0.25F, adjust_halos = 0, sharpen_nonstellar = 0.9F;
  bool mono = false;  ///< the three channels are copies of one
  /// Whether the non-stellar guide planes undo the same PSF as the stellar ones.
  [[nodiscard]] bool shared_psf() const;
  /// What the non-stellar guide planes undo beyond `nonstellar`.
  [[nodiscard]] std::span<const float> undone_residual(std::size_t channel) const;
  /// What the non-stellar guide planes undo, (1, psf_kernel_px, psf_kernel_px).
  [[nodiscard]] Image nonstellar_kernel(std::size_t channel) const;
};

/// Wanted PSFs, the same for all channels: round, with the mean FWHM and beta as reference.
struct WantedPsfs {
  Psf stellar, nonstellar;
};
/// Formulas of docs/method.md: FWHM times (1 - S), beta times 2^(-1.5 A); non-stellar FWHM times
/// (1 - N), never under `smallest_fwhm_px`.
WantedPsfs wanted_psfs(const TileControls& controls);
inline constexpr float smallest_fwhm_px = 1.0F;

/// The linear estimates that Network::run() made of one tile, kept for when it is run again with
/// the same pixels: those on which a changed control does not bear need not be made anew. On the
/// CPU; elsewhere nothing is kept. One call at a time.
class TileMemory {
 public:
  /// `settings`: of how many the estimates are kept; 36 bytes a pixel each for stars and the rest.
  explicit TileMemory(std::size_t settings);
  TileMemory(TileMemory&&) noexcept;
  TileMemory& operator=(TileMemory&&) noexcept;
  ~TileMemory();

 private:
  friend class Network;
  struct Body;
  std::unique_ptr<Body> body_;
};

/// Weights and where they run. Movable; hides LibTorch behind a private pointer.
class Network {
 public:
  /// Throws Error(bad_model) when the file is damaged or of an unknown architecture.
  static Network load(const std::filesystem::path& weights, Device device = {},
                      Precision precision = Precision::automatic);
  static NetworkInfo read_info(const std::filesystem::path& weights);
  Network(Network&&) noexcept;
  Network& operator=(Network&&) noexcept;
  ~Network();

  [[nodiscard]] const NetworkInfo& info() const;
  /// "cpu, float32", "cuda:0, bfloat16".
  [[nodiscard]] std::string device_text() const;
  [[nodiscard]] bool on_cpu() const;
  /// Margin that run() needs around what it returns, px.
  [[nodiscard]] static int margin_px();
  /// Tiles must have a width and height that are multiples of this, px.
  [[nodiscard]] static int granularity_px();
  /// `tile`: shape (3, h, w), in units of the sky noise over the sky, margin included, no NaN.
  /// `saturated`: (1, h - 2 margin, w - 2 margin), 1 where any channel is clipped. Returns the
  /// inner part, (3, h - 2 margin, w - 2 margin), or what is `wanted` of it, which begins and ends
  /// at multiples of granularity_px() and comes out the same. Several threads may call it at once,
  /// each with `threads` of its own on the CPU (0: all cores; their number may change the last
  /// bits). `memory`: of this tile; the result is the same without. Throws Error(exhausted) when
  /// the device's memory is out.
  [[nodiscard]] Image run(ConstView tile, ConstView saturated, const TileControls& controls,
                          int threads = 0, TileMemory* memory = nullptr,
                          std::optional<Rect> wanted = {}) const;

 private:
  struct Body;
  explicit Network(std::unique_ptr<Body> body);
  std::unique_ptr<Body> body_;
};

/// Weights files in the given folders, newest version first.
struct InstalledModel {
  std::filesystem::path path;
  NetworkInfo info;
};
std::vector<InstalledModel> installed_models();
/// `name` is "", a version such as "1" or "limpid-1", or a path. Throws Error(bad_model).
std::filesystem::path find_model(const std::string& name);

}  // namespace limpid
