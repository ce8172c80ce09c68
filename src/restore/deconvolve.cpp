#include <limpid/deconvolve.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <limpid/error.h>

#include "restore/passes.h"
#include "restore/reblur.h"

namespace limpid {
namespace {

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

/// Tells of controls that were set and that another one leaves without a meaning.
void tell_of_unused(const DeconvolveOptions& o, DeconvolveReport& report,
                    const Progress& progress) {
  const DeconvolveOptions usual;
  const auto set = [](float value, float as_usual) { return value != 0 && value != as_usual; };
  const bool stars = set(o.sharpen_stars, usual.sharpen_stars),
             halos = set(o.adjust_halos, usual.adjust_halos),
             nonstellar = set(o.sharpen_nonstellar, usual.sharpen_nonstellar);
  const auto tell = [&](const char* because,
                        const std::vector<std::pair<bool, const char*>>& what) {
    std::string names;
    for (const auto& [unused, name] : what) {
      if (unused) names += (names.empty() ? "" : ", ") + std::string(name);
    }
    if (names.empty()) return;
    report.notes.push_back(because + names);
    progress.say(report.notes.back());
  };
  if (o.correct_only) {
    tell("--correct-only sharpens nothing and leaves unused: ",
         {{stars, "--sharpen-stars"},
          {halos, "--adjust-halos"},
          {nonstellar, "--sharpen-nonstellar"},
          {o.correct_first, "--correct-first"},
          {o.nonstellar_then_stellar, "--nonstellar-then-stellar"}});
  } else if (o.no_stars) {
    tell("--no-stars treats all as non-stellar and leaves unused: ",
         {{stars, "--sharpen-stars"}, {halos, "--adjust-halos"}});
  }
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

/// What one pass starts from: the frame, or what the passes before it made of it.
struct Stage {
  std::string made_by;  ///< the passes before it, and all that they depend on
  Image image;          ///< empty: the frame itself
  Knowledge known;
  std::unique_ptr<Trials> trials;      ///< made when the first is needed
  std::map<std::string, Gains> gains;  ///< that they found, by fingerprint
  PartMemory tiles;                    ///< of the part that was looked at last
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
                                  stage.tiles, part.part(0.15, 1), fallback);
                    });
    }
    made_by += pass_print;
    // earlier passes need the whole frame: the next one measures it
    const Rect whole{0, 0, frame.width(), frame.height()};
    enter(i + 1, made_by, [&] {
      return measured(pass(current, whole, list[i], network, report, stage.known, request,
                           stage.tiles, part.part(0.15, 1), fallback),
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
  tell_of_unused(options, report, progress);

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
  Knowledge& before = body_->stages.front().known;
  if (luminance) {
    const Image part = copy(body_->intensity.view().crop(region));
    sharp = recolour(given.crop(region), part.view(), sharp.view(), body_->colour_sky,
                     before.catalogue.sky.at(0));
  }

  if (options.reblur) {
    if (region == whole && !luminance && options.mask.empty() && report.binned_by == 1) {
      Reblurring test = test_by_reblurring(
          {.before = given,
           .after = sharp.view(),
           .missing = missing.view(),
           .catalogue = before.catalogue,
           .photon_shares = noise_of(before, given, options.threads).photon_shares,
           .fwhm_px = report.fwhm_px,
           .controls_at =
               [&](float x, float y) {
                 return controls_at(before, options, frame.channels(), x, y);
               },
           .keep_residual = options.trust_map},
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
