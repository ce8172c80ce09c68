// limpid background: the sky's own gradient modelled and taken out.
#include <limpid/background.h>
#include <limpid/io.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "background.h"
#include "failure.h"
#include "outputs.h"

namespace limpid::cli {
namespace {

using nlohmann::ordered_json;

ordered_json shortest_all(const std::vector<float>& values) {
  auto list = ordered_json::array();
  for (const float value : values) list.push_back(shortest(value));
  return list;
}

/// Throws nlohmann's exceptions, and Error for shapes that cannot be.
Image correction_of(const ordered_json& json) {
  constexpr int most = 1000;
  const int columns = json.at("columns").get<int>(), rows = json.at("rows").get<int>();
  const auto channels = json.at("values").get<std::vector<std::vector<float>>>();
  const auto bad = [](const std::string& what) {
    return Error(ErrorKind::bad_input, "the correction " + what);
  };
  if (std::min(columns, rows) < 3 || std::max(columns, rows) > most) {
    throw bad("has " + std::to_string(columns) + " x " + std::to_string(rows) +
              " values; want 3 to " + std::to_string(most));
  }
  const Size size{columns, rows};
  for (const auto& values : channels) {
    if (values.size() != size.pixels() ||
        !std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) {
      throw bad("is not one list of columns * rows finite values per channel");
    }
  }
  if (channels.empty()) throw bad("has no channel");
  Image correction(static_cast<int>(channels.size()), size);
  auto to = correction.pixels().begin();
  for (const auto& values : channels) to = std::ranges::copy(values, to).out;
  return correction;
}

std::vector<ControlPoint> points_of(const ordered_json& list, float wide, float high) {
  std::vector<ControlPoint> points;
  for (const auto& point : list) {
    points.push_back({point.at("x").get<float>() * wide, point.at("y").get<float>() * high,
                      point.value("values", std::vector<float>{})});
    const ControlPoint& last = points.back();
    if (!std::isfinite(last.x) || !std::isfinite(last.y) ||
        !std::ranges::all_of(last.values, [](float v) { return std::isfinite(v); }))
      throw Error(ErrorKind::bad_input, "a control point without finite x, y and values");
  }
  return points;
}

SavedPoints read_points(const std::filesystem::path& path, Size frame, int order) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorKind::bad_input, path.string() + ": cannot be read");
  try {
    return saved_points_of(ordered_json::parse(file, nullptr, false), frame, order);
  } catch (const Error& error) {
    throw Error(error.kind(), path.string() + ": " + error.what());
  }
}

std::string in_pixels(Size size) {
  return std::to_string(size.width) + " x " + std::to_string(size.height) + " pixels";
}

/// Size of one step of the integers that the frame will be written as; 0 for floats.
float output_step(const Metadata& metadata, Depth depth) {
  if (depth == Depth::u8) return 1.0F / 255;
  if (depth == Depth::u16) return 1.0F / 65535;
  const SampleType type = metadata.sample_type;
  const bool small_integers =
      type == SampleType::u8 || type == SampleType::u16 || type == SampleType::i16;
  return depth == Depth::as_input && small_integers ? static_cast<float>(1 / metadata.scale) : 0;
}

std::string in_words(const Job& job, const Background& background, const RemoveReport& removed) {
  const BackgroundReport& fit = background.report();
  std::array<char, 600> text{};
  std::snprintf(
      text.data(), text.size(),
      "%s -> %s\n  sky range %.3g (%.1f times the noise), %.0f %% masked, %.0f %% missing\n"
      "  %zu control points, %d iterations, loss %.5f, %.1f s",
      job.input.string().c_str(), job.output.string().c_str(), static_cast<double>(fit.range[0]),
      static_cast<double>(fit.range[0] / fit.noise[0]), 100 * fit.masked_share,
      100 * fit.missing_share, background.points().size(), fit.iterations, fit.loss, fit.seconds);
  std::string words = text.data();
  if (removed.below_zero + removed.above_one > 0) {
    words += "\n  " + std::to_string(removed.below_zero) + " pixels went below 0 and " +
             std::to_string(removed.above_one) + " above 1; a file of integers clips them";
  }
  return words;
}

