// The sky's own gradient: modelled by a smooth spline, and taken out of the frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <limpid/image.h>
#include <limpid/progress.h>

namespace limpid {

/// One control point of the spline: where it lies and how bright the sky is there.
struct ControlPoint {
  float x = 0, y = 0;         ///< px of the frame; may lie outside
  std::vector<float> values;  ///< per channel, in the frame's units; none: the sky's around it
};

enum class Downscaling { median, mean };
enum class PointLayout { grid, random };
enum class BackgroundMode { subtract, divide };

struct BackgroundOptions {
  int control_points = 32;  ///< 4..400; a grid takes the nearest square number
  int order = 2;            ///< 2: thin plate, r^2 log r; 3: r^3
  int downscale = 8;        ///< 1..64; smaller for frames that would be left with fewer than 24 px
  Downscaling downscale_with = Downscaling::median;
  double stretch_quantile = 0.95;  ///< becomes white in the stretched frame, if the sky allows it
  float alpha = 5;                 ///< weight of overshoot and of a negative background
  /// Weight of the bending away from the robust start, a hundredth of it where no object is found;
  /// 0: as in the source.
  float complexity = 0.2F;
  float learning_rate = 0.001F;
  int max_iterations = 1000;  ///< 0: the starting values are the model
  PointLayout layout = PointLayout::grid;
  std::uint64_t seed = 0;
  int starts = 3;              ///< tried for a tenth of the iterations; the best goes on
  bool robust_start = true;    ///< values from a robust low-order fit; else from the pixels
  bool validate = true;        ///< a robust start is kept unless left-out pixels say otherwise
  bool auto_mask = true;       ///< stars, nebulae and galaxies are left out
  bool link_channels = false;  ///< one surface for all channels, in stretched units
  ConstView mask = {};         ///< (1, height, width) of the frame: 1 is sky, 0 is left out
  float mask_below = 0.001F, mask_above = 1.0F;  ///< stretched values outside are left out
  std::vector<ControlPoint> points = {};         ///< if not empty: the start, or with
                                                 ///< max_iterations 0 the model itself
  /// Background::correction(), with its `points`; counts where max_iterations is 0. Points without
  /// values take what the sky around them is beyond it.
  ConstView correction = {};
  /// Places of points that it was made with and that are not among `points`: there it says nothing
  /// any more, and it fades towards them from the nearest point that is left.
  std::vector<ControlPoint> removed_points = {};
  int threads = 0;
};

/// Pedestal, white and midtones of one channel: stretched = mtf((pixel - pedestal) / white).
struct SkyStretch {
  float pedestal = 0, white = 1, median = 0.25F;
  bool operator==(const SkyStretch&) const = default;
};

struct BackgroundReport {
  double loss = 0;           ///< of the model over all unmasked pixels, as in the source
  double bending = 0;        ///< energy that `complexity` multiplies, of what the fit changed
  double start_loss = 0;     ///< before the first iteration
  int iterations = 0;        ///< of all stages, the chosen start's
  int start = 0;             ///< which of the starts was best
  bool start_kept = false;   ///< the model is the robust start, see BackgroundOptions::validate
  std::vector<float> curve;  ///< loss (with bending) per iteration
  int downscale = 0;         ///< the factor really used
  double masked_share = 0;   ///< of the pixels with data
  double missing_share = 0;  ///< zero, NaN, border
  bool sky_hidden = false;   ///< nebulae nearly everywhere: the model is a plane at most
  std::vector<float> level;  ///< median of the model per channel, in the frame's units
  std::vector<float> range;  ///< largest minus smallest value of the model per channel
  std::vector<float> noise;  ///< of the frame's sky per channel, one pixel
  double seconds = 0;
  std::vector<std::string> notes;
};

/// Where the pixels of a part of the frame, or of the frame at a smaller scale, lie in it.
struct Sampling {
  double x = 0, y = 0;            ///< of the centre of the first pixel
  double step_x = 1, step_y = 1;  ///< from each pixel to the next; below 0: mirrored
};

/// A fitted sky. Holds what the fit saw, too, so that it can be shown.
class Background {
 public:
  [[nodiscard]] Size size() const { return size_; }
  [[nodiscard]] int channels() const { return static_cast<int>(stretch_.size()); }
  [[nodiscard]] int order() const { return order_; }
  [[nodiscard]] const std::vector<ControlPoint>& points() const { return points_; }
  /// What is added to the spline where the model is a robust start that it has too few points for,
  /// in the frame's units: (channels, rows, columns), spread evenly from the first pixel to the
  /// last. Empty: nothing.
  [[nodiscard]] const Image& correction() const { return correction_; }
  [[nodiscard]] const BackgroundReport& report() const { return report_; }
  /// What the fit saw: the downscaled stretched frame, and the mask of what took part, 0..1.
  [[nodiscard]] const Image& fitted_frame() const { return small_; }
  [[nodiscard]] const Image& fitted_mask() const { return small_mask_; }
  [[nodiscard]] const std::vector<SkyStretch>& stretch() const { return stretch_; }
  /// Whether a frame can be divided by it.
  [[nodiscard]] bool is_positive() const;
  /// One row of the model in the frame's units.
  void fill_row(int channel, int y, std::span<float> row) const;
  /// The whole model, shape (channels, height, width), in the frame's units.
  [[nodiscard]] Image render(int threads = 0) const;
  /// The model at other places than all pixels; beyond the frame that of its edge.
  [[nodiscard]] Image render(Size size, const Sampling& places) const;
  /// Six pictures in two rows: the stretched frame, the mask (masked red), the control points; the
  /// model with contours, the result, the loss over the iterations. Shape (3, height, width), 0..1.
  [[nodiscard]] Image preview() const;

