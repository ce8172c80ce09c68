#include <limpid/deconvolve.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <mutex>

#include <limpid/error.h>
#include <limpid/tiles.h>

#include "core/fft.h"
#include "core/parallel.h"
#include "restore/consistency.h"
#include "restore/halos.h"
#include "restore/holes.h"
#include "restore/light_balance.h"
#include "restore/normalise.h"
#include "restore/reblur.h"
#include "restore/star_width.h"

namespace limpid {
namespace {

constexpr float narrowest_fwhm_px = 1.3F;  // under it stars are single pixels: nothing to sharpen
constexpr float widest_fwhm_px = 8.0F;     // over it the frame is processed on a binned grid
constexpr int most_tiles_at_once = 8;      // each needs some 60 MB
constexpr int most_fits = 300;             // stars that tell the PSF; more tell nothing new
constexpr int smallest_tile_px = 128;      // the last resort when memory is short
constexpr float assumed_fwhm_px = 3.0F, assumed_beta = 4.0F;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void check(ConstView frame, const DeconvolveOptions& o) {
  const auto within = [](float value, float low, float high, const char* what) {
    if (!(value >= low && value <= high)) {
      throw Error(ErrorKind::usage, std::string(what) + " must lie between " + std::to_string(low) +
                                        " and " + std::to_string(high));
    }
  };
  within(o.sharpen_stars, 0, 0.7F, "--sharpen-stars");
  within(o.adjust_halos, -0.5F, 0.5F, "--adjust-halos");
  within(o.sharpen_nonstellar, 0, 1, "--sharpen-nonstellar");
  within(o.overlap, 0, 0.5F, "--overlap");
  if (o.request_stars) within(*o.request_stars, 0, 0.7F, "the sharpening requested");
  if (o.psf_fwhm_px) within(*o.psf_fwhm_px, 0.5F, 8, "--psf");
  if (o.tile_px < 256) throw Error(ErrorKind::usage, "--tile must be at least 256");
  if (frame.channels() != 1 && frame.channels() != 3) {
    throw Error(ErrorKind::bad_input, "a frame with " + std::to_string(frame.channels()) +
                                          " channels; limpid takes 1 or 3");
  }
  if (frame.empty()) throw Error(ErrorKind::bad_input, "an empty frame");
  if (!o.mask.empty() && (o.mask.size() != frame.size() || o.mask.channels() != 1)) {
    throw Error(ErrorKind::usage, "--mask must have one channel and the frame's size, " +
                                      std::to_string(frame.width()) + " x " +
                                      std::to_string(frame.height()));
  }
  if (!o.judged.empty() &&
      (o.region || o.judged.size() != frame.size() || o.judged.channels() != frame.channels())) {
    throw Error(ErrorKind::usage,
                "--judge takes a picture of the frame's size and channels, whole");
  }
  if (o.region && intersect(*o.region, {0, 0, frame.width(), frame.height()}) != *o.region) {
    throw Error(ErrorKind::usage, "--region reaches outside the frame of " +
                                      std::to_string(frame.width()) + " x " +
                                      std::to_string(frame.height()) + " px");
  }
}

/// What the frame tells about itself, and what is assumed where it tells nothing.
struct Knowledge {
  StarCatalogue catalogue;
  std::optional<PsfField> field;
  std::optional<SpectralPsf> spectral;  ///< looked for when there is neither field nor --psf
  bool spectrum_seen = false;
  Psf assumed;
};

Knowledge measure(ConstView frame, const DeconvolveOptions& o, const Progress& progress) {
  Knowledge known;
  if (o.no_stars) {
    known.catalogue.sky = measure_sky(frame);
    known.catalogue.frame = frame.size();
  } else {
    known.catalogue = detect_stars(frame, {.max_fits = most_fits, .threads = o.threads}, progress);
    known.field = fit_psf_field(frame, known.catalogue, o.threads);
  }
  return known;
}

/// What the options and the power spectrum say where the stars say nothing.
void assume(Knowledge& known, ConstView frame, const DeconvolveOptions& o, DeconvolveReport& report,
            const Progress& progress) {
  known.assumed = {};
  known.assumed.beta = assumed_beta;
  known.assumed.fwhm_px = o.psf_fwhm_px.value_or(assumed_fwhm_px);
  if (known.field || o.psf_fwhm_px) return;
  if (!known.spectrum_seen) {
    known.spectral = estimate_psf_from_spectrum(frame, o.threads);
    known.spectrum_seen = true;
  }
  std::array<char, 200> text{};
  if (known.spectral) {
    known.assumed.fwhm_px = std::clamp(known.spectral->fwhm_px, 0.5F, 16.0F);
    std::snprintf(
        text.data(), text.size(),
        "no stars to measure: a round PSF of %.1f px (known to %.0f %%) was estimated from "
        "the nebula's power spectrum; --psf FWHM overrides it",
        static_cast<double>(known.spectral->fwhm_px),
        100 * static_cast<double>(known.spectral->relative_error));
  } else if (o.no_stars) {
    std::snprintf(
        text.data(), text.size(),
        "no stars and no --psf: a PSF of %.0f px was assumed; look at the result and give "
        "--psf FWHM",
        static_cast<double>(assumed_fwhm_px));
  } else {
    throw Error(ErrorKind::failed,
                "no field of stars to measure the PSF (" +
                    std::to_string(known.catalogue.stars.size()) +
                    " objects found, too few or unlike each other); give --psf FWHM, or --no-stars "
                    "for the Moon, planets and starless frames");
  }
  report.notes.emplace_back(text.data());
  progress.say(report.notes.back());
}

/// Median over a grid of places.
double median_over(Size size, const std::function<double(float, float)>& value) {
  std::vector<double> values;
  for (int j = 0; j < 5; ++j) {
    for (int i = 0; i < 5; ++i) {
      values.push_back(value((static_cast<float>(i) + 0.5F) / 5 * static_cast<float>(size.width),
                             (static_cast<float>(j) + 0.5F) / 5 * static_cast<float>(size.height)));
    }
  }
  std::ranges::nth_element(values, values.begin() + 12);
  return values[12];
}

float typical_fwhm(const Knowledge& known, Size size) {
  return static_cast<float>(median_over(size, [&](float x, float y) {
    return known.field ? known.field->mean_at(x, y).fwhm_px : known.assumed.fwhm_px;
  }));
}

TileControls controls_at(const Knowledge& known, const DeconvolveOptions& o, int channels, float x,
                         float y) {
  TileControls controls;
  controls.mono = channels == 1;
  for (int c = 0; c < 3; ++c) {
    Psf psf = known.field ? known.field->at(x, y, channels == 1 ? 0 : c) : known.assumed;
    if (controls.mono) psf.dx = psf.dy = 0;
    psf.fwhm_px = std::clamp(psf.fwhm_px, narrowest_fwhm_px, 1.25F * widest_fwhm_px);
    psf.beta = std::clamp(psf.beta, 1.3F, 11.5F);
    const float excess = psf.ellipticity() / 0.5F;
    if (excess > 1) psf.e1 /= excess, psf.e2 /= excess;
    controls.measured[static_cast<std::size_t>(c)] = psf;
    if (known.field) {
      controls.residual[static_cast<std::size_t>(c)] =
          known.field->residual(x, y, channels == 1 ? 0 : c, psf_kernel_px, controls.mono);
    }
  }
  controls.nonstellar = controls.measured;
  if (o.psf_fwhm_px) {
    Psf round = wanted_psfs(controls).nonstellar;  // for its mean beta
    round.fwhm_px = *o.psf_fwhm_px;
    controls.nonstellar.fill(round);
    if (o.no_stars) controls.measured = controls.nonstellar;
  }
  controls.sharpen_stars = o.correct_only ? 0 : o.sharpen_stars;
  controls.adjust_halos = o.correct_only ? 0 : o.adjust_halos;
  controls.sharpen_nonstellar = o.correct_only ? 0 : o.sharpen_nonstellar;
  if (o.no_stars) {  // everything is non-stellar: what little looks like a star is treated alike
    controls.sharpen_stars = std::min(0.7F, controls.sharpen_nonstellar);
    controls.adjust_halos = 0;
  }
  return controls;
}

/// 1 where any channel is clipped.
Image clipped_cores(ConstView tile, const std::optional<float>& saturation) {
  Image mask(1, tile.size());
  if (!saturation) return mask;
  for (int c = 0; c < tile.channels(); ++c) {
    for (int y = 0; y < tile.height(); ++y) {
      const auto row = tile.row(c, y);
      const auto out = mask.view().row(0, y);
      for (std::size_t x = 0; x < row.size(); ++x) {
        if (row[x] >= 0.98F * *saturation) out[x] = 1;
      }
    }
  }
  return mask;
}

Rect grown(Rect r, int by) { return {r.x - by, r.y - by, r.width + 2 * by, r.height + 2 * by}; }

/// What the network is given of one tile of a frame without gaps.
struct TilePixels {
  Image around;   ///< with the network's margins, normalised
  Image clipped;  ///< 1 at saturated cores
};

TilePixels tile_pixels(ConstView frame, const Normalisation& normalisation, Rect tile,
                       const Knowledge& known) {
  const Image around = extract_mirrored(frame, grown(tile, Network::margin_px()));
  const Rect inner{Network::margin_px(), Network::margin_px(), tile.width, tile.height};
  return {normalisation.apply(around.view()),
          clipped_cores(around.view().crop(inner), known.catalogue.saturation)};
}

TileControls controls_of(Rect tile, const Knowledge& known, const DeconvolveOptions& o,
                         int channels) {
  return controls_at(known, o, channels,
                     static_cast<float>(tile.x) + static_cast<float>(tile.width) / 2,
                     static_cast<float>(tile.y) + static_cast<float>(tile.height) / 2);
}

Image restore_tile(const TilePixels& pixels, const TileControls& controls,
                   const Normalisation& normalisation, const Network& network, int threads) {
  const Image answer = network.run(pixels.around.view(), pixels.clipped.view(), controls, threads);
  return normalisation.undo(answer.view());
}

TileGrid grid_over(Size part, int tile_px, float overlap, int step) {
  return {part, tile_px, static_cast<int>(overlap * static_cast<float>(tile_px)), step};
}

/// A part of the frame may need little more than one tile, or four: the smallest tiles that are no
/// more of them, with sides whose transforms are quick.
int smallest_fitting_tile(Size part, int tile_px, float overlap, int step) {
  // four at least where it is large, for the cores
  const int count = std::max(std::min(part.width, part.height) > 2 * smallest_tile_px ? 4 : 1,
                             grid_over(part, tile_px, overlap, step).count());
  int best = tile_px;
  for (int px = tile_px - step; px >= smallest_tile_px; px -= step) {
    if (grid_over(part, px, overlap, step).count() > count) break;
    const int side = px + 2 * Network::margin_px();
    if (good_fft_length(side) == side) best = px;
  }
  return best;
}

/// One pass of the network over `wanted` of a frame without gaps. The network works on blocks of
/// pixels: every tile begins at a whole block of the frame, or the same pixel would come out
/// differently from one tile, and from a preview, to the next.
Image run_tiles(ConstView frame, Rect wanted, const Knowledge& known, const DeconvolveOptions& o,
                const Network& network, int tile_px, DeconvolveReport& report,
                const Progress& progress) {
  const Normalisation normalisation(known.catalogue.sky, frame);
  const int step = Network::granularity_px();
  const int left = wanted.x / step * step, top = wanted.y / step * step;
  const Rect region{left, top, wanted.x + wanted.width - left, wanted.y + wanted.height - top};
  const int longest = std::max(region.width, region.height);
  tile_px = std::min(tile_px, (longest + step - 1) / step * step) / step * step;
  if (wanted != Rect{0, 0, frame.width(), frame.height()})
    tile_px = smallest_fitting_tile(region.size(), tile_px, o.overlap, step);
  const TileGrid grid = grid_over(region.size(), tile_px, o.overlap, step);
  TileBlender blender(grid, frame.channels());
  // A tile has too many small steps to keep many cores busy: several tiles at a time, each on one.
  // So the bytes are the same for any number of threads, too: convolutions that are computed as
  // matrix products (processors without AVX-512) are cut up by it.
  const int threads = thread_count(o.threads);
  const int workers = std::min(
      {threads, most_tiles_at_once, grid.count(), network.on_cpu() ? most_tiles_at_once : 1});
  std::mutex mutex;
  std::map<int, Image> waiting;  // answers are added in order: sums do not depend on who was first
  int next = 0;
  double seconds_in_network = 0;
  parallel_for(grid.count(), workers, [&](int i) {
    progress.throw_if_stopped();
    Rect tile = grid.tile(i);
    tile.x += region.x;
    tile.y += region.y;
    const double start = seconds();
    Image answer = restore_tile(tile_pixels(frame, normalisation, tile, known),
                                controls_of(tile, known, o, frame.channels()), normalisation,
                                network, network.on_cpu() ? 1 : threads);
    const double taken = seconds() - start;
    const std::scoped_lock lock(mutex);
    seconds_in_network += taken / workers;
    waiting.emplace(i, std::move(answer));
    for (auto first = waiting.begin(); first != waiting.end() && first->first == next;
         first = waiting.erase(first)) {
      blender.add(next++, first->second.view());
    }
    progress(static_cast<double>(next) / grid.count(), "deconvolving");
  });
  report.network_seconds += seconds_in_network;
  report.tiles += grid.count();
  report.tile_px = tile_px;
  Image all = std::move(blender).finish();
  return region == wanted ? std::move(all)
                          : copy(all.view().crop(
                                {wanted.x - left, wanted.y - top, wanted.width, wanted.height}));
}

/// Smaller tiles when memory runs out, then the other device.
Image run_with_fallback(ConstView frame, Rect region, const Knowledge& known,
                        const DeconvolveOptions& o, const Network& network,
                        DeconvolveReport& report, const Progress& progress,
                        const std::function<Network()>& fallback) {
  std::optional<Network> spare;
  for (int tile_px = o.tile_px;;) {
    try {
      return run_tiles(frame, region, known, o, spare ? *spare : network, tile_px, report,
                       progress);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::exhausted) throw;
      if (tile_px / 2 >= smallest_tile_px) {
        tile_px /= 2;
        report.notes.push_back(std::string(error.what()) + "; going on with tiles of " +
                               std::to_string(tile_px) + " px");
      } else if (fallback && !spare) {
        spare = fallback();
        tile_px = o.tile_px;
        report.device = spare->device_text();
        report.notes.push_back(std::string(error.what()) + "; going on with " + report.device);
      } else {
        throw;
      }
      progress.say(report.notes.back());
    }
  }
}

/// make_consistent() with what these options ask of the network. Returns how many stars.
int agree_with_frame(ConstView frame, Rect part, const Knowledge& known,
                     const DeconvolveOptions& requested, int threads, MutableView after) {
  return make_consistent(
      {.before = frame,
       .part = part,
       .catalogue = known.catalogue,
       .controls_at =
           [&](float x, float y) { return controls_at(known, requested, frame.channels(), x, y); },
       .fwhm_px = typical_fwhm(known, frame.size()),
       .threads = threads},
      after);
}

/// What the windows in which sharpening is tried are made of; the same for all options.
struct Trials {
  Trials(ConstView frame, const Knowledge& known, int threads, const Progress& progress)
      : stars(frame, known.catalogue, threads, progress),
        normalisation(known.catalogue.sky, frame) {
    for (const Rect& window : stars.windows())
      pixels.push_back(tile_pixels(frame, normalisation, window, known));
  }

