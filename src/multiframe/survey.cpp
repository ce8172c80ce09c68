#include "multiframe/survey.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/matched_filter.h"
#include "multiframe/super_resolution.h"

namespace limpid::multiframe {
namespace {

/// A star as the comparison of frames needs it.
struct Point {
  float x = 0, y = 0;
  std::vector<float> flux;  ///< per channel; 0: not fitted there
  bool clean = false;       ///< fitted, neither clipped nor blended
};

/// What one pass over a frame gives.
struct Measured {
  Member member;
  std::vector<Point> points;
  float fwhm_px = 0;
  std::string fault;  ///< why it cannot take part
};

constexpr std::size_t most_points = 200;

std::vector<Point> brightest(const StarCatalogue& catalogue, int channels) {
  std::vector<Point> points;
  for (const Star& star : catalogue.stars) {
    if (points.size() == most_points) break;
    if (star.artefact || star.on_edge) continue;
    Point point{star.x, star.y, std::vector<float>(static_cast<std::size_t>(channels)),
                !star.fits.empty() && !star.saturated && !star.blended};
    for (std::size_t c = 0; c < star.fits.size() && c < point.flux.size(); ++c) {
      if (star.fits[c].psf.fwhm_px > 0) point.flux[c] = star.fits[c].flux;
    }
    if (point.clean && point.flux[0] > 0) {
      point.x = star.fits[0].x;
      point.y = star.fits[0].y;
    }
    points.push_back(std::move(point));
  }
  return points;
}

/// Scatter of the pixels about the slope between their neighbours in the row: sky noise without the
/// sky's own structure. Var(p - (a + b) / 2) = 1.5 sigma^2 for independent noise.
Image neighbour_difference(ConstView channel) {
  Image difference(1, channel.size(), std::numeric_limits<float>::quiet_NaN());
  for (int y = 0; y < channel.height(); ++y) {
    const auto from = channel.row(0, y);
    const auto to = difference.view().row(0, y);
    for (std::size_t x = 1; x + 1 < from.size(); ++x)
      to[x] = (from[x] - 0.5F * (from[x - 1] + from[x + 1])) / std::sqrt(1.5F);
  }
  return difference;
}

bool has_light(ConstView channel) {
  float first = std::numeric_limits<float>::quiet_NaN();
  for (int y = 0; y < channel.height(); ++y) {
    for (const float value : channel.row(0, y)) {
      if (!std::isfinite(value)) continue;
      if (std::isnan(first)) first = value;
      if (value != first) return true;
    }
  }
  return false;
}

PsfField without_stars(ConstView image, const StarCatalogue& catalogue, int threads,
                       std::string& fault) {
  // Too few stars for a field: a round PSF from the brightest fit, else from the power spectrum.
  for (const Star& star : catalogue.stars) {
    if (star.fits.empty() || star.saturated || star.blended || star.snr < 20) continue;
    Psf psf = star.fits[0].psf;
    psf.dx = psf.dy = 0;
    if (psf.fwhm_px > 0.7F && psf.ellipticity() < 0.5F)
      return PsfField::constant(psf, catalogue.frame, image.channels());
  }
  const auto spectral = estimate_psf_from_spectrum(image, threads);
  if (!spectral) fault = "no stars, and no PSF can be measured without; give one with --psf-dir";
  const Psf psf{spectral ? spectral->fwhm_px : 3.0F, 3, 0, 0, 0, 0};
  return PsfField::constant(psf, catalogue.frame, image.channels());
}

Measured measure(const InputFrame& frame, int index, Size size, const MultiframeOptions& options,
                 bool psf_needed) {
  Measured result;
  Member& member = result.member;
  member.index = index;
  Image image = read_working(frame, {0, 0, size.width, size.height}, options.luma);
  for (int c = 0; c < image.channels(); ++c) {
    if (!has_light(image.view().channel(c))) {
      result.fault = "empty: every pixel has the same value";
      return result;
    }
  }
  const StarCatalogue catalogue =
      detect_stars(image.view(), {.max_fits = 500, .threads = options.threads});
  for (int c = 0; c < image.channels(); ++c) {
    const auto slot = static_cast<std::size_t>(c);
    const ConstView channel = image.view().channel(c);
    member.sky.push_back(catalogue.sky[slot].sky);
    member.sigma.push_back(catalogue.sky[slot].sigma);
    member.coverage.emplace_back(channel);
    if (options.variance_maps) {
      const Image difference = neighbour_difference(channel);
      member.noise.emplace_back(difference.view(), member.coverage.back(), 64, lower_scatter,
                                options.threads);
    }
    if (!(member.sigma.back() > 0)) result.fault = "no noise can be measured in it";
  }
  member.scale.assign(static_cast<std::size_t>(image.channels()), 1.0F);
  member.saturation = catalogue.saturation;
  result.points = brightest(catalogue, image.channels());
  if (frame.psf.empty()) {
    auto field = fit_psf_field(image.view(), catalogue, options.threads);
    if (!field) {
      std::string fault;
      field = without_stars(image.view(), catalogue, options.threads, fault);
      if (psf_needed && !fault.empty()) result.fault = fault;
    }
    result.fwhm_px = field->mean_at(0.5F * static_cast<float>(size.width),
                                    0.5F * static_cast<float>(size.height))
                         .fwhm_px;
    member.field = std::make_shared<const PsfField>(std::move(*field));
  } else {
    result.fwhm_px = static_cast<float>(frame.psf.width()) / 12;
  }
  return result;
}

struct Pair {
  const Point *a, *b;
};

/// Each point of `a` and the nearest of `b` within `radius`.
std::vector<Pair> match(const std::vector<Point>& a, const std::vector<Point>& b, float radius) {
  std::vector<Pair> pairs;
  for (const Point& p : a) {
    const Point* nearest = nullptr;
    float least = radius;
    for (const Point& q : b) {
      const float distance = std::hypot(p.x - q.x, p.y - q.y);
      if (distance < least) {
        least = distance;
        nearest = &q;
      }
    }
    if (nearest != nullptr) pairs.push_back({&p, nearest});
  }
  return pairs;
}

/// Registered frames of one field share most of their brightest stars.
bool share_stars(const Measured& a, const Measured& b) {
  constexpr std::size_t compared = 60;
  const std::vector<Point> few_a(a.points.begin(),
                                 a.points.begin() + static_cast<std::ptrdiff_t>(
                                                        std::min(compared, a.points.size())));
  const std::vector<Point> few_b(b.points.begin(),
                                 b.points.begin() + static_cast<std::ptrdiff_t>(
                                                        std::min(compared, b.points.size())));
  const std::size_t fewer = std::min(few_a.size(), few_b.size());
  if (fewer < 3) return true;  // cannot be told
  // the brightest of the one among all of the other: depth and blending differ
  const auto pairs = few_a.size() <= few_b.size() ? match(few_a, b.points, 3.0F)
                                                  : match(few_b, a.points, 3.0F);
  return 10 * pairs.size() >= 4 * fewer;
}

/// The frame that shares its stars with the most others, and of those the one with most stars.
std::size_t find_reference(const std::vector<Measured>& frames) {
  std::size_t best = 0;
  std::pair<int, std::size_t> most{-1, 0};
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!frames[i].fault.empty()) continue;
    int friends = 0;
    for (std::size_t j = 0; j < frames.size(); ++j)
      friends += frames[j].fault.empty() && share_stars(frames[i], frames[j]) ? 1 : 0;
    const std::pair<int, std::size_t> score{friends, frames[i].points.size()};
    if (score > most) {
      most = score;
      best = i;
    }
  }
  return best;
}

