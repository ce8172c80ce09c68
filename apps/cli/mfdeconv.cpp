// limpid mfdeconv: many registered frames into one that is sharper and deeper.
#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <filesystem>
#include <functional>

#include <limpid/io.h>
#include <limpid/multiframe.h>

#include "frame_set.h"
#include "mfdeconv.h"
#include "outputs.h"
#include "ranks.h"

namespace limpid::cli {
namespace {

using nlohmann::ordered_json;

ordered_json to_json(const MultiframeArguments& o, const MultiframeReport& r) {
  auto frames = ordered_json::array();
  for (const FrameSummary& f : r.frames) {
    ordered_json frame{{"name", f.name}, {"used", f.used}};
    if (!f.used) frame["reason"] = f.reason;
    if (f.used) {
      frame.update(ordered_json{{"psf",
                                 {{"stars", f.stars},
                                  {"fwhm_px", f.fwhm_px},
                                  {"ellipticity", f.ellipticity},
                                  {"beta", f.beta}}},
                                {"sky", f.sky},
                                {"sigma", f.sigma},
                                {"scale", f.scale},
                                {"shift_px", {f.shift_x_px, f.shift_y_px}},
                                {"weight", f.weight},
                                {"rejected", f.rejected},
                                {"softened", f.softened},
                                {"misfit", f.misfit}});
    }
    frames.push_back(std::move(frame));
  }
  auto iterations = ordered_json::array();
  for (const IterationSummary& i : r.iterations) {
    iterations.push_back({{"iteration", i.iteration},
                          {"update", i.update},
                          {"change", i.change},
                          {"chi", i.chi},
                          {"seconds", i.seconds}});
  }
  return {{"output", o.output.string()},
          {"frames_used", r.frames_used},
          {"width", r.size.width * o.solver.super_resolution},
          {"height", r.size.height * o.solver.super_resolution},
          {"stopped_early", r.stopped_early},
          {"kernel_px", r.kernel_px},
          {"tiles", r.tiles},
          {"transform_px", {r.tile.width, r.tile.height}},
          {"frames_at_once", r.frames_at_once},
          {"frames_in_memory", r.frames_in_memory},
          {"memory_bytes", r.memory_bytes},
          {"device", r.device},
          {"measure_seconds", r.measure_seconds},
          {"seed_seconds", r.seed_seconds},
          {"solve_seconds", r.solve_seconds},
          {"transform_share", r.transform_share},
          {"transforms_per_frame", r.transforms_per_frame},
          {"frames", frames},
          {"iterations", iterations},
          {"notes", r.notes}};
}

std::string in_words(const MultiframeArguments& o, const MultiframeReport& r) {
  double sharpest = 1e9, softest = 0;
  for (const FrameSummary& frame : r.frames) {
    if (!frame.used || frame.fwhm_px <= 0) continue;
    sharpest = std::min(sharpest, frame.fwhm_px);
    softest = std::max(softest, frame.fwhm_px);
  }
  std::array<char, 400> text{};
  std::snprintf(
      text.data(), text.size(),
      "%s\n  %d of %zu frames, FWHM %.2f to %.2f px\n  %zu iterations%s, last change %.2f %% of "
      "the light, %.1f s\n",
      o.output.string().c_str(), r.frames_used, r.frames.size(), softest > 0 ? sharpest : 0.0,
      softest, r.iterations.size(), r.stopped_early ? " (settled)" : "",
      r.iterations.empty() ? 0.0 : 100 * r.iterations.back().change,
      r.measure_seconds + r.seed_seconds + r.solve_seconds);
  return text.data();
}

/// What the seed's own program writes, so that its viewers know how the image was made.
void add_cards(Metadata& metadata, const MultiframeArguments& o, const MultiframeReport& r) {
  const auto add = [&](const char* key, const std::string& value, const char* comment,
                       bool is_string = false) {
    std::erase_if(metadata.cards, [&](const HeaderCard& card) { return card.keyword == key; });
    metadata.cards.push_back({key, value, comment, is_string});
  };
  const auto logical = [](bool value) { return std::string(value ? "T" : "F"); };
  const auto real = [](double value) {
    std::array<char, 40> text{};
    std::snprintf(text.data(), text.size(), "%.7G", value);
    return std::string(text.data());
  };
  const MultiframeOptions& s = o.solver;
  add("MFDECONV", "T", "multi-frame deconvolution");
  add("MF_COLOR", o.color, "colour mode", true);
  add("MF_RHO", o.loss, "loss function", true);
  add("MF_HDEL", real(shortest(s.huber_delta)), "Huber delta, below 0: in sigmas");
  add("MF_MASK", logical(o.star_masks), "clipped cores masked");
  add("MF_VAR", logical(o.variance_maps), "variance maps used");
  add("MF_SR", std::to_string(s.super_resolution), "super-resolution factor");
  if (s.super_resolution > 1) {
    add("MF_SRSIG", real(shortest(s.sr_sigma)), "[px] Gaussian of the fine grid");
    add("MF_SRIT", std::to_string(s.sr_psf_iterations), "iterations of the PSF lift");
  }
  add("MF_ITMAX", std::to_string(s.iterations), "iterations asked for");
  add("MF_ITERS", std::to_string(r.iterations.size()), "iterations done");
  add("MF_ESTOP", logical(r.stopped_early), "stopped early");
  add("MF_RSTR", real(shortest(s.relax)), "relaxation");
  add("MF_SHAPE", std::to_string(r.size.width) + "x" + std::to_string(r.size.height),
      "common part of the frames", true);
  add("MF_FRAMS", std::to_string(r.frames_used), "frames used");
  for (const FrameSummary& frame : r.frames) {
    HeaderCard card;
    card.keyword = "HISTORY";
    card.comment = std::string(frame.used ? "mfdeconv frame: " : "mfdeconv left out: ") +
                   std::filesystem::path(frame.name).filename().string();
    metadata.cards.push_back(std::move(card));
  }
}

/// Returns what of the header could not be kept, in words.
std::string write_result(const std::filesystem::path& path, Image image, Metadata metadata, Size frame,
                         const MultiframeArguments& o, WriteOptions writing) {
  const int factor = o.solver.super_resolution;
  const Rect part{0, 0, image.width() / factor, image.height() / factor};
  const auto dropped = change_grid(metadata, frame, {part, factor, path.extension() != ".png"});
  metadata.thumbnail = {};
  metadata.others = {};
  writing.depth = path.extension() == ".png" ? Depth::u16 : Depth::f32;
  write_frame(path, {std::move(image), std::move(metadata)}, writing);
  return dropped_in_words(dropped);
}

std::filesystem::path iteration_file(const MultiframeArguments& o, int iteration) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "iteration-%03d.fits", iteration);
  return o.save_iterations / name.data();
}