  StarTrials stars;
  Normalisation normalisation;
  std::vector<TilePixels> pixels;
};

/// The sharpening that gives stars the width asked for. Where memory is short it is not looked for.
float request_for(ConstView frame, const Knowledge& known, const DeconvolveOptions& o,
                  const Network& network, std::shared_ptr<const Trials>& trials, Gains& gains,
                  const Progress& progress) {
  const int threads = network.on_cpu() ? std::min(thread_count(o.threads), most_tiles_at_once) : 1;
  try {
    if (!trials) trials = std::make_shared<const Trials>(frame, known, threads, progress);
    const auto restore = [&](std::size_t index, float sharpen_stars) {
      TileControls controls =
          controls_of(trials->stars.windows()[index], known, o, frame.channels());
      controls.sharpen_stars = sharpen_stars;
      Image restored =
          restore_tile(trials->pixels[index], controls, trials->normalisation, network, 1);
      DeconvolveOptions requested = o;
      requested.sharpen_stars = sharpen_stars;
      agree_with_frame(frame, trials->stars.windows()[index], known, requested, 1, restored.view());
      return restored;
    };
    return sharpening_to_request(trials->stars, o.sharpen_stars, restore, gains, threads, progress);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::exhausted) throw;
    return o.sharpen_stars;
  }
}