/// Scale and shift against the reference, from the stars that both show well.
void compare(Measured& frame, const Measured& reference) {
  const auto pairs = match(frame.points, reference.points, 3.0F);
  std::vector<float> dx, dy;
  for (const auto& [own, other] : pairs) {
    if (!own->clean || !other->clean) continue;
    dx.push_back(own->x - other->x);
    dy.push_back(own->y - other->y);
  }
  if (dx.size() >= 3) {
    const Spread x = robust_spread(dx), y = robust_spread(dy);
    // 1.25 / sqrt(n): error of a median; a shift within twice that is none
    const float error = 1.25F / std::sqrt(static_cast<float>(dx.size()));
    if (std::abs(x.median) > 2 * error * x.sigma) frame.member.shift_x = x.median;
    if (std::abs(y.median) > 2 * error * y.sigma) frame.member.shift_y = y.median;
  }
  for (std::size_t c = 0; c < frame.member.scale.size(); ++c) {
    std::vector<float> ratios;
    for (const auto& [own, other] : pairs) {
      if (own->clean && other->clean && own->flux[c] > 0 && other->flux[c] > 0)
        ratios.push_back(std::log(own->flux[c] / other->flux[c]));
    }
    if (ratios.size() >= 3) frame.member.scale[c] = std::exp(median(ratios));
  }
}

