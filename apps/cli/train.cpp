// limpid train: a network from a corpus, as one TOML file says.
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>

#include <limpid/training.h>

#include "command.h"
#include "outputs.h"
#include "ranks.h"

namespace limpid::cli {
namespace {

struct Options {
  std::filesystem::path config, corpus, output, initial;
  bool overwrite = false, resume = false;
  std::optional<std::int64_t> steps;
  double hours = 0;
  std::string device = "auto";
};

[[noreturn]] void reject(const std::filesystem::path& path, const std::string& what) {
  throw Error(ErrorKind::usage, path.string() + ": " + what);
}

/// Every key of the file sets one field; a key that sets none is a mistake of the writer's.
TrainOptions read_config(const std::filesystem::path& path) {
  TrainOptions o;
  std::ifstream stream(path);
  if (!stream) throw Error(ErrorKind::bad_input, path.string() + ": cannot be read");
  std::stringstream text;
  text << stream.rdbuf();
  o.config_text = text.str();
  toml::table table;
  try {
    table = toml::parse(o.config_text);
  } catch (const toml::parse_error& error) {
    reject(path, "line " + std::to_string(error.source().begin.line) + ": " +
                     std::string(error.description()));
  }
  const auto set = [&](auto& target, const toml::node& node, const std::string& key) {
    using T = std::remove_reference_t<decltype(target)>;
    if constexpr (std::is_same_v<T, std::vector<int>>) {
      const auto* list = node.as_array();
      if (list == nullptr) reject(path, key + " must be a list of whole numbers");
      target.clear();
      for (const auto& item : *list)
        target.push_back(static_cast<int>(item.value_or(std::int64_t{-1})));
    } else {
      const auto value = node.value<T>();
      if (!value) reject(path, key + " has a value of the wrong type");
      target = *value;
    }
  };
  for (const auto& [name, node] : table) {
    const std::string key(name.str());
    if (key == "name")
      set(o.name, node, key);
    else if (key == "architecture")
      set(o.architecture, node, key);
    else if (key == "widths")
      set(o.widths, node, key);
    else if (key == "blocks")
      set(o.blocks, node, key);
    else if (key == "steps")
      set(o.steps, node, key);
    else if (key == "batch")
      set(o.batch, node, key);
    else if (key == "patch_px")
      set(o.patch_px, node, key);
    else if (key == "learning_rate")
      set(o.learning_rate, node, key);
    else if (key == "final_learning_rate")
      set(o.final_learning_rate, node, key);
    else if (key == "warm_up_steps")
      set(o.warm_up_steps, node, key);
    else if (key == "decay_fraction")
      set(o.decay_fraction, node, key);
    else if (key == "weight_average")
      set(o.weight_average, node, key);
    else if (key == "gradient_clip")
      set(o.gradient_clip, node, key);
    else if (key == "relative_weight")
      set(o.relative_weight, node, key);
    else if (key == "flux_weight")
      set(o.flux_weight, node, key);
    else if (key == "flux_levels")
      set(o.flux_levels, node, key);
    else if (key == "large_error_weight")
      set(o.large_error_weight, node, key);
    else if (key == "scene_floor")
      set(o.scene_floor, node, key);
    else if (key == "slope_weight")
      set(o.slope_weight, node, key);
    else if (key == "reuse")
      set(o.reuse, node, key);
    else if (key == "psf_bank")
      set(o.psf_bank, node, key);
    else if (key == "seed")
      set(o.seed, node, key);
    else if (key == "loader_threads")
      set(o.loader_threads, node, key);
    else if (key == "precision") {
      std::string chosen;
      set(chosen, node, key);
      o.precision = parse_precision(chosen);
    } else if (key == "checkpoint_minutes")
      set(o.checkpoint_minutes, node, key);
    else if (key == "log_seconds")
      set(o.log_seconds, node, key);
    else
      reject(path, "unknown key '" + key + "'");
  }
  return o;
}

/// Loss over steps as a small picture, both axes named.
void write_plot(const std::filesystem::path& path, const std::vector<TrainState>& states) {
  if (states.size() < 2) return;
  double low = 1, high = 0;
  for (const auto& s : states) {
    const double ratio = s.loss / s.identity_loss;
    low = std::min(low, ratio);
    high = std::max(high, ratio);
  }
  const double span = std::max(high - low, 1e-6), last = static_cast<double>(states.back().step);
  std::ofstream out(path);
  out << "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 720 400' font-family='sans-serif' "
         "font-size='13'>"
         "<rect width='720' height='400' fill='#fff'/><path d='M60 20V350H700' fill='none' "
         "stroke='#333'/>"
         "<text x='330' y='385'>steps</text><text x='70' y='15'>loss / loss of the untouched "
         "input</text>"
      << "<text x='10' y='354'>" << std::round(low * 1000) / 1000 << "</text><text x='10' y='34'>"
      << std::round(high * 1000) / 1000 << "</text><text x='640' y='368'>" << states.back().step
      << "</text><polyline fill='none' stroke='#1667b7' points='";
  for (const auto& s : states) {
    out << 60 + 640 * static_cast<double>(s.step) / last << ','
        << 350 - 320 * (s.loss / s.identity_loss - low) / span << ' ';
  }
  out << "'/></svg>\n";
}

void run(const Options& options, const Common& common, const Hosts& hosts) {
  TrainOptions o = read_config(options.config);
  o.corpus = options.corpus;
  o.output = options.output;
  o.resume = options.resume;
  o.initial_weights = options.initial;
  o.threads = common.threads();
  o.hosts = hosts;
  o.device = Device::parse(options.device);
  if (options.steps) o.steps = *options.steps;
  if (!options.resume && !options.overwrite && std::filesystem::exists(o.output)) {
    throw Error(ErrorKind::cannot_write,
                o.output.string() + ": exists; add --resume to go on, --overwrite to start anew");
  }
  check_outputs({o.output}, true, {options.config, o.corpus, o.initial_weights});
  std::filesystem::path log_path = o.output, plot_path = o.output;
  log_path += ".csv";
  plot_path += ".svg";
  const bool append = o.resume && std::filesystem::exists(log_path);
  std::ofstream log;
  // a run that cannot begin leaves the log as it was
  const auto open_log = [&] {
    if (log.is_open()) return;
    log.open(log_path, append ? std::ios::app : std::ios::trunc);
    if (!log) throw Error(ErrorKind::cannot_write, log_path.string() + ": cannot be written");
    if (!append)
      log << "step,loss,identity_loss,ratio,patches_per_s,loader_share,wait_share,learning_rate\n";
  };
  std::vector<TrainState> states;
  Progress progress = common.progress();
  std::stop_source timer;
  const auto user_stop = progress.stop;
  const auto start = std::chrono::steady_clock::now();
  progress.report = nullptr;
  const std::stop_callback forward(user_stop, [&] { timer.request_stop(); });
  progress.stop = timer.get_token();
  train(
      o,
      [&](const TrainState& s) {
        states.push_back(s);
        open_log();
        log << s.step << ',' << s.loss << ',' << s.identity_loss << ',' << s.loss / s.identity_loss
            << ',' << s.patches_per_s << ',' << s.loader_share << ',' << s.wait_share << ','
            << s.learning_rate << std::endl;
        std::array<char, 200> line{};
        std::snprintf(line.data(), line.size(),
                      "step %lld/%lld  loss %.4f  ratio to identity %.3f  %.1f patches/s  data "
                      "%.0f %% of the processor, waited %.0f %%  %.1f h left",
                      static_cast<long long>(s.step), static_cast<long long>(o.steps), s.loss,
                      s.loss / s.identity_loss, s.patches_per_s, 100 * s.loader_share,
                      100 * s.wait_share, s.seconds_left / 3600);
        common.note(line.data());
        write_plot(plot_path, states);
        const double hours =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 3600;
        if (options.hours > 0 && hours > options.hours) timer.request_stop();
      },
      progress);
  if (user_stop.stop_requested())
    throw Error(ErrorKind::interrupted, "stopped; go on with --resume");
  if (o.hosts.rank > 0) return;
  common.print(
      {{{"weights", o.output.string()}, {"steps", states.empty() ? 0 : states.back().step}},
       o.output.string() + "\n"});
}

}  // namespace

void add_train(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(app, common, "train",
                  "Trains a network on simulated frames; under mpirun on several hosts together.",
                  "limpid train models/limpid-2.toml --corpus corpus.safetensors -o "
                  "mine.safetensors --resume");
  command
      .argument("config", options->config,
                "TOML file that names everything; models/ has those of the shipped weights")
      .option("--corpus", options->corpus,
              "sharp patches made by 'limpid corpus'; without it scenes are procedural alone")
      .output(options->output, options->overwrite,
              "weights; the checkpoint, a CSV log and a loss plot lie beside them")
      .flag("--resume", options->resume,
            "go on from the checkpoint beside the output, if there is one")
      .option("--initial", options->initial, "start from these weights instead of random ones")
      .option("--steps", options->steps, {1, 1e9}, "instead of the configuration's number")
      .option("--hours", options->hours, {0, 1000},
              "stop after this time, checkpoint written (0: no limit)")
      .device(options->device);
  command.run([options, common] {
    Ranks ranks;
    ranks.run([&] { run(*options, common, ranks.hosts()); });
  });
}

}  // namespace limpid::cli