Image binned(ConstView frame, int factor) {
  Image small(frame.channels(), {frame.width() / factor, frame.height() / factor});
  for (int c = 0; c < frame.channels(); ++c) {
    for (int y = 0; y < small.height(); ++y) {
      for (int x = 0; x < small.width(); ++x) {
        float sum = 0;
        for (int j = 0; j < factor; ++j) {
          for (int i = 0; i < factor; ++i) sum += frame(c, y * factor + j, x * factor + i);
        }
        small.view()(c, y, x) = sum / static_cast<float>(factor * factor);
      }
    }
  }
  return small;
}

/// frame + the enlarged difference of two binned frames (bilinear): what binning cannot show stays.
Image add_enlarged(ConstView frame, ConstView after, ConstView before, int factor) {
  Image result = copy(frame);
  const auto width = static_cast<float>(after.width() - 1),
             height = static_cast<float>(after.height() - 1);
  for (int c = 0; c < frame.channels(); ++c) {
    for (int y = 0; y < frame.height(); ++y) {
      const float v = std::clamp((static_cast<float>(y) + 0.5F) / static_cast<float>(factor) - 0.5F,
                                 0.0F, height);
      const int y0 = static_cast<int>(v), y1 = std::min(y0 + 1, after.height() - 1);
      for (int x = 0; x < frame.width(); ++x) {
        const float u = std::clamp(
            (static_cast<float>(x) + 0.5F) / static_cast<float>(factor) - 0.5F, 0.0F, width);
        const int x0 = static_cast<int>(u), x1 = std::min(x0 + 1, after.width() - 1);
        const float fx = u - static_cast<float>(x0), fy = v - static_cast<float>(y0);
        const auto change = [&](int j, int i) { return after(c, j, i) - before(c, j, i); };
        result.view()(c, y, x) += (1 - fy) * ((1 - fx) * change(y0, x0) + fx * change(y0, x1)) +
                                  fy * ((1 - fx) * change(y1, x0) + fx * change(y1, x1));
      }
    }
  }
  return result;
}