bool is_seed_file(const MultiframeArguments& o) { return o.seed != "median" && o.seed != "robust"; }

/// Frames, masks, PSFs and the seed: all that decides what a run makes.
std::vector<FileRead> files_read(const MultiframeArguments& o) {
  std::vector<FileRead> files;
  const int count = static_cast<int>(o.inputs.size());
  const auto input = [&](int i) { return o.inputs[static_cast<std::size_t>(i)]; };
  for (int i = 0; i < count; ++i) files.push_back({input(i), i});
  if (is_seed_file(o)) files.push_back({o.seed});
  for (const auto& folder : {o.rejection_masks, o.psf_dir}) {
    for (int i = 0; i < count && !folder.empty(); ++i) {
      if (const auto file = companion(folder, input(i))) files.push_back({*file, i});
    }
  }
  return files;
}

void check_places(const MultiframeArguments& o, const WriteOptions& writing) {
  check_writable(o.output, writing);
  if (o.resume && o.checkpoint.empty())
    throw Error(ErrorKind::usage, "--resume needs the folder of --checkpoint");
  const auto curve = o.report.empty() ? std::filesystem::path()
                                      : std::filesystem::path(o.report).replace_extension(".svg");
  std::vector<std::filesystem::path> inputs;
  for (const FileRead& file : files_read(o)) inputs.push_back(file.path);
  check_outputs({o.output, o.report, curve}, o.overwrite, inputs);
  if (o.save_iterations.empty()) return;
  make_writable_folder(o.save_iterations);
  if (o.resume) return;  // what the run that was killed has saved goes on
  std::vector<std::filesystem::path> saved;
  for (int i = 1; i <= o.solver.iterations; ++i) saved.push_back(iteration_file(o, i));
  check_outputs(saved, o.overwrite);
}

void write_report(const MultiframeArguments& o, const ordered_json& json,
                  const MultiframeReport& report) {
  const std::string text = json.dump(2) + "\n", picture = convergence_svg(report);
  write_file_atomically(o.report, text.data(), text.size(), o.overwrite);
  write_file_atomically(std::filesystem::path(o.report).replace_extension(".svg"), picture.data(),
                        picture.size(), o.overwrite);
}

