// limpid deconvolve: the main job, one frame in, a sharper one out.
#include <algorithm>
#include <cstdio>
#include <fstream>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <limpid/network.h>

#include "deconvolve.h"
#include "failure.h"
#include "outputs.h"

namespace limpid::cli {
namespace {

using nlohmann::ordered_json;

ordered_json pair_json(const MedianAndScatter& value) {
  return {{"median", value.median}, {"scatter", value.scatter}};
}

std::string in_words(const Job& job, const DeconvolveReport& r) {
  std::array<char, 500> text{};
  std::snprintf(text.data(), text.size(),
                "%s -> %s\n  %s on %s, %.1f s, %.2f megapixels/s\n  %s %.2f px, ellipticity %.3f, "
                "%d stars used\n",
                job.input.string().c_str(), job.output.string().c_str(), r.model.c_str(),
                r.device.c_str(), r.seconds, r.megapixels_per_s,
                r.psf_measured ? "PSF measured:" : "PSF assumed:", r.fwhm_px, r.ellipticity,
                r.stars_used);
  std::string words = text.data();
  if (r.trust) words += "  " + r.trust->summary + "\n";
  if (r.reblurring) {
    std::string at_stars;
    if (r.reblurring->unclipped_star_residual_rms > 0) {
      std::snprintf(text.data(), text.size(), " (%.2f at stars that are not clipped)",
                    r.reblurring->unclipped_star_residual_rms);
      at_stars = text.data();
    }
    std::snprintf(text.data(), text.size(),
                  "  Blurred again the result gives the input within %.2f times its noise%s; %zu of "
                  "%d places are off by more than noise, %td of these at clipped stars.\n",
                  r.reblurring->residual_rms, at_stars.c_str(), r.reblurring->doubtful.size(),
                  r.reblurring->tiles,
                  std::ranges::count_if(r.reblurring->doubtful, &DoubtfulTile::clipped_star));
    words += text.data();
  }
  return words;
}

}  // namespace

DeconvolveOptions pipeline_options(const DeconvolveArguments& o, int threads) {
  DeconvolveOptions d;
  d.sharpen_stars = o.sharpen_stars;
  d.adjust_halos = o.adjust_halos;
  d.sharpen_nonstellar = o.sharpen_nonstellar;
  d.correct_only = o.correct_only;
  d.correct_first = o.correct_first;
  d.nonstellar_then_stellar = o.nonstellar_then_stellar;
  d.luminance_only = o.luminance_only;
  d.no_stars = o.no_stars;
  d.reblur = !o.trust_map.empty() || !o.report.empty();
  d.trust_map = !o.trust_map.empty();
  d.tile_px = o.tile_px;
  d.overlap = o.overlap;
  d.threads = threads;
  if (o.psf != "auto") {
    char* end = nullptr;
    const float fwhm = std::strtof(o.psf.c_str(), &end);
    if (end == o.psf.c_str() || *end != '\0' || !(fwhm >= 0.5F && fwhm <= 8)) {
      throw Error(ErrorKind::usage, "--psf " + o.psf + ": give auto, or a FWHM from 0.5 to 8 px");
    }
    d.psf_fwhm_px = fwhm;
  }
  if (!o.region.empty()) {
    if (o.region.size() != 4 || o.region[2] < 1 || o.region[3] < 1) {
      throw Error(ErrorKind::usage, "--region takes X,Y,WIDTH,HEIGHT in pixels");
    }
    d.region = Rect{o.region[0], o.region[1], o.region[2], o.region[3]};
  }
  return d;
}

Depth depth_of(const DeconvolveArguments& o) {
  return o.depth == "u8"    ? Depth::u8
         : o.depth == "u16" ? Depth::u16
         : o.depth == "f32" ? Depth::f32
                            : Depth::as_input;
}

ordered_json to_json(const Job& job, const DeconvolveReport& r) {
  ordered_json json{
      {"input", job.input.string()},
      {"output", job.output.string()},
      {"model", r.model},
      {"device", r.device},
      {"psf",
       {{"measured", r.psf_measured},
        {"fwhm_px", r.fwhm_px},
        {"ellipticity", r.ellipticity},
        {"stars_used", r.stars_used},
        {"field_order", r.field_order}}},
      {"asked",
       {{"star_fwhm_px", r.fwhm_asked_px}, {"nonstellar_fwhm_px", r.nonstellar_fwhm_asked_px}}},
      {"sharpen_stars_requested", r.sharpen_stars_requested},
      {"tiles", r.tiles},
      {"tile_px", r.tile_px},
      {"binned_by", r.binned_by},
      {"pixels_without_data", r.pixels_without_data},
      {"light_given",
       {{"stars", r.light.stars}, {"median", r.light.median}, {"scatter", r.light.scatter}}},
      {"nebulae_corrected", r.nebulae_corrected},
      {"stars_corrected", r.stars_corrected},
      {"clipped_stars_shrunk", r.clipped_stars_shrunk},
      {"clipped_areas_kept", r.clipped_areas_kept},
      {"halos_kept", r.halos_kept},
      {"stars_put_back", r.stars_put_back},
      {"seconds", r.seconds},
      {"network_seconds", r.network_seconds},
      {"megapixels_per_s", r.megapixels_per_s}};
  if (r.trust) {
    const TrustReport& t = *r.trust;
    json["stars"] = {{"compared", t.stars_compared},
                     {"flux_ratio", pair_json(t.flux_ratio)},
                     {"centroid_shift_px", pair_json(t.centroid_shift_px)},
                     {"fwhm_ratio", pair_json(t.fwhm_ratio)},
                     {"fwhm_ratio_asked", t.fwhm_ratio_asked},
                     {"ellipticity_before", pair_json(t.ellipticity_before)},
                     {"ellipticity_after", pair_json(t.ellipticity_after)}};
    json["noise_ratio"] = t.noise_ratio;
    json["summary"] = t.summary;
  }
  if (r.reblurring) {
    auto doubtful = ordered_json::array();
    for (const auto& [tile, rms, worst, clipped] : r.reblurring->doubtful) {
      doubtful.push_back({{"x", tile.x},
                          {"y", tile.y},
                          {"width", tile.width},
                          {"height", tile.height},
                          {"residual_rms", rms},
                          {"worst_sigma", worst},
                          {"clipped_star", clipped}});
    }
    json["reblurring"] = {{"residual_rms", r.reblurring->residual_rms},
                          {"star_residual_rms", r.reblurring->star_residual_rms},
                          {"unclipped_star_residual_rms",
                           r.reblurring->unclipped_star_residual_rms},
                          {"tiles", r.reblurring->tiles},
                          {"doubtful_tiles", doubtful}};
  }
  json["notes"] = r.notes;
  return json;
}

void write_trust_map(const std::filesystem::path& path, Image map, const Metadata& metadata,
                     const WriteOptions& like) {
  Frame frame{std::move(map), metadata};
  frame.metadata.scale = 1;
  frame.metadata.offset = 0;
  frame.metadata.thumbnail = {};
  WriteOptions writing = like;
  if (path.extension() == ".png") {
    for (float& value : frame.image.pixels()) value = std::clamp(0.5F + value / 20, 0.0F, 1.0F);
    writing.depth = Depth::u8;
  } else {
    writing.depth = Depth::f32;
  }
  write_frame(path, frame, writing);
}

Command deconvolve_command(CLI::App& app, const Common& common, DeconvolveArguments& o) {
  Command command(
      app, common, "deconvolve", "Makes stars smaller and rounder and nebulae sharper.",
      "limpid deconvolve m31.fits -o m31-sharp.fits --sharpen-stars 0.4 --report m31.json");
  command.inputs(o.inputs, "linear frames: FITS, XISF, TIFF or PNG")
      .output(o.output, o.overwrite, "file, or FOLDER/ for several inputs")
      .option("--sharpen-stars", o.sharpen_stars, {0, 0.7},
              "stars become (1 - S) times as wide; flux and place stay")
      .option("--adjust-halos", o.adjust_halos, {-0.5, 0.5},
              "above 0: larger, brighter halos of stars; below: harder stars")
      .option("--psf", o.psf,
              "auto measures the local PSF; a number (0.5 to 8) is the FWHM in px that the "
              "non-stellar part is freed of")
      .option("--sharpen-nonstellar", o.sharpen_nonstellar, {0, 1},
              "how much of the PSF's width is taken out of everything but stars")
      .flag("--correct-only", o.correct_only,
            "make stars round and equal in all channels, sharpen nothing")
      .flag("--correct-first", o.correct_first, "a correcting pass before the sharpening one")
      .flag("--nonstellar-then-stellar", o.nonstellar_then_stellar,
            "two passes: first everything but stars, then stars")
      .flag("--luminance-only", o.luminance_only,
            "sharpen the HSI intensity alone, keep the colour")
      .flag("--no-stars", o.no_stars, "Moon, planets, starless frames: everything is non-stellar")
      .option("--mask", o.mask, "frame of 0 to 1: where the result is blended in")
      .option("--ai", o.ai, "weights: a version or a file; without it the newest installed")
      .option("--region", o.region,
              "X,Y,WIDTH,HEIGHT: process and write only this part, a quick preview")
      .option("--trust-map", o.trust_map,
              "file for the difference between the result, blurred again, and the input, in units "
              "of the noise")
      .option("--judge", o.judge,
              "a result made elsewhere: nothing is restored, this is tested as if it had been made "
              "with these options, for --trust-map and --report")
      .option("--report", o.report, "JSON file with the figures of what was done")
      .option("--tile", o.tile_px, {256, 8192}, "side of a tile in pixels")
      .option("--overlap", o.overlap, {0, 0.5}, "of two tiles, as a share")
      .choice("--depth", o.depth, {"as-input", "u8", "u16", "f32"}, "samples of the output")
      .choice("--precision", o.precision, {"auto", "f32", "bf16"}, "of the convolutions")
      .device(o.device);
  return command;
}

void add_deconvolve(CLI::App& app, const Common& common) {
  auto options = std::make_shared<DeconvolveArguments>();
  Command command = deconvolve_command(app, common, *options);
  command.run([options, common] {
    const DeconvolveArguments& o = *options;
    const DeconvolveOptions pipeline = pipeline_options(o, common.threads());
    const Precision precision = parse_precision(o.precision);
    std::vector<std::filesystem::path> read = o.inputs;
    read.insert(read.end(), {o.mask, o.judge});
    check_outputs({o.trust_map, o.report}, o.overwrite, read);
    if (!o.trust_map.empty() && o.inputs.size() > 1)
      throw Error(ErrorKind::usage, "--trust-map goes with one input; run the frames one by one");
#ifdef __GLIBC__
    // A run makes a dozen pictures of the frame's size one after the other; those that are done
    // with serve the next ones instead of new pages, which the system clears.
    mallopt(M_MMAP_MAX, 0);
#endif
    const auto weights = find_model(o.ai);
    const Network network = Network::load(weights, Device::parse(o.device), precision);
    std::optional<Frame> mask;
    if (!o.mask.empty()) mask = read_frame(o.mask);
    if (!o.judge.empty() && o.inputs.size() > 1)
      throw Error(ErrorKind::usage, "--judge goes with one input; test the results one by one");
    auto reports = ordered_json::array();
    common.for_each(o.inputs, o.output, "", [&](const Job& job, const Progress& progress) {
      const WriteOptions writing{.depth = depth_of(o),
                                 .overwrite = o.overwrite,
                                 .history = common.history(network.info().name)};
      check_writable(job.output, writing);
      if (!o.trust_map.empty()) check_writable(o.trust_map, writing);
      check_outputs({job.output, o.trust_map, o.report}, o.overwrite);
      Frame frame = read_frame(job.input, {.threads = common.threads()});
      for (const std::string& note : frame.metadata.notes) progress.say(note);
      DeconvolveOptions own = pipeline;
      if (mask) own.mask = mask->image.view();
      Image judged;
      if (!o.judge.empty()) {
        judged = in_scale_of(read_frame(o.judge), frame.metadata);
        own.judged = judged.view();
      }
      Deconvolved result = naming(job.input, [&] {
        return deconvolve(frame.image.view(), network, own, progress, [&] {
          return Network::load(weights, {Device::Kind::cpu, 0});
        });
      });
      if (own.region) {
        const std::string note = dropped_in_words(
            change_grid(frame.metadata, frame.image.size(), {.part = *own.region}));
        if (!note.empty()) progress.say(note);
      }
      frame.image = std::move(result.image);
      write_frame(job.output, frame, writing);
      if (!o.trust_map.empty())
        write_trust_map(o.trust_map, std::move(result.trust_map), frame.metadata, writing);
      Result words{to_json(job, result.report), in_words(job, result.report)};
      reports.push_back(words.json);
      return words;
    });
    if (!o.report.empty() && !reports.empty()) {
      const std::string text =
          (reports.size() == 1 ? reports[0] : ordered_json{{"files", reports}}).dump(2) + "\n";
      write_file_atomically(o.report, text.data(), text.size(), o.overwrite);
    }
  });
}

}  // namespace limpid::cli