/// What the report says of the frame.
void describe(DeconvolveReport& report, const Knowledge& known, ConstView frame,
              const DeconvolveOptions& o) {
  report.fwhm_px = typical_fwhm(known, frame.size());
  report.psf_measured = known.field.has_value();
  if (known.field) {
    report.stars_used = known.field->star_count();
    report.field_order = known.field->order();
    report.ellipticity = median_over(
        frame.size(), [&](float x, float y) { return known.field->mean_at(x, y).ellipticity(); });
  }
  const WantedPsfs wanted =
      wanted_psfs(controls_at(known, o, frame.channels(), static_cast<float>(frame.width()) / 2,
                              static_cast<float>(frame.height()) / 2));
  report.fwhm_asked_px = wanted.stellar.fwhm_px;
  report.nonstellar_fwhm_asked_px = wanted.nonstellar.fwhm_px;
}

/// One pass: bin when stars are very wide, tile. Returns the region. `request` tells the sharpening
/// that gives stars the width asked for.
Image pass(ConstView frame, Rect region, const DeconvolveOptions& o, const Network& network,
           DeconvolveReport& report, const Knowledge& known,
           const std::function<float(const Progress&)>& request, const Progress& progress,
           const std::function<Network()>& fallback) {
  const float typical = typical_fwhm(known, frame.size());
  if (known.field && typical < narrowest_fwhm_px) {
    std::array<char, 200> text{};
    std::snprintf(
        text.data(), text.size(),
        "stars are %.2f px wide: under %.1f px there is nothing to sharpen, the frame stays "
        "as it is; dither and drizzle",
        static_cast<double>(typical), static_cast<double>(narrowest_fwhm_px));
    report.notes.emplace_back(text.data());
    progress.say(report.notes.back());
    return copy(frame.crop(region));
  }
  int factor = 1;
  while (typical / static_cast<float>(factor) > widest_fwhm_px &&
         std::min(frame.width(), frame.height()) / (factor + 1) >= 16)
    ++factor;
  Image result;
  if (factor == 1) {
    DeconvolveOptions requested = o;
    if (known.field && !o.correct_only && !o.no_stars)
      requested.sharpen_stars = o.request_stars && o.sharpen_stars > 0
                                    ? *o.request_stars
                                    : request(progress.part(0, 0.06));
    report.sharpen_stars_requested = requested.sharpen_stars;
    result = run_with_fallback(frame, region, known, requested, network, report,
                               progress.part(0.06, 1), fallback);
  } else {
    report.binned_by = factor;
    report.notes.push_back("stars are over 8 px wide: processed on a grid binned by " +
                           std::to_string(factor) + ", returned at full size");
    progress.say(report.notes.back());
    const Image small = binned(frame, factor);
    Knowledge coarse = known;
    coarse.catalogue.sky = measure_sky(small.view());
    if (known.field) coarse.field = known.field->binned(factor);
    coarse.assumed.fwhm_px /= static_cast<float>(factor);
    DeconvolveOptions coarse_options = o;
    if (o.psf_fwhm_px) coarse_options.psf_fwhm_px = *o.psf_fwhm_px / static_cast<float>(factor);
    const Image sharp =
        run_with_fallback(small.view(), {0, 0, small.width(), small.height()}, coarse,
                          coarse_options, network, report, progress, fallback);
    result = copy(add_enlarged(frame, sharp.view(), small.view(), factor).view().crop(region));
  }
  return result;
}

