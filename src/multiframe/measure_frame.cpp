#include "multiframe/measure_frame.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

#include "core/fnv.h"
#include "measure/matched_filter.h"
#include "multiframe/match_skies.h"
#include "multiframe/match_wings.h"

namespace limpid::multiframe {
namespace {

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

std::array<int, 4> digest_of(const Image& image) {
  Fnv hash;
  for (const float value : image.pixels()) hash.add(std::bit_cast<std::uint32_t>(value));
  std::array<int, 4> digest{};
  for (std::size_t i = 0; i < digest.size(); ++i)
    digest[i] = static_cast<int>((hash.value() >> (16 * i)) & 0xffff);
  return digest;
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

}  // namespace

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
  result.digest = digest_of(image);
  const StarCatalogue catalogue =
      detect_stars(image.view(), {.max_fits = 500, .threads = options.threads});
  for (int c = 0; c < image.channels(); ++c) {
    const auto slot = static_cast<std::size_t>(c);
    const ConstView channel = image.view().channel(c);
    member.sky.push_back(catalogue.sky[slot].sky);
    member.sigma.push_back(catalogue.sky[slot].sigma);
    member.coverage.emplace_back(channel);
    member.cells.push_back(sky_cells(channel, member.coverage.back()));
    if (options.variance_maps) {
      const Image difference = neighbour_difference(channel);
      member.noise.emplace_back(difference.view(), member.coverage.back(), 64, lower_scatter,
                                options.threads);
    }
    if (!(member.sigma.back() > 0)) result.fault = "no noise can be measured in it";
  }
  result.thumbnail = without_sky(make_thumbnail(image.view(), member.coverage));
  for (int c = 0; c < image.channels(); ++c) {
    result.light.push_back(
        make_thumbnail(image.view().channel(c), {member.coverage[static_cast<std::size_t>(c)]}));
  }
  member.scale.assign(static_cast<std::size_t>(image.channels()), 1.0F);
  member.saturation = catalogue.saturation;
  result.points = brightest(catalogue, image.channels());
  result.stars = static_cast<int>(result.points.size());
  if (frame.psf.empty()) {
    auto field = fit_psf_field(image.view(), catalogue, options.threads);
    if (!field) {
      std::string fault;
      field = without_stars(image.view(), catalogue, options.threads, fault);
      if (psf_needed && !fault.empty()) result.fault = fault;
    }
    const Psf psf = field->mean_at(0.5F * static_cast<float>(size.width),
                                   0.5F * static_cast<float>(size.height));
    result.fwhm_px = psf.fwhm_px;
    result.ellipticity = psf.ellipticity();
    result.beta = psf.beta;
    result.wing_weight = wing_weight(catalogue);
    result.widest_px = psf.fwhm_px;
    result.stars = field->star_count();
    member.field = std::make_shared<const PsfField>(std::move(*field));
  } else {
    result.widest_px = static_cast<float>(frame.psf.width()) / 12;
  }
  return result;
}

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

}  // namespace limpid::multiframe