/// Floats where the format has them, which PNG has not.
Depth model_depth(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".png" ? Depth::u16 : Depth::f32;
}

void write_picture(const std::filesystem::path& path, Image picture, bool overwrite) {
  write_frame(path, Frame{std::move(picture), {}}, {.depth = Depth::u8, .overwrite = overwrite});
}

Result remove_sky(const Job& job, const BackgroundArguments& options,
                  const std::optional<Image>& mask, const Common& common,
                  const Progress& progress) {
  const WriteOptions writing{
      .depth = depth_of(options), .overwrite = options.overwrite, .history = common.history()};
  check_writable(job.output, writing);
  for (const auto& path : {options.model, options.preview}) {
    if (!path.empty()) check_writable(path, {.overwrite = options.overwrite});
  }
  check_outputs({options.model, options.preview}, options.overwrite, {job.input, options.mask});
  const bool reuse = !options.points.empty() && std::filesystem::exists(options.points);
  check_outputs({job.output, options.model, options.preview,
                 reuse ? std::filesystem::path() : options.points},
                options.overwrite);
  Frame frame = read_frame(job.input, {}, progress.part(0, 0.1));
  for (const std::string& note : frame.metadata.notes) progress.say(note);
  BackgroundOptions fit = fit_options(options, common.threads());
  if (mask) fit.mask = mask->view();
  if (mask && mask->size() != frame.image.size()) {
    throw Error(ErrorKind::usage, options.mask.string() + ": a mask of " + in_pixels(mask->size()) +
                                      "; " + job.input.string() + " has " +
                                      in_pixels(frame.image.size()));
  }
  SavedPoints saved;
  if (reuse) {
    saved = read_points(options.points, frame.image.size(), fit.order);
    use_points(fit, saved, options.refine);
    progress.say(options.points.string() + ": " + std::to_string(fit.points.size()) +
                 " control points " + (options.refine ? "to start from" : "used as they are"));
  }
  const Background background = naming(
      job.input, [&] { return fit_background(frame.image.view(), fit, progress.part(0.1, 0.8)); });
  for (const std::string& note : background.report().notes) progress.say(note);
  // Before the frame is changed: what can fail should fail now.
  if (!options.preview.empty())
    write_picture(options.preview, background.preview(), options.overwrite);
  const RemoveReport removed = naming(job.input, [&] {
    return remove_background(frame.image.view(), background,
                             remove_options(options, common.threads()));
  });
  if (options.dithered && !dither_as_asked(frame, options, common.threads()))
    progress.say("--dither: the output is not of 8 or 16 bits, so there is nothing to dither");
  write_frame(job.output, frame, writing, progress.part(0.8, 1));
  if (!options.model.empty()) {
    frame.image = background.render(common.threads());
    write_frame(options.model, frame,
                {.depth = model_depth(options.model),
                 .overwrite = options.overwrite,
                 .history = common.history()});
  }
  if (!options.points.empty() && !reuse) {
    const std::string text = points_json(background).dump(1) + "\n";
    write_file_atomically(options.points, text.data(), text.size(), options.overwrite);
  }
  return {to_json(job, background, removed), in_words(job, background, removed)};
}

}  // namespace

ordered_json points_json(const Background& background) {
  auto points = ordered_json::array();
  for (const ControlPoint& point : background.points()) {
    points.push_back({{"x", shortest(point.x)},
                      {"y", shortest(point.y)},
                      {"values", shortest_all(point.values)}});
  }
  ordered_json json{{"width", background.size().width},
                    {"height", background.size().height},
                    {"order", background.order()},
                    {"points", std::move(points)}};
  const Image& correction = background.correction();
  if (!correction.view().empty()) {
    auto channels = ordered_json::array();
    for (int c = 0; c < correction.channels(); ++c) {
      const auto plane = correction.size().pixels();
      const auto values = correction.pixels().subspan(static_cast<std::size_t>(c) * plane, plane);
      channels.push_back(shortest_all({values.begin(), values.end()}));
    }
    json["correction"] = {{"columns", correction.width()},
                          {"rows", correction.height()},
                          {"values", std::move(channels)}};
  }
  return json;
}