/// The passes that the options ask for, each fed with the result of the one before.
std::vector<DeconvolveOptions> passes(const DeconvolveOptions& o) {
  DeconvolveOptions correct = o, full = o;
  correct.correct_only = true;
  if (o.correct_only) return {correct};
  // a correcting pass sharpens nothing: what it makes stays while the others' options change
  correct.sharpen_stars = correct.adjust_halos = correct.sharpen_nonstellar = 0;
  std::vector<DeconvolveOptions> list;
  if (o.correct_first) list.push_back(correct);
  if (o.nonstellar_then_stellar) {
    DeconvolveOptions nonstellar = o, stellar = o;
    nonstellar.sharpen_stars = nonstellar.adjust_halos = 0;
    stellar.sharpen_nonstellar = 0;
    list.push_back(nonstellar);
    list.push_back(stellar);
  } else {
    list.push_back(full);
  }
  return list;
}

Image intensity_of(ConstView frame) {
  Image result(1, frame.size());
  for (int y = 0; y < frame.height(); ++y) {
    const auto r = frame.row(0, y), g = frame.row(1, y), b = frame.row(2, y);
    const auto out = result.view().row(0, y);
    for (std::size_t x = 0; x < out.size(); ++x) out[x] = (r[x] + g[x] + b[x]) / 3;
  }
  return result;
}

