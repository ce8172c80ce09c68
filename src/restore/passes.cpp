#include "restore/passes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include <limpid/error.h>

#include "core/binned.h"
#include "core/parallel.h"
#include "restore/clipped_areas.h"
#include "restore/clipped_stars.h"
#include "restore/consistency.h"
#include "restore/cores.h"
#include "restore/geometry.h"
#include "restore/halos.h"
#include "restore/holes.h"
#include "restore/light_balance.h"
#include "restore/nebula_consistency.h"

namespace limpid {
namespace {

/// make_consistent() where the PSF is known well enough. Returns how many stars.
int agree_with_frame(const RestoredPart& restored, const Knowledge& known,
                     const std::function<TileControls(float x, float y)>& controls,
                     MutableView after) {
  const ConstView frame = restored.before;
  const auto middle = [](int length) { return static_cast<float>(length) / 2; };
  if (known.field->mean_at(middle(frame.width()), middle(frame.height())).beta < least_beta)
    return 0;
  return make_consistent(restored, known.errors, controls, after);
}

/// frame + the enlarged difference of two binned frames (bilinear): what binning cannot show stays.
Image add_enlarged(ConstView frame, ConstView after, ConstView before, int factor) {
  Image result = copy(frame);
  for (int c = 0; c < frame.channels(); ++c) {
    const auto change = [&](int y, int x) { return after(c, y, x) - before(c, y, x); };
    for (int y = 0; y < frame.height(); ++y) {
      for (int x = 0; x < frame.width(); ++x)
        result.view()(c, y, x) += BetweenBinned(x, y, after.size(), factor).mixed(change);
    }
  }
  return result;
}

}  // namespace

float request_for(ConstView frame, const Knowledge& known, const DeconvolveOptions& o,
                  const Network& network, std::unique_ptr<Trials>& trials, Gains& gains,
                  const Progress& progress) {
  const int threads = network.on_cpu() ? std::min(thread_count(o.threads), most_tiles_at_once) : 1;
  try {
    if (!trials) trials = std::make_unique<Trials>(frame, known, threads, progress);
    const auto restore = [&](std::size_t index, float sharpen_stars) {
      TileControls controls =
          controls_of(trials->stars.windows()[index], known, o, frame.channels());
      controls.sharpen_stars = sharpen_stars;
      return restore_tile(trials->pixels[index], controls, *known.normalisation, network, 1,
                          &trials->memories[index]);
    };
    return sharpening_to_request(trials->stars, o.sharpen_stars, restore, gains, threads, progress);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::exhausted) throw;
    return o.sharpen_stars;
  }
}

Image pass(ConstView frame, Rect region, const DeconvolveOptions& o, const Network& network,
           DeconvolveReport& report, const Knowledge& known,
           const std::function<float(const Progress&)>& request, PartMemory& memory,
           const Progress& progress, const std::function<Network()>& fallback) {
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
    if (o.correct_only) {
      requested.sharpen_stars = 0;
    } else if (known.field && !o.no_stars) {
      requested.sharpen_stars = o.request_stars && o.sharpen_stars > 0
                                    ? *o.request_stars
                                    : request(progress.part(0, 0.06));
    }
    report.sharpen_stars_requested = requested.sharpen_stars;
    result = run_with_fallback(frame, region, known, requested, network, report, memory,
                               progress.part(0.06, 1), fallback);
  } else {
    report.binned_by = factor;
    report.notes.push_back("stars are over 8 px wide: processed on a grid binned by " +
                           std::to_string(factor) + ", returned at full size");
    progress.say(report.notes.back());
    const Image small = binned(frame, factor);
    Knowledge coarse = known;
    coarse.catalogue.sky = measure_sky(small.view());
    coarse.normalisation.emplace(coarse.catalogue.sky, small.view(), o.threads);
    if (known.field) coarse.field = known.field->binned(factor);
    coarse.assumed.fwhm_px /= static_cast<float>(factor);
    DeconvolveOptions coarse_options = o;
    if (o.psf_fwhm_px) coarse_options.psf_fwhm_px = *o.psf_fwhm_px / static_cast<float>(factor);
    PartMemory none;
    const Image sharp =
        run_with_fallback(small.view(), {0, 0, small.width(), small.height()}, coarse,
                          coarse_options, network, report, none, progress, fallback);
    result = copy(add_enlarged(frame, sharp.view(), small.view(), factor).view().crop(region));
  }
  return result;
}

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

void agree_with_record(ConstView frame, const StarCatalogue& known, const TileControls& controls,
                       MutableView result, int threads) {
  const Rect whole{0, 0, frame.width(), frame.height()};
  const RestoredPart restored{.before = frame,
                              .part = whole,
                              .catalogue = known,
                              .fwhm_px = controls.measured[0].fwhm_px,
                              .threads = threads};
  make_nebulae_consistent(
      restored, measure_noise(frame, known, static_cast<double>(restored.fwhm_px), threads),
      [&](float, float) { return controls; }, result);
}

Image mended(ConstView frame, Rect region, Knowledge& known, const DeconvolveOptions& o,
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
  const RestoredPart restored{.before = frame,
                              .part = larger,
                              .catalogue = known.catalogue,
                              .fwhm_px = fwhm_px,
                              .threads = o.threads};
  const auto controls = [&](float x, float y) {
    return controls_at(known, o, frame.channels(), x, y);
  };
  const auto stellar_controls = [&](float x, float y) {
    return stellar_controls_at(known, o, frame.channels(), x, y);
  };
  progress.throw_if_stopped();
  if (stars) {
    // with a PSF given by hand, which may be wrong, the map of trust must show it
    if (!o.psf_fwhm_px) {
      report.nebulae_corrected = make_nebulae_consistent(
          restored, noise_of(known, frame, o.threads), controls, result.view());
    }
    report.stars_corrected = agree_with_frame(restored, known, stellar_controls, result.view());
    progress.throw_if_stopped();
    const auto shrunk = shrink_clipped_stars(restored, stellar_controls, result.view());
    report.clipped_stars_shrunk = static_cast<int>(shrunk.size());
    report.clipped_areas_kept = keep_clipped_areas(restored, shrunk, result.view());
    report.halos_kept = keep_halos(restored, result.view());
    fill_cores(restored, result.view());
    progress.throw_if_stopped();
  }
  report.stars_put_back = stars ? mend_darkness(before, result.view(), sky, width, o.threads)
                                : put_back_holes(before, result.view(), sky, width, o.threads);
  if (report.stars_put_back > 0) {
    report.notes.push_back(
        report.stars_put_back == 1
            ? "a star stays as recorded, or partly: the network made a hole there"
            : std::to_string(report.stars_put_back) +
                  " stars stay as recorded, or partly: the network made holes there");
    progress.say(report.notes.back());
  }
  if (!stars) return result;
  progress.throw_if_stopped();
  const auto wanted = [&](float x, float y) {
    return wanted_at(known, o, frame.channels(), x, y).stellar;
  };
  report.light = balance_light(restored, *known.field, wanted, result.view());
  if (larger == region) return result;
  return copy(
      result.view().crop({region.x - larger.x, region.y - larger.y, region.width, region.height}));
}

}  // namespace limpid