/// All ranks must go on from the same iteration.
void require_same(int iteration, const Hosts& hosts) {
  if (hosts.count == 1) return;
  std::vector<float> iterations(static_cast<std::size_t>(hosts.count));
  iterations[static_cast<std::size_t>(hosts.rank)] = static_cast<float>(iteration);
  hosts.sum(iterations);
  if (std::ranges::adjacent_find(iterations, std::not_equal_to{}) == iterations.end()) return;
  throw Error(
      ErrorKind::usage,
      "the ranks of mpirun find different checkpoints: --checkpoint must lie on a disk they share");
}

}  // namespace

/// "4G", "500M", "1500000000"; 0 for auto.
std::size_t memory_bytes(const MultiframeArguments& o) {
  const std::string& text = o.memory;
  if (text == "auto") return 0;
  char* end = nullptr;
  double value = std::strtod(text.c_str(), &end);
  std::string unit = end;
  std::ranges::transform(unit, unit.begin(), [](unsigned char c) { return std::toupper(c); });
  if (!unit.empty() && unit.back() == 'B') unit.pop_back();
  const std::string units = "KMGT";
  if (unit.size() == 1 && units.find(unit) != std::string::npos) {
    for (std::size_t i = 0; i <= units.find(unit); ++i) value *= 1000;
  } else if (!unit.empty()) {
    value = 0;
  }
  if (end == text.c_str() || !(value >= 1e6 && value < 1e15))
    throw Error(ErrorKind::usage, "--memory " + text + ": give auto, or bytes such as 800M or 4G");
  return static_cast<std::size_t>(value);
}

Result run_multiframe(const MultiframeArguments& o, int threads, const std::string& history,
                      const Progress& progress, const Hosts& hosts) {
  WriteOptions writing;
  writing.overwrite = o.overwrite;
  writing.history = history;
  if (hosts.rank == 0) check_places(o, writing);
  MultiframeOptions solver = o.solver;
  solver.hosts = hosts;
  solver.loss = o.loss == "l2" ? Loss::l2 : Loss::huber;
  solver.luma = o.color == "luma";
  solver.star_masks = o.star_masks;
  solver.variance_maps = o.variance_maps;
  solver.memory_bytes = memory_bytes(o);
  solver.threads = threads;
  solver.device = Device::parse(o.device);
  FrameFiles files = open_frames(o.inputs, o.rejection_masks, o.psf_dir);
  // what decides the result; the number of iterations may grow
  std::array<char, 300> settings{};
  std::snprintf(settings.data(), settings.size(),
                "%s %s %s %.6g %.6g %.6g %.6g %d %.6g %d %d %d %d %s %s", o.loss.c_str(),
                o.color.c_str(), o.seed.c_str(), static_cast<double>(solver.huber_delta),
                static_cast<double>(solver.reject_sigma), static_cast<double>(solver.kappa),
                static_cast<double>(solver.relax), solver.super_resolution,
                static_cast<double>(solver.sr_sigma), solver.sr_psf_iterations, solver.psf_grid,
                o.star_masks ? 1 : 0, o.variance_maps ? 1 : 0, o.rejection_masks.string().c_str(),
                o.psf_dir.string().c_str());
  std::optional<Checkpoint> checkpoint;
  std::optional<KeptRun> kept;
  if (!o.checkpoint.empty()) {
    checkpoint.emplace(o.checkpoint, files_read(o), settings.data());
    if (o.resume) {
      kept = checkpoint->load();
      require_same(kept ? kept->state.iteration : 0, solver.hosts);
      if (kept) {
        share_unit(files, kept->unit);
        solver.resume = &kept->state;
        progress.say("going on after iteration " + std::to_string(kept->state.iteration));
      }
    }
    solver.save_state = [&](const MultiframeState& now) { checkpoint->save(now, files.unit); };
  }
  Image seed;
  if (!is_seed_file(o)) {
    solver.seed = o.seed == "median" ? Seed::median : Seed::robust;
  } else {
    Frame frame = read_frame(o.seed);
    bool alike = true;
    for (std::size_t i = 0; i < files.frames.size(); ++i) {
      if (!files.frames[i].fault.empty() || files.frames[i].unit != 1) continue;
      alike = frame.metadata.sample_type == files.metadata[i].sample_type;
      break;
    }
    const auto unit = static_cast<float>(frame.metadata.scale / files.unit);
    for (float& value : frame.image.pixels()) value *= alike ? unit : 1;
    seed = std::move(frame.image);
    solver.seed_image = seed.view();
    solver.seed_name = o.seed;
  }
  int saved = 0;
  if (!o.save_iterations.empty()) {
    solver.save_iteration = [&](int iteration, const Image& image, int reference) {
      WriteOptions saving = writing;
      // a run that has lost frames may begin anew
      saving.overwrite |= o.resume || iteration <= saved;
      saved = std::max(saved, iteration);
      write_result(iteration_file(o, iteration), image.clone(),
                   files.metadata[static_cast<std::size_t>(reference)],
                   files.frames[static_cast<std::size_t>(reference)].size, o, saving);
    };
  }
  Multiframe result = deconvolve_frames(files.frames, solver, progress);
  Metadata metadata = files.metadata[static_cast<std::size_t>(result.report.reference)];
  if (hosts.rank != 0) return {};
  add_cards(metadata, o, result.report);
  const Size frame = files.frames[static_cast<std::size_t>(result.report.reference)].size;
  const std::string note =
      write_result(o.output, std::move(result.image), std::move(metadata), frame, o, writing);
  if (!note.empty()) {
    progress.say(note);
    result.report.notes.push_back(note);
  }
  const ordered_json json = to_json(o, result.report);
  if (!o.report.empty()) write_report(o, json, result.report);
  if (checkpoint) checkpoint->remove();
  return {json, in_words(o, result.report)};
}