/// HSI: hue and saturation stay, so every channel's light over the sky scales with the intensity.
/// Where there is hardly any light the ratio is noise, and the change is added instead.
Image recolour(ConstView frame, ConstView before, ConstView after, const std::vector<SkyLevel>& sky,
               SkyLevel intensity) {
  Image result(3, frame.size());
  for (int c = 0; c < 3; ++c) {
    const SkyLevel& level = sky[static_cast<std::size_t>(c)];
    for (int y = 0; y < frame.height(); ++y) {
      const auto in = frame.row(c, y), i0 = before.row(0, y), i1 = after.row(0, y);
      const auto out = result.view().row(c, y);
      for (std::size_t x = 0; x < out.size(); ++x) {
        const float light = i0[x] - intensity.sky, change = i1[x] - i0[x];
        const float share = std::clamp(light / std::max(10 * intensity.sigma, 1e-12F), 0.0F, 1.0F);
        const float ratio = light > 0 ? (in[x] - level.sky) / light : 1.0F;
        out[x] = in[x] + change * (share * ratio + (1 - share));
      }
    }
  }
  return result;
}

/// The last pass over `region`, and what is mended after it: stars that the network did not
/// understand, dark rings, light that was lost. What `restore` makes reaches further, so that stars
/// near the region's border come out as in the whole frame.
Image mended(ConstView frame, Rect region, const Knowledge& known, const DeconvolveOptions& o,
             DeconvolveReport& report, const Progress& progress,
             const std::function<Image(Rect)>& restore) {
  const float fwhm_px = typical_fwhm(known, frame.size());
  const bool stars =
      known.field && !o.no_stars && fwhm_px >= narrowest_fwhm_px && fwhm_px <= widest_fwhm_px;
  const int margin = stars ? static_cast<int>(std::ceil(light_margin_fwhm * fwhm_px)) + 4 : 0;
  const Rect larger = intersect(grown(region, margin), {0, 0, frame.width(), frame.height()});
  Image result = restore(larger);
  const ConstView before = frame.crop(larger);
  const auto width = static_cast<double>(fwhm_px);
  const auto& sky = known.catalogue.sky;
  if (stars) {
    DeconvolveOptions requested = o;
    requested.sharpen_stars = static_cast<float>(report.sharpen_stars_requested);
    report.stars_corrected =
        agree_with_frame(frame, larger, known, requested, o.threads, result.view());
    report.halos_kept =
        keep_halos(frame, larger, known.catalogue, fwhm_px, result.view(), o.threads);
  }
  report.stars_put_back = stars ? mend_darkness(before, result.view(), sky, width, o.threads)
                                : put_back_holes(before, result.view(), sky, width, o.threads);
  if (report.stars_put_back > 0) {
    report.notes.push_back(std::to_string(report.stars_put_back) +
                           " very bright star(s) stay as recorded: the network made holes there");
    progress.say(report.notes.back());
  }
  if (!stars) return result;
  const auto wanted = [&](float x, float y) {
    return wanted_psfs(controls_at(known, o, frame.channels(), x, y)).stellar;
  };
  report.light = balance_light({.before = frame,
                                .part = larger,
                                .catalogue = known.catalogue,
                                .field = *known.field,
                                .wanted = wanted,
                                .threads = o.threads},
                               result.view());
  if (larger == region) return result;
  return copy(
      result.view().crop({region.x - larger.x, region.y - larger.y, region.width, region.height}));
}