SavedPoints saved_points_of(const ordered_json& json, Size frame, int order) {
  if (!json.is_object() || !json.contains("points") || !json["points"].is_array()) {
    throw Error(
        ErrorKind::bad_input,
        "no control points; want {\"width\", \"height\", \"order\", \"points\": [{\"x\", \"y\", "
        "\"values\"}]}");
  }
  try {
    const auto scale = [&json](const char* side, int length) {
      return static_cast<float>(length) / json.value(side, static_cast<float>(length));
    };
    const float wide = scale("width", frame.width), high = scale("height", frame.height);
    SavedPoints saved{.order = json.value("order", order)};
    saved.points = points_of(json["points"], wide, high);
    if (json.contains("removed")) saved.removed = points_of(json["removed"], wide, high);
    if (json.contains("correction")) saved.correction = correction_of(json["correction"]);
    return saved;
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorKind::bad_input, "not as limpid writes it: " + std::string(error.what()));
  }
}

void use_points(BackgroundOptions& fit, const SavedPoints& saved, bool refine) {
  fit.order = saved.order;
  fit.points = saved.points;
  fit.removed_points = saved.removed;
  fit.correction = saved.correction.view();
  if (!refine) fit.max_iterations = 0;
}

ordered_json to_json(const Job& job, const Background& background, const RemoveReport& removed) {
  const BackgroundReport& fit = background.report();
  return {{"input", job.input.string()},
          {"output", job.output.string()},
          {"width", background.size().width},
          {"height", background.size().height},
          {"channels", background.channels()},
          {"level", shortest_all(removed.level)},
          {"model_range", shortest_all(fit.range)},
          {"noise", shortest_all(fit.noise)},
          {"masked_share", fit.masked_share},
          {"missing_share", fit.missing_share},
          {"sky_hidden", fit.sky_hidden},
          {"loss", fit.loss},
          {"bending", fit.bending},
          {"start_loss", fit.start_loss},
          {"start", fit.start},
          {"start_kept", fit.start_kept},
          {"iterations", fit.iterations},
          {"downscale", fit.downscale},
          {"control_points", points_json(background)},
          {"pixels_below_zero", removed.below_zero},
          {"pixels_above_one", removed.above_one},
          {"seconds", fit.seconds},
          {"notes", fit.notes}};
}

BackgroundOptions fit_options(const BackgroundArguments& o, int threads) {
  BackgroundOptions fit = o.fit;
  fit.downscale_with = o.downscale_with == "mean" ? Downscaling::mean : Downscaling::median;
  fit.layout = o.init == "random" ? PointLayout::random : PointLayout::grid;
  fit.auto_mask = o.auto_mask == "on";
  fit.robust_start = o.start_values == "robust";
  fit.validate = o.validate == "on";
  fit.link_channels = o.link_channels;
  fit.threads = threads;
  return fit;
}

RemoveOptions remove_options(const BackgroundArguments& o, int threads) {
  return {.mode = o.mode == "divide" ? BackgroundMode::divide : BackgroundMode::subtract,
          .neutral = o.neutral,
          .threads = threads};
}

Depth depth_of(const BackgroundArguments& o) {
  return o.depth == "u8"    ? Depth::u8
         : o.depth == "u16" ? Depth::u16
         : o.depth == "f32" ? Depth::f32
                            : Depth::as_input;
}

bool dither_as_asked(Frame& frame, const BackgroundArguments& o, int threads) {
  const float step = output_step(frame.metadata, depth_of(o));
  if (step > 0) dither(frame.image.view(), step, o.fit.seed, threads);
  return step > 0;
}