Command mfdeconv_command(CLI::App& app, const Common& common, MultiframeArguments& o) {
  MultiframeOptions& solver = o.solver;
  Command command(app, common, "mfdeconv",
                  "Deconvolves many registered frames, each with its own PSF, into one image.",
                  "limpid mfdeconv lights/*.fits -o m31.fits --iterations 30 --report m31.json");
  command.inputs(o.inputs, "registered linear frames: FITS, XISF or TIFF")
      .output(o.output, o.overwrite, "the result, as 32-bit floats")
      .option("--iterations", solver.iterations, {1, 1000}, "at most this many")
      .option("--min-iterations", solver.min_iterations, {0, 1000}, "before it may stop as settled")
      .choice("--loss", o.loss, {"huber", "l2"},
              "huber weighs outliers down; l2 is least squares and trusts every pixel")
      .option("--huber-delta", solver.huber_delta,
              "residual at which huber turns linear; below 0: in robust sigmas of each frame, above: in "
              "units of the set's sky noise, the same for all frames")
      .option("--reject-sigma", solver.reject_sigma, {0, 1000},
              "huber: residuals over this many sigmas weigh nothing; 0: all count")
      .option("--kappa", solver.kappa, {1.01, 100},
              "an iteration changes no pixel by more than this factor")
      .option("--relax", solver.relax, {0.01, 1}, "share of each update that is taken")
      .option("--seed", o.seed,
              "where to begin: robust (clipped running mean), median, or a file with a stack")
      .choice("--color", o.color, {"perchannel", "luma"},
              "each channel by itself, or the mean of the channels as one")
      .option("--super-resolution", solver.super_resolution, {1, 4},
              "solve on a grid with this many times the pixels per side")
      .option("--sr-sigma", solver.sr_sigma, {0.3, 5},
              "Gaussian that stars of the fine grid approach, in its px")
      .option("--sr-psf-iterations", solver.sr_psf_iterations, {1, 5000},
              "iterations that lift the PSFs to the fine grid")
      .flag("--star-masks", o.star_masks, "clipped cores of stars weigh nothing")
      .flag("--variance-maps", o.variance_maps,
            "local sky noise and measured photon noise in place of one sigma per frame")
      .option("--rejection-masks", o.rejection_masks,
              "folder with files named like the frames: pixels over 0.5 are rejected, 0 is kept")
      .option("--psf-dir", o.psf_dir,
              "folder with kernels named like the frames; others are measured")
      .option("--psf-grid", solver.psf_grid, {1, 32},
              "let PSFs change over this many cells per side")
      .option("--memory", o.memory,
              "most memory to use, such as 800M or 4G; auto is half of what is free")
      .device(o.device, "where the iterations run")
      .option("--save-iterations", o.save_iterations, "folder for the image after each iteration")
      .option("--checkpoint", o.checkpoint, "folder that keeps the run after each iteration")
      .flag("--resume", o.resume, "go on from the checkpoint, if there is one")
      .option("--report", o.report,
              "JSON file on frames and convergence; a picture (.svg) is put beside it");
  return command;
}

void add_mfdeconv(CLI::App& app, const Common& common) {
  auto options = std::make_shared<MultiframeArguments>();
  Command command = mfdeconv_command(app, common, *options);
  command.run([options, common] {
    common.require_silence(options->output);
    Ranks ranks;
    Result result;
    ranks.run([&] {
      result = run_multiframe(*options, common.threads(), common.history(), common.progress(),
                              ranks.hosts());
    });
    if (ranks.first()) common.print(result, options->output);
  });
}

}  // namespace limpid::cli