/// What one pass starts from: the frame, or what the passes before it made of it.
struct Stage {
  std::string made_by;  ///< the passes before it, and all that they depend on
  Image image;          ///< empty: the frame itself
  Knowledge known;
  std::shared_ptr<const Trials> trials;  ///< made when the first is needed
  std::map<std::string, Gains> gains;    ///< that they found, by fingerprint
};

/// Everything that the result of a pass depends on, but the frame.
std::string fingerprint(const DeconvolveOptions& o, const Network& network) {
  std::array<char, 200> text{};
  std::snprintf(text.data(), text.size(), "%a %a %a %a %d %d %d %a;",
                static_cast<double>(o.sharpen_stars), static_cast<double>(o.adjust_halos),
                static_cast<double>(o.psf_fwhm_px.value_or(0)),
                static_cast<double>(o.sharpen_nonstellar), o.correct_only, o.no_stars, o.tile_px,
                static_cast<double>(o.overlap));
  const NetworkInfo& info = network.info();
  return text.data() + info.name + ' ' + std::to_string(info.steps) + ' ' + info.config_hash + ' ' +
         network.device_text() + ';';
}

}  // namespace

struct Deconvolver::Body {
  explicit Body(ConstView f) : frame(f) {}

  ConstView frame;
  bool looked_for_gaps = false;
  Image missing, filled;
  // of --luminance-only
  Image intensity;
  std::vector<SkyLevel> colour_sky;
  std::vector<Stage> stages;

  [[nodiscard]] ConstView given() const { return filled.empty() ? frame : filled.view(); }

  void fill_gaps(int threads) {
    if (looked_for_gaps) return;
    missing = find_missing(frame, threads);
    if (!missing.empty() && std::ranges::any_of(missing.pixels(), [](float m) { return m == 0; })) {
      filled = copy(frame);
      fill_missing(filled.view(), missing.view());
    }
    looked_for_gaps = true;
  }

  /// The stage that is entered with these passes done; what was kept of other ones goes.
  Stage& enter(std::size_t index, const std::string& made_by, const std::function<Stage()>& make) {
    if (index < stages.size() && stages[index].made_by == made_by) return stages[index];
    stages.resize(std::min(index, stages.size()));
    Stage stage = make();
    stage.made_by = made_by;
    return stages.emplace_back(std::move(stage));
  }

  Image run_passes(ConstView start, Rect region, const Network& network,
                   const DeconvolveOptions& options, DeconvolveReport& report,
                   const Progress& progress, const std::function<Network()>& fallback);
};

Image Deconvolver::Body::run_passes(ConstView start, Rect region, const Network& network,
                                    const DeconvolveOptions& options, DeconvolveReport& report,
                                    const Progress& progress,
                                    const std::function<Network()>& fallback) {
  const auto list = passes(options);
  const double share = 0.95 / static_cast<double>(list.size());
  std::string made_by = std::string(options.luminance_only ? "luminance" : "colour") +
                        (options.no_stars ? " without stars;" : ";");
  const auto measured = [&](Image image, std::size_t i, const Progress& part) {
    Stage stage;
    stage.image = std::move(image);
    const ConstView current = stage.image.empty() ? start : stage.image.view();
    stage.known = measure(current, list[i], part.part(0, 0.15));
    return stage;
  };
  for (std::size_t i = 0;; ++i) {
    const Progress part =
        progress.part(share * static_cast<double>(i), share * static_cast<double>(i + 1));
    // the first is kept, the others were made at the end of the loop
    Stage& stage = i == 0 ? enter(0, made_by, [&] { return measured({}, 0, part); }) : stages.at(i);
    const ConstView current = stage.image.empty() ? start : stage.image.view();
    assume(stage.known, current, list[i], report, progress);
    if (i == 0) describe(report, stage.known, current, list[i]);
    const std::string pass_print = fingerprint(list[i], network);
    const auto request = [&](const Progress& trying) {
      DeconvolveOptions whatever = list[i];
      whatever.sharpen_stars = 0;  // gains are those of fixed requests
      return request_for(current, stage.known, list[i], network, stage.trials,
                         stage.gains[fingerprint(whatever, network)], trying);
    };
    if (i + 1 == list.size()) {
      if (!options.judged.empty()) return copy(options.judged);
      return mended(start, region, stages.front().known, options, report, progress,
                    [&](Rect larger) {
                      return pass(current, larger, list[i], network, report, stage.known, request,
                                  part.part(0.15, 1), fallback);
                    });
    }
    made_by += pass_print;
    // earlier passes need the whole frame: the next one measures it
    const Rect whole{0, 0, frame.width(), frame.height()};
    enter(i + 1, made_by, [&] {
      return measured(pass(current, whole, list[i], network, report, stage.known, request,
                           part.part(0.15, 1), fallback),
                      i + 1, progress.part(share * static_cast<double>(i + 1), 1));
    });
  }
}

