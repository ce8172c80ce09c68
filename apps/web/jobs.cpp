// The queue: one job at a time, what somebody looks at before the rest.
#include <algorithm>

#include "cli/failure.h"
#include "web/parts.h"

namespace limpid::web {

void Session::drop_shown() {
  if (running_ && running_->is_shown()) running_->stop.request_stop();
  std::erase_if(waiting_, [](const std::shared_ptr<Task>& other) {
    if (!other->is_shown()) return false;
    other->done = true;
    other->failure =
        std::make_exception_ptr(Error(ErrorKind::interrupted, "a newer one was asked for"));
    return true;
  });
  change_.notify_all();
}

Json Session::wait_for(const std::shared_ptr<Task>& task) {
  std::unique_lock lock(mutex_);
  refuse_during_run();
  drop_shown();
  waiting_.push_front(task);
  task_ready_.notify_all();
  change_.notify_all();
  change_.wait(lock, [&] { return task->done || stopped_; });
  if (task->failure) std::rethrow_exception(task->failure);
  if (!task->done) throw Error(ErrorKind::interrupted, "the server ends");
  return task->answer;
}

void Session::start(const std::shared_ptr<Task>& task) {
  const std::scoped_lock lock(mutex_);
  refuse_during_run();
  if (running_ && running_->is_shown()) running_->stop.request_stop();
  error_ = nullptr;
  notes_.clear();
  waiting_.push_front(task);
  task_ready_.notify_all();
  changed();
}

void Session::measure() {
  auto task = std::make_shared<Task>();
  task->kind = Task::Kind::measure;
  task->frame = frame();
  const std::scoped_lock lock(mutex_);
  const auto is_measure = [](const std::shared_ptr<Task>& t) {
    return t->kind == Task::Kind::measure;
  };
  if (task->frame->measurement || (running_ && is_measure(running_)) ||
      std::ranges::any_of(waiting_, is_measure))
    return;
  waiting_.push_back(task);
  task_ready_.notify_all();
}

void Session::refuse_during_run() const {
  const auto is_long = [](const std::shared_ptr<Task>& task) { return task->is_long(); };
  if ((running_ && running_->is_long()) || std::ranges::any_of(waiting_, is_long))
    throw Busy("a job runs; wait for it, or cancel it");
}

void Session::drop_waiting(const char* why) {
  for (const auto& task : waiting_) {
    task->done = true;
    task->failure = std::make_exception_ptr(Error(ErrorKind::interrupted, why));
  }
  waiting_.clear();
  if (running_) running_->stop.request_stop();
}

void Session::cancel() {
  const std::scoped_lock lock(mutex_);
  drop_waiting("cancelled");
  changed();
}

void Session::work(const std::stop_token& over) {
  for (;;) {
    std::shared_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      task_ready_.wait(lock, [&] { return over.stop_requested() || !waiting_.empty(); });
      if (over.stop_requested()) return;
      task = waiting_.front();
      waiting_.pop_front();
      running_ = task;
      task->start = Clock::now();
      changed();
    }
    std::exception_ptr failure;
    std::string text;
    bool wanted = false;
    try {
      perform(task);
    } catch (const std::exception&) {
      const Error error = cli::as_error(std::current_exception());
      text = told(error.what());
      failure = std::make_exception_ptr(Error(error.kind(), text));
      wanted = error.kind() == ErrorKind::interrupted;
    }
    const std::scoped_lock lock(mutex_);
    task->failure = failure;
    task->done = true;
    running_ = nullptr;
    if (failure && !wanted && !task->is_shown()) error_ = {{"id", next_id_++}, {"text", text}};
    changed();
  }
}

void Session::perform(const std::shared_ptr<Task>& task) {
  const Progress progress = progress_of(task);
  progress.throw_if_stopped();
  switch (task->kind) {
    case Task::Kind::run:
      return task->command == "background" ? perform_background(*task, progress)
                                           : perform_deconvolve(*task, progress);
    case Task::Kind::measure:
      return perform_measure(*task, progress);
    case Task::Kind::preview:
      return perform_preview(*task, progress);
    case Task::Kind::fit:
      return perform_fit(*task, progress);
    case Task::Kind::combine:
      return perform_combine(*task, progress);
  }
}

Progress Session::progress_of(const std::shared_ptr<Task>& task) {
  Progress progress;
  progress.stop = task->stop.get_token();
  progress.report = [this, task](double fraction, std::string_view stage) {
    const std::scoped_lock lock(mutex_);
    task->fraction = fraction;
    const bool new_stage = task->stage != stage;
    task->stage = stage;
    if (!new_stage && Clock::now() - task->told < std::chrono::milliseconds(100)) return;
    task->told = Clock::now();
    changed();
  };
  if (task->is_long()) {
    progress.note = [this](std::string_view text) {
      const std::scoped_lock lock(mutex_);
      notes_.push_back(told(std::string(text)));
      changed();
    };
  }
  return progress;
}

std::string Session::told(std::string text) const {
  const std::string root = folder_.root().string() + "/";
  for (auto at = text.find(root); at != std::string::npos; at = text.find(root, at))
    text.erase(at, root.size());
  return text;
}

void Session::keep(const Task& task, const std::shared_ptr<Outcome>& outcome) {
  std::shared_ptr<const Outcome> old;  // freed without the lock
  const std::scoped_lock lock(mutex_);
  outcome->id = new_id("after");
  if (frame_ == task.frame) old = std::exchange(outcome_, outcome);
}

void Session::run(const Json& request) {
  auto task = std::make_shared<Task>();
  task->frame = frame();
  task->command = text_of(request, "command", "deconvolve");
  task->options = options_of(request);
  if (task->command == "background") {
    task->background = background_arguments(*task->frame, task->options);
  } else if (task->command == "deconvolve") {
    task->deconvolve = deconvolve_arguments(*task->frame, task->options);
  } else {
    throw Error(ErrorKind::usage, "command: deconvolve or background is wanted");
  }
  start(task);
}

}  // namespace limpid::web