 private:
  friend class BackgroundFitter;
  Background() = default;

  Size size_;
  int order_ = 2;
  std::vector<ControlPoint> points_;
  std::vector<SkyStretch> stretch_;
  Image correction_;
  Image nodes_;       ///< of the model in the frame's units, see src/background/lattice.h
  Image small_;       ///< the downscaled stretched frame
  Image small_mask_;  ///< what took part in the fit, 0..1
  BackgroundReport report_;
};

/// `frame`: 1 or 3 channels, linear; NaN and zero are missing. Throws Error(bad_input) for a frame
/// that has no sky (smaller than 16 px, constant, a channel without data), Error(usage) for options
/// out of range and a mask of another size, Error(failed) when the masks leave too little sky.
Background fit_background(ConstView frame, const BackgroundOptions& options = {},
                          const Progress& progress = {});

/// The same for a frame whose sky is fitted again and again, as on a page where options change:
/// what only the frame and its masks decide is kept. The pixels must outlive it. One call at a time.
class BackgroundFitter {
 public:
  explicit BackgroundFitter(ConstView frame);
  BackgroundFitter(BackgroundFitter&&) noexcept;
  BackgroundFitter& operator=(BackgroundFitter&&) noexcept;
  ~BackgroundFitter();
  /// As fit_background() does, with the same bytes.
  Background fit(const BackgroundOptions& options = {}, const Progress& progress = {});

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

struct RemoveOptions {
  BackgroundMode mode = BackgroundMode::subtract;
  bool neutral = false;  ///< all channels get the mean of the channels' sky levels
  int threads = 0;
};

struct RemoveReport {
  std::vector<float> level;  ///< per channel: what the model became, in frame units
  std::size_t below_zero = 0, above_one = 0;  ///< pixels that were not so before
};

/// In place: subtracts the model (or divides by it) and puts back its median, so that the frame
/// keeps its level; missing pixels stay. Nothing is clipped. Throws Error(failed) when a model to
/// divide by is not positive everywhere.
RemoveReport remove_background(MutableView frame, const Background& background,
                               const RemoveOptions& options = {});

/// The same for a part of the frame, or for the frame at a smaller scale, as a picture of it wants
/// it: `part` has its pixels at `places`. Where these are pixels of the frame, so are the values.
Image without_background(ConstView part, const Background& background, const Sampling& places,
                         const RemoveOptions& options = {});

/// Adds noise that is uniform over one step of the integers that the frame will be rounded to, so
/// that slow gradients do not become bands. Missing pixels stay.
void dither(MutableView frame, float step, std::uint64_t seed, int threads = 0);

}  // namespace limpid