Deconvolver::Deconvolver(ConstView frame) : body_(std::make_unique<Body>(frame)) {}
Deconvolver::Deconvolver(Deconvolver&&) noexcept = default;
Deconvolver& Deconvolver::operator=(Deconvolver&&) noexcept = default;
Deconvolver::~Deconvolver() = default;

Deconvolved deconvolve(ConstView frame, const Network& network, const DeconvolveOptions& options,
                       const Progress& progress, const std::function<Network()>& fallback) {
  return Deconvolver(frame).run(network, options, progress, fallback);
}

Deconvolved Deconvolver::run(const Network& network, const DeconvolveOptions& options,
                             const Progress& progress, const std::function<Network()>& fallback) {
  const ConstView frame = body_->frame;
  check(frame, options);
  const double start = seconds();
  Deconvolved result;
  DeconvolveReport& report = result.report;
  report.model = network.info().name;
  report.device = network.device_text();

  const Rect whole{0, 0, frame.width(), frame.height()};
  const Rect region = options.region.value_or(whole);
  body_->fill_gaps(options.threads);
  const Image& missing = body_->missing;
  if (!missing.empty()) {
    report.pixels_without_data = static_cast<std::size_t>(
        std::ranges::count_if(missing.pixels(), [](float m) { return m != 0; }));
    if (report.pixels_without_data == frame.size().pixels())
      throw Error(ErrorKind::bad_input, "the frame has no data: every pixel is empty");
  }
  const ConstView given = body_->given();
  const bool luminance = options.luminance_only && frame.channels() == 3;
  if (luminance && body_->intensity.empty()) {
    body_->colour_sky = measure_sky(given);
    body_->intensity = intensity_of(given);
  }
  const ConstView start_frame = luminance ? body_->intensity.view() : given;
  DeconvolveOptions asked = options;
  asked.luminance_only = luminance;
  Image sharp = body_->run_passes(start_frame, region, network, asked, report, progress, fallback);
  const Knowledge& before = body_->stages.front().known;
  if (luminance) {
    const Image part = copy(body_->intensity.view().crop(region));
    sharp = recolour(given.crop(region), part.view(), sharp.view(), body_->colour_sky,
                     before.catalogue.sky.at(0));
  }

  if (options.reblur) {
    if (region == whole && !luminance && options.mask.empty() && report.binned_by == 1) {
      Reblurring test =
          test_by_reblurring({.before = given,
                              .after = sharp.view(),
                              .missing = missing.view(),
                              .catalogue = before.catalogue,
                              .fwhm_px = report.fwhm_px,
                              .controls_at =
                                  [&](float x, float y) {
                                    return controls_at(before, options, frame.channels(), x, y);
                                  }},
                             options.threads, progress.part(0.95, 0.97));
      report.reblurring = std::move(test.report);
      result.trust_map = std::move(test.residual);
    } else {
      report.notes.emplace_back(
          "no re-blurring test: it needs the whole frame, unbinned, without a mask, in colour");
      progress.say(report.notes.back());
    }
  }

  const ConstView original = frame.crop(region);
  const bool all_new = missing.empty() && options.mask.empty();
  for (int c = 0; c < (all_new ? 0 : frame.channels()); ++c) {
    for (int y = 0; y < region.height; ++y) {
      const auto in = original.row(c, y);
      const auto out = sharp.view().row(c, y);
      for (std::size_t x = 0; x < out.size(); ++x) {
        const int fx = region.x + static_cast<int>(x), fy = region.y + y;
        if (!missing.empty() && missing.view()(0, fy, fx) != 0) {
          out[x] = in[x];
        } else if (!options.mask.empty()) {
          const float share = std::clamp(options.mask(0, fy, fx), 0.0F, 1.0F);
          out[x] = in[x] + share * (out[x] - in[x]);
        }
      }
    }
  }
  result.image = std::move(sharp);
  report.seconds = seconds() - start;
  report.megapixels_per_s = static_cast<double>(region.size().pixels()) * 1e-6 / report.seconds;
  if (options.check && before.field && region == whole && !luminance) {
    report.trust =
        compare_stars(before.catalogue, given, result.image.view(),
                      options.correct_only ? 1.0 : 1.0 - static_cast<double>(options.sharpen_stars),
                      options.threads, progress.part(0.97, 1));
  }
  progress(1, "done");
  return result;
}

}  // namespace limpid