/// Shifts and scales against the set's mean instead of one frame's: what the mean stack has.
void refer_to_mean(std::vector<Member>& members) {
  const auto count = static_cast<float>(members.size());
  float x = 0, y = 0;
  for (const Member& member : members) {
    x += member.shift_x / count;
    y += member.shift_y / count;
  }
  for (Member& member : members) {
    member.shift_x -= x;
    member.shift_y -= y;
  }
  for (std::size_t c = 0; c < members[0].scale.size(); ++c) {
    float mean = 0;
    for (const Member& member : members) mean += member.scale[c] / count;
    for (Member& member : members) member.scale[c] /= mean;
  }
}

void describe(const Measured& measured, Size size, FrameSummary& summary) {
  const Member& member = measured.member;
  summary.stars = static_cast<int>(measured.points.size());
  if (member.field) {
    const Psf psf = member.field->mean_at(0.5F * static_cast<float>(size.width),
                                          0.5F * static_cast<float>(size.height));
    summary.fwhm_px = psf.fwhm_px;
    summary.ellipticity = psf.ellipticity();
    summary.beta = psf.beta;
    summary.stars = member.field->star_count();
  }
  if (member.sky.empty()) return;
  summary.sky = member.sky[0];
  summary.sigma = member.sigma[0];
}

bool readable(const InputFrame& frame, int channels, std::string& fault) {
  if (frame.channels == channels && frame.size.width >= 32 && frame.size.height >= 32) return true;
  std::array<char, 120> text{};
  std::snprintf(text.data(), text.size(), "%d x %d pixels, %d channels: does not fit the others",
                frame.size.width, frame.size.height, frame.channels);
  fault = text.data();
  return false;
}

/// The number of channels that most frames have.
int usual_channels(std::span<const InputFrame> frames) {
  const auto count = [&](int channels) {
    return std::ranges::count_if(
        frames, [=](const InputFrame& f) { return f.fault.empty() && f.channels == channels; });
  };
  return count(3) > count(1) ? 3 : 1;
}

/// A frame much smaller than the others is left out instead of cutting all down to it.
Size common_size(std::span<const InputFrame> frames, std::vector<std::string>& faults) {
  std::vector<float> areas;
  for (std::size_t i = 0; i < frames.size(); ++i)
    if (faults[i].empty()) areas.push_back(static_cast<float>(frames[i].size.pixels()));
  if (areas.empty()) return {};
  const float usual = median(areas);
  Size size{1 << 30, 1 << 30};
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!faults[i].empty()) continue;
    if (static_cast<float>(frames[i].size.pixels()) < 0.5F * usual) {
      faults[i] = "less than half as large as the others";
      continue;
    }
    size = {std::min(size.width, frames[i].size.width),
            std::min(size.height, frames[i].size.height)};
  }
  return size;
}

/// Mean level of the set, and the typical noise of a frame, both with the scale taken out.
void set_levels(Survey& result) {
  for (int c = 0; c < result.channels; ++c) {
    const auto slot = static_cast<std::size_t>(c);
    double sky = 0;
    std::vector<float> sigmas;
    for (const Member& member : result.members) {
      sky += member.sky[slot] / static_cast<double>(result.members.size());
      sigmas.push_back(member.sigma[slot] / member.scale[slot]);
    }
    result.sky.push_back(static_cast<float>(sky));
    result.sigma.push_back(median(sigmas));
  }
}

}  // namespace

Image read_working(const InputFrame& frame, Rect rect, bool luma) {
  Image image = frame.read(rect);
  if (image.channels() != frame.channels || image.size() != rect.size())
    throw Error(ErrorKind::bad_input, frame.name + ": a part of it has another shape");
  const auto unit = static_cast<float>(frame.unit);
  if (luma && image.channels() > 1) {
    Image mean(1, image.size());
    const float share = unit / static_cast<float>(image.channels());
    for (int y = 0; y < image.height(); ++y) {
      const auto to = mean.view().row(0, y);
      for (int c = 0; c < image.channels(); ++c) {
        const auto from = image.view().row(c, y);
        for (std::size_t x = 0; x < to.size(); ++x) to[x] += share * from[x];
      }
    }
    return mean;
  }
  if (unit != 1) {
    for (float& value : image.pixels()) value *= unit;
  }
  return image;
}

