// What becomes a file in the folder, and the command lines that make the same.
#include <algorithm>

#include "web/command_line.h"
#include "web/parts.h"

namespace limpid::web {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t most_frames = 2000;

/// Those of the result; the page may say how the file is to be written.
Json merged(Json options, const Json& request) {
  options.update(options_of(request));
  return options;
}

fs::path flattened(const fs::path& frame) {
  return frame.parent_path() / (frame.stem().string() + "-flat.fits");
}

}  // namespace

std::vector<std::string> Session::words_of(const std::string& command,
                                           const std::vector<fs::path>& inputs,
                                           const fs::path& output, bool overwrite,
                                           const Json& options) const {
  std::vector<std::string> words{"limpid", command};
  for (const fs::path& input : inputs) words.push_back(input.string());
  words.insert(words.end(), {"-o", output.string()});
  if (overwrite) words.emplace_back("--overwrite");
  const bool by_hand = command == "background" && options.contains("points");
  if (by_hand)
    words.insert(words.end(),
                 {"--points", points_files_.of(inputs.front(), options["points"]).string()});
  std::ranges::move(option_words(command, by_hand ? without_points(options) : options, folder_),
                    std::back_inserter(words));
  return words;
}

std::vector<std::string> Session::words_of_request(const Json& request) const {
  const fs::path output = folder_.target(text_of(request, "name"));
  const auto& names = request.contains("frames") ? request["frames"] : Json();
  if (!names.is_array() || names.size() < 2 || names.size() > most_frames)
    throw Error(ErrorKind::usage, "frames: choose two or more");
  std::vector<fs::path> inputs;
  for (const Json& name : names) {
    if (!name.is_string()) throw Error(ErrorKind::usage, "frames: names are wanted");
    inputs.push_back(folder_.file(name.get<std::string>()));
  }
  if (std::ranges::find(inputs, output) != inputs.end())
    throw Error(ErrorKind::cannot_write, folder_.name_of(output) + ": that is one of the frames");
  return words_of("mfdeconv", inputs, output, flag_of(request, "overwrite"), options_of(request));
}

Json Session::command(const Json& request) const {
  const std::string command = text_of(request, "command", "deconvolve");
  if (command == "mfdeconv") {
    const auto words = words_of_request(request);
    static_cast<void>(cli::memory_bytes(parse_multiframe({words.begin() + 1, words.end()})));
    return {{"command", cli::shell_words(words)}};
  }
  const auto open = frame();
  const Json options = options_of(request);
  if (command == "background")
    static_cast<void>(background_arguments(*open, options));
  else
    static_cast<void>(deconvolve_arguments(*open, options));
  Json answer{{"command", cli::shell_words(words_of(command, {open->path},
                                                    folder_.target(text_of(request, "name")),
                                                    flag_of(request, "overwrite"), options))}};
  if (command == "background" && options.contains("points") &&
      !points_files_.has(open->path, options["points"]))
    answer["needs"] = folder_.name_of(points_files_.of(open->path, options["points"]));
  return answer;
}

std::string Session::save_sky(const OpenFrame& open, const Sky& sky, const std::string& what,
                              const fs::path& path, bool overwrite) {
  const bool by_hand = sky.options.contains("points");
  // the sky lies beside a result that its command makes, too
  const auto line_of = [&](bool with_file) {
    auto words = words_of("background", {open.path}, flattened(open.path), overwrite, sky.options);
    if (with_file) words.insert(words.end(), {"--" + what, path.string()});
    return cli::shell_words(words);
  };
  if (what == "points") {
    if (path.extension() != ".json")
      throw Error(ErrorKind::usage, path.filename().string() + ": control points are a .json file");
    const std::string text = points_text(*sky.background);
    write_file_atomically(path, text.data(), text.size(), overwrite);
    if (by_hand) points_files_.remember(open.path, sky.options["points"], path);
    return line_of(!by_hand);
  }
  if (by_hand) points_files_.keep(folder_, open.path, sky.options["points"], *sky.background);
  std::string line = line_of(true);
  const WriteOptions writing{
      .depth = Depth::f32, .overwrite = overwrite, .history = cli::history_line(line)};
  check_writable(path, writing);
  write_frame(path, Frame{sky.background->render(threads_), open.frame.metadata}, writing);
  return line;
}

Json Session::save(const Json& request) {
  return telling([&] { return write(request); });
}

Json Session::write(const Json& request) {
  const auto open = frame();
  std::shared_ptr<const Outcome> outcome;
  std::shared_ptr<const Sky> sky;
  {
    const std::scoped_lock lock(mutex_);
    outcome = outcome_;
    if (!skies_.empty()) sky = skies_.front();
  }
  const std::string name = text_of(request, "name"), what = text_of(request, "what", "result");
  const bool of_sky = what == "model" || what == "points";
  if (what != "result" && what != "trust" && !of_sky)
    throw Error(ErrorKind::usage, "what: result, trust, model or points is wanted");
  if (of_sky ? !sky : !outcome) throw Gone("there is nothing to save yet");
  const auto path = folder_.target(name);
  if (path == open->path)
    throw Error(ErrorKind::cannot_write, name + ": that is the frame itself; choose another name");
  const bool overwrite = flag_of(request, "overwrite");
  const auto answer = [&] { return Json{{"name", name}, {"bytes", fs::file_size(path)}}; };

  if (of_sky) {
    Json saved;
    saved["command"] = save_sky(*open, *sky, what, path, overwrite);
    saved.update(answer());
    return saved;
  }

  if (outcome->background && outcome->options.contains("points"))
    points_files_.keep(folder_, open->path, outcome->options["points"], *outcome->background);
  const auto words =
      words_of(outcome->command, {open->path}, path, overwrite, merged(outcome->options, request));
  const std::string line = cli::shell_words(words);
  const std::vector<std::string> rest{words.begin() + 1, words.end()};
  WriteOptions writing{.overwrite = overwrite, .history = cli::history_line(line, outcome->model)};
  std::optional<cli::BackgroundArguments> background;
  if (outcome->command == "background") {
    background = parse_background(rest);
    writing.depth = cli::depth_of(*background);
  } else {
    writing.depth = cli::depth_of(parse_deconvolve(rest));
  }
  check_writable(path, writing);
  if (what == "trust") {
    if (outcome->trust_map.empty()) throw Gone("there is no trust map to save");
    cli::write_trust_map(path, outcome->trust_map.clone(), outcome->frame.metadata, writing);
    return answer();
  }
  if (background && background->dithered) {
    Frame dithered{outcome->frame.image.clone(), outcome->frame.metadata};
    static_cast<void>(cli::dither_as_asked(dithered, *background, threads_));
    write_frame(path, dithered, writing);
  } else {
    write_frame(path, outcome->frame, writing);
  }
  Json saved = answer();
  saved["command"] = line;
  return saved;
}

}  // namespace limpid::web