Command background_command(CLI::App& app, const Common& common, BackgroundArguments& o) {
  Command command(app, common, "background",
                  "Models the sky's own gradient by a spline and takes it out of the frame.",
                  "limpid background m31.fits -o m31-flat.fits --preview m31-sky.png");
  command.inputs(o.inputs, "linear frames: FITS, XISF, TIFF or PNG")
      .output(o.output, o.overwrite, "file, or FOLDER/ for several inputs")
      .option("--control-points", o.fit.control_points, {4, 400},
              "of the spline; a grid takes the nearest square number")
      .option("--order", o.fit.order, {2, 3}, "of the spline: 2 is a thin plate, 3 is stiffer")
      .option("--downscale", o.fit.downscale, {1, 64},
              "the model is fitted to a frame so many times smaller")
      .choice("--downscale-with", o.downscale_with, {"median", "mean"},
              "what a block of pixels becomes")
      .option("--stretch-quantile", o.fit.stretch_quantile, {0.01, 1},
              "share of the pixels that become white at most; lower stretches harder")
      .option("--mask", o.mask, "frame of 0 to 1: 1 is sky, 0 is left out (objects, foreground)")
      .option("--mask-below", o.fit.mask_below, {-1, 1}, "stretched values below are left out")
      .option("--mask-above", o.fit.mask_above, {0, 2}, "stretched values above are left out")
      .choice("--auto-mask", o.auto_mask, {"on", "off"},
              "find stars, nebulae and galaxies and leave them out")
      .option("--alpha", o.fit.alpha, {0, 1000}, "weight of a model above the sky or below zero")
      .option("--complexity", o.fit.complexity, {0, 1000},
              "weight of bending away from the robust start; higher is stiffer")
      .option("--learning-rate", o.fit.learning_rate, {1e-6, 1}, "of the optimiser (Adam)")
      .option("--max-iterations", o.fit.max_iterations, {0, 1000000},
              "of the optimiser; it stops early when done")
      .choice("--init", o.init, {"grid", "random"}, "where the control points start")
      .choice("--start-values", o.start_values, {"robust", "pixels"},
              "values of the control points: a robust low-order sky, or the pixels there")
      .choice("--validate", o.validate, {"on", "off"},
              "keep the robust start unless pixels that the fit has not seen ask for more")
      .option("--starts", o.fit.starts, {1, 100}, "starts that are tried; the best goes on")
      .option("--seed", o.fit.seed, {0, 1e15}, "of random places and dithering")
      .flag("--link-channels", o.link_channels, "one surface for all channels")
      .choice("--mode", o.mode, {"subtract", "divide"}, "how the sky is taken out")
      .flag("--neutral", o.neutral, "give all channels the same sky level")
      .flag("--dither", o.dithered, "noise of one step in 8 and 16 bit output, against bands")
      .choice("--depth", o.depth, {"as-input", "u8", "u16", "f32"}, "samples of the output")
      .option("--model", o.model, "write the model, too: a frame of floats (PNG: 16 bits)")
      .option("--points", o.points,
              "control points as JSON (and what the sky is beyond their spline): written if the "
              "file does not exist, otherwise used as they are; those without values get the "
              "sky's around them")
      .flag("--refine", o.refine, "optimise from the points of --points instead of keeping them")
      .option("--preview", o.preview,
              "picture (PNG): stretched frame, mask, control points; model, result, loss");
  return command;
}

void add_background(CLI::App& app, const Common& common) {
  auto options = std::make_shared<BackgroundArguments>();
  Command command = background_command(app, common, *options);
  command.run([options, common] {
    const BackgroundArguments& chosen = *options;
    const bool writes_points = !chosen.points.empty() && !std::filesystem::exists(chosen.points);
    if (chosen.inputs.size() > 1 &&
        (!chosen.model.empty() || !chosen.preview.empty() || writes_points)) {
      throw Error(ErrorKind::usage,
                  "--model, --preview and new --points: give one frame at a time");
    }
    std::optional<Image> mask;
    if (!chosen.mask.empty()) mask = read_frame(chosen.mask).image;
    common.for_each(chosen.inputs, chosen.output, "",
                    [&](const Job& job, const Progress& progress) {
                      return remove_sky(job, chosen, mask, common, progress);
                    });
  });
}

}  // namespace limpid::cli