Survey survey(std::span<const InputFrame> frames, const MultiframeOptions& options,
              bool psf_needed, const Progress& progress) {
  Survey result;
  const int file_channels = usual_channels(frames);
  result.channels = options.luma ? 1 : file_channels;
  std::vector<std::string> faults(frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    faults[i] = frames[i].fault;
    if (faults[i].empty()) {
      readable(frames[i], file_channels, faults[i]);
    }
  }
  result.size = common_size(frames, faults);
  std::vector<Measured> measured(frames.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    progress.throw_if_stopped();
    progress(static_cast<double>(i) / static_cast<double>(frames.size()), "measuring " + frames[i].name);
    if (faults[i].empty()) {
      try {
        measured[i] = measure(frames[i], static_cast<int>(i), result.size, options, psf_needed);
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::bad_input) throw;
        measured[i].fault = error.what();
      }
    } else {
      measured[i].fault = faults[i];
    }
  }
  const std::size_t reference = measured.empty() ? 0 : find_reference(measured);
  for (std::size_t i = 0; i < measured.size(); ++i) {
    FrameSummary summary;
    summary.name = frames[i].name;
    if (measured[i].fault.empty() && !share_stars(measured[i], measured[reference]))
      measured[i].fault = "shows other stars, or is misaligned by more than 3 px";
    describe(measured[i], result.size, summary);
    summary.reason = measured[i].fault;
    summary.used = measured[i].fault.empty();
    if (summary.used) {
      compare(measured[i], measured[reference]);
      result.widest_fwhm_px = std::max(result.widest_fwhm_px, measured[i].fwhm_px);
      result.members.push_back(std::move(measured[i].member));
    } else {
      std::string note = summary.name + ": left out, " + summary.reason;
      if (summary.reason.starts_with(summary.name)) note = "left out: " + summary.reason;
      progress.say(note);
      result.notes.push_back(note);
    }
    result.summaries.push_back(std::move(summary));
  }
  if (result.members.size() < 2) {
    throw Error(ErrorKind::bad_input,
                std::to_string(result.members.size()) + " of " + std::to_string(frames.size()) +
                    " frames can be used; at least two are needed" +
                    (result.notes.empty() ? "" : ": " + result.notes.front()));
  }
  result.reference = static_cast<int>(reference);
  refer_to_mean(result.members);
  set_levels(result);
  for (const Member& member : result.members) {
    FrameSummary& summary = result.summaries[static_cast<std::size_t>(member.index)];
    summary.scale = member.scale[0];
    summary.shift_x_px = member.shift_x;
    summary.shift_y_px = member.shift_y;
  }
  return result;
}

Image kernel_at(const Member& member, const InputFrame& frame, float x, float y, int channel,
                int side, float shift_u, float shift_v) {
  Image kernel(1, {side, side});
  shift_u += member.shift_x;
  shift_v += member.shift_y;
  if (member.field) {
    Psf psf = member.field->at(x, y, channel);
    psf.dx = shift_u;
    psf.dy = shift_v;
    std::vector<float> beyond;
    if (const EffectivePsf* effective = member.field->effective())
      beyond = effective->residual(x, y, channel, side, psf.dx, psf.dy);
    kernel = psf.kernel(side, beyond);
  } else {
    const ConstView given =
        frame.psf.view().channel(std::min(channel, frame.psf.channels() - 1));
    for (int v = 0; v < side; ++v) {
      const int from_v = v - side / 2 + given.height() / 2;
      for (int u = 0; u < side; ++u) {
        const int from_u = u - side / 2 + given.width() / 2;
        if (from_v >= 0 && from_v < given.height() && from_u >= 0 && from_u < given.width())
          kernel.view()(0, v, u) = given(0, from_v, from_u);
      }
    }
    if (shift_u != 0 || shift_v != 0) kernel = moved(kernel.view(), shift_u, shift_v);
  }
  double sum = 0;
  for (float& value : kernel.pixels()) {
    value = std::isfinite(value) ? std::max(value, 0.0F) : 0.0F;
    sum += value;
  }
  if (!(sum > 0)) throw Error(ErrorKind::bad_input, frame.name + ": its PSF has no light");
  for (float& value : kernel.pixels()) value = static_cast<float>(value / sum);
  return kernel;
}

}  // namespace limpid::multiframe
