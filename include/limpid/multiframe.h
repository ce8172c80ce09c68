// Many registered frames of one field, each with its own blur, into one that is sharper and deeper.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <limpid/hosts.h>
#include <limpid/image.h>
#include <limpid/network.h>
#include <limpid/progress.h>

namespace limpid {

/// One frame of the set. It is read by parts, again and again; one part at a time.
struct InputFrame {
  std::string name;  ///< for messages and the report
  Size size;
  int channels = 0;
  double unit = 1;  ///< what one pixel unit of this frame is in units that all frames share
  /// Pixels of a rectangle inside the frame. Error(bad_input) leaves the frame out of the set, in
  /// the middle of the iterations, too: they go on without it.
  std::function<Image(Rect)> read;
  /// Shape (1 or channels, ...); pixels over 0.5 are rejected, 0 is kept. Empty: nothing is.
  std::function<Image(Rect)> rejected = {};
  /// Shape (1 or channels, side, side), centre at (side / 2, side / 2). Empty: measured.
  Image psf = {};
  std::string fault = {};  ///< why it cannot be read, if so: it is left out and named
};

enum class Loss { huber, l2 };
/// robust: clipped running mean over a bootstrap of medians; median: of all frames.
enum class Seed { robust, median };

/// All that a run needs to go on where another one stopped.
struct MultiframeState {
  int iteration = 0;           ///< finished ones
  Image estimate;              ///< with its margin, in the solver's units
  std::vector<float> noise;    ///< what the residuals said of each frame's noise
  std::vector<float> history;  ///< update, change and smoothed values of each iteration
  std::vector<int> lost = {};  ///< input frames that became unreadable and are left out
};

struct IterationSummary {
  int iteration = 0;  ///< from 1
  double update = 0;  ///< mean |factor - 1| over the light above the sky
  double change = 0;  ///< sum |new - old| over the light above the sky
  double chi = 0;     ///< typical residual of the sky pixels in units of the noise
  double seconds = 0;
};

struct MultiframeOptions {
  Loss loss = Loss::huber;
  /// Where Huber's loss turns linear; below 0: in robust sigmas of each frame, above 0: in units of
  /// the set's typical sky noise.
  float huber_delta = -2.5F;
  float reject_sigma = 6;  ///< residuals over this many sigmas weigh nothing (huber only)
  float kappa = 2;         ///< an iteration changes a pixel by this factor at most
  float relax = 0.7F;      ///< 0..1: share of the update that is taken
  int iterations = 20, min_iterations = 3;
  bool early_stop = true;
  Seed seed = Seed::robust;
  /// Of the frames' common size, in shared units or others of its own; instead of `seed`. Gaps are
  /// filled.
  ConstView seed_image = {};
  std::string seed_name = "the seed";  ///< for messages
  bool luma = false;         ///< solve for the mean of the channels; the result has one channel
  int super_resolution = 1;  ///< 1..4: the result has this many times the pixels per side
  float sr_sigma = 1.1F;     ///< px of the fine grid: Gaussian that a star of the result approaches
  int sr_psf_iterations = 250;
  bool star_masks = false;     ///< clipped cores weigh nothing
  bool variance_maps = false;  ///< local sky noise and photon noise in place of one sigma per frame
  int psf_grid = 1;            ///< PSFs vary over this many cells per side
  std::size_t memory_bytes = 0;  ///< bound of the peak; 0: half of what is free
  int threads = 0;
  Device device = {};  ///< where iterations compute; all else is done by the processor
  Hosts hosts = {};
  const MultiframeState* resume = nullptr;  ///< of the same frames and options
  std::function<void(const IterationSummary&)> on_iteration = {};  ///< after each; on every host
  /// After each iteration, and once a frame is lost; called on host 0 only, but all hosts must have
  /// one, or none.
  std::function<void(const MultiframeState&)> save_state = {};
  /// The same. `result` is in the units of the input frame `reference`, as Multiframe::image.
  std::function<void(int iteration, const Image& result, int reference)> save_iteration = {};
  /// Called before memory for `frames` at a time in tiles of `tile_px` is taken. What it throws as
  /// Error(exhausted) counts as memory running out.
  std::function<void(int frames, int tile_px)> on_memory = {};
};

/// What became of one frame.
struct FrameSummary {
  std::string name;
  bool used = false;
  std::string reason;  ///< why it was left out
  int stars = 0;       ///< that its PSF comes from
  double fwhm_px = 0, ellipticity = 0, beta = 0;
  double sky = 0, sigma = 0;              ///< first channel, in the frame's units
  double scale = 1;                       ///< light against the mean of the set
  double shift_x_px = 0, shift_y_px = 0;  ///< against the mean of the set
  double weight = 0;                      ///< share of all weights
  double rejected = 0;  ///< share of the pixels with weight zero in the last iteration
  double softened = 0;  ///< share that Huber's loss weighed down
  double misfit = 0;    ///< error of the prediction in bright light, as a share of the light
};

struct MultiframeReport {
  std::vector<FrameSummary> frames;
  std::vector<IterationSummary> iterations;
  bool stopped_early = false;
  Size size;  ///< of the common part of the frames
  int frames_used = 0;
  int reference = 0;  ///< index of the frame whose metadata fit the result
  int kernel_px = 0;  ///< side of the PSFs
  int tiles = 0;      ///< per iteration
  Size tile;          ///< of the Fourier transforms
  int frames_at_once = 0;
  bool frames_in_memory = false;
  std::size_t memory_bytes = 0;  ///< what was planned for
  std::string device;            ///< of the last iteration: "cpu", "cuda:0"
  double measure_seconds = 0, seed_seconds = 0, solve_seconds = 0;
  double transform_share = 0;       ///< of the solver's processor time spent in Fourier transforms
  double transforms_per_frame = 0;  ///< and iteration, channel and tile
  std::vector<std::string> notes;
};

struct Multiframe {
  Image image;  ///< in the reference frame's units; NaN where no frame has data
  MultiframeReport report;
};

/// Frames must be registered and share their number of channels; the part that all cover from pixel
/// (0, 0) on is used. A frame that cannot be read, is empty, or shows other stars is left out and
/// named. With super-resolution the light of each pixel is shared among its fine pixels.
/// Formulas: docs/method.md (Sukurdeep et al. 2025, doi 10.3847/1538-3881/adfb72).
/// Throws Error(bad_input) when fewer than two frames are left, Error(failed) when no PSF can be
/// measured, Error(usage) for options out of range, Error(exhausted) when the memory is too small.
Multiframe deconvolve_frames(std::span<const InputFrame> frames,
                             const MultiframeOptions& options = {}, const Progress& progress = {});

/// clipped: the mean without values over 3 standard deviations from the median, until none is left.
enum class Stacking { mean, median, clipped };
/// The stack of the frames' matched pixels, on one grid: what the result is compared with.
Image stack_frames(std::span<const InputFrame> frames, Stacking stacking = Stacking::mean,
                   const MultiframeOptions& options = {}, const Progress& progress = {});

}  // namespace limpid
