// `limpid mfdeconv`: frames of the folder combined into one, which is then opened.
#include <algorithm>

#include "web/command_line.h"
#include "web/parts.h"

namespace limpid::web {

void Session::combine(const Json& request) {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::combine;
  task->command = "mfdeconv";
  task->options = options_of(request);
  const auto words = words_of_request(request);
  task->line = cli::shell_words(words);
  task->multiframe = parse_multiframe({words.begin() + 1, words.end()});
  static_cast<void>(cli::memory_bytes(task->multiframe));
  check_writable(task->multiframe.output, {.overwrite = task->multiframe.overwrite});
  start(task);
}

void Session::perform_combine(Task& task, const Progress& progress) {
  Combination now;
  now.output = folder_.name_of(task.multiframe.output);
  const auto publish = [&] {
    const std::scoped_lock lock(mutex_);
    now.id = new_id("combination");
    combination_ = std::make_shared<const Combination>(now);
    changed();
  };
  publish();
  task.multiframe.solver.on_iteration = [&](const IterationSummary& iteration) {
    now.iterations.push_back(iteration);
    publish();
  };
  Json report = cli::run_multiframe(task.multiframe, threads_, cli::history_line(task.line),
                                    progress.part(0, 0.98))
                    .json;
  for (Json& frame : report["frames"])
    frame["name"] = folder_.name_of(frame["name"].get<std::string>());
  report["output"] = now.output;
  report["command"] = task.line;
  now.report = std::make_shared<const Json>(std::move(report));
  publish();
  show(load(now.output));
}

Json Session::combination() const {
  std::shared_ptr<const Combination> combination;
  {
    const std::scoped_lock lock(mutex_);
    combination = combination_;
  }
  if (!combination) throw Gone("no frames were combined yet");
  Json json = combination->report ? *combination->report : Json{{"output", combination->output}};
  json["id"] = combination->id;
  auto curve = Json::array();
  for (const IterationSummary& i : combination->iterations)
    curve.push_back({i.iteration, i.update, i.change});
  json["curve"] = std::move(curve);
  return json;
}

}  // namespace limpid::web
