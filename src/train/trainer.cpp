// The training loop: batches flow in, weights and their average flow out.
#include <ATen/autocast_mode.h>
#include <torch/version.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <span>
#include <sstream>

#include <limpid/error.h>
#include <limpid/training.h>

#include "core/parallel.h"
#include "nn/model_file.h"
#include "nn/tensors.h"
#include "nn/torch_device.h"
#include "nn/weights.h"
#include "train/batches.h"
#include "train/clock.h"
#include "train/loss.h"

namespace limpid {
namespace {

// Since 2.4 autocasting is asked for by device.
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
#define LIMPID_NEW_AUTOCAST
#endif

/// While it lives, convolutions and products run in bfloat16 if that is asked; weights stay
/// float32.
class Autocast {
 public:
  Autocast(const torch::Device& device, torch::ScalarType type)
      : cuda_(device.is_cuda()),
        on_(type == torch::kBFloat16) {
    if (!on_) return;
#ifdef LIMPID_NEW_AUTOCAST
    at::autocast::set_autocast_dtype(kind(), type);
#else
    cuda_ ? at::autocast::set_autocast_gpu_dtype(type) : at::autocast::set_autocast_cpu_dtype(type);
#endif
    enable(true);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  ~Autocast() {
    if (!on_) return;
    at::autocast::clear_cache();
    enable(false);
  }

 private:
#ifdef LIMPID_NEW_AUTOCAST
  [[nodiscard]] at::DeviceType kind() const { return cuda_ ? at::kCUDA : at::kCPU; }
  void enable(bool on) const { at::autocast::set_autocast_enabled(kind(), on); }
#else
  void enable(bool on) const {
    cuda_ ? at::autocast::set_enabled(on) : at::autocast::set_cpu_enabled(on);
  }
#endif
  bool cuda_, on_;
};

/// Every so many steps the loss of the untouched input is computed too.
constexpr std::int64_t identity_every = 5;

/// The mean over the hosts of every gradient and of `figures`, in one message.
void average_over(const Hosts& hosts, const std::vector<torch::Tensor>& parameters,
                  std::span<float> figures) {
  if (hosts.count == 1) return;
  std::vector<torch::Tensor> flat;
  for (const auto& parameter : parameters)
    flat.push_back(parameter.grad().to(torch::kCPU).contiguous().view({-1}));
  flat.push_back(torch::tensor(at::ArrayRef<float>(figures.data(), figures.size())));
  auto all = torch::cat(flat);
  hosts.sum({all.data_ptr<float>(), static_cast<std::size_t>(all.numel())});
  all /= hosts.count;
  std::int64_t at = 0;
  for (const auto& parameter : parameters) {
    parameter.mutable_grad().copy_(all.narrow(0, at, parameter.numel()).view(parameter.sizes()));
    at += parameter.numel();
  }
  std::copy_n(all.data_ptr<float>() + at, figures.size(), figures.begin());
}

/// Under what a parameter's state is filed: its address, or, before LibTorch 2, that as text.
template <typename States>
auto state_key(States& states, const torch::Tensor& parameter) {
  using Key = std::decay_t<decltype(states.begin()->first)>;
  if constexpr (std::is_pointer_v<Key>) {
    return static_cast<Key>(parameter.unsafeGetTensorImpl());
  } else {
    std::ostringstream text;
    text << parameter.unsafeGetTensorImpl();
    return Key(text.str());
  }
}

double learning_rate_at(std::int64_t step, const TrainOptions& o) {
  if (step < o.warm_up_steps)
    return o.learning_rate * static_cast<double>(step + 1) / static_cast<double>(o.warm_up_steps);
  const double decay_steps = std::max(1.0, o.decay_fraction * static_cast<double>(o.steps));
  const double left = static_cast<double>(o.steps - step) / decay_steps;
  if (left >= 1) return o.learning_rate;
  return o.final_learning_rate + (o.learning_rate - o.final_learning_rate) * std::max(0.0, left);
}

}  // namespace

void by_libtorch::train(const TrainOptions& options,
                        const std::function<void(const TrainState&)>& log,
                        const Progress& progress) {
  if (options.batch < 1 || options.patch_px < 32 || options.patch_px % (2 * block_px) != 0) {
    throw Error(ErrorKind::usage,
                "batch must be at least 1 and patch_px a multiple of 8, at least 32");
  }
  const Hosts& hosts = options.hosts;
  if (hosts.count > 1 && options.batch % std::max(1, options.reuse) != 0)
    throw Error(ErrorKind::usage, "with several hosts, batch must be a multiple of reuse");
  const int threads = thread_count(options.threads);
  at::set_num_threads(threads);
  const SceneSimulator simulator(options.corpus, false, options.seed, options.psf_bank, threads,
                                 progress);
  torch::manual_seed(options.seed);
  const torch::Device device = torch_device(options.device);
  const torch::ScalarType type = scalar_type(options.precision, device);
  const ArchitectureOptions shape{options.widths, options.blocks};
  auto network = build_architecture(options.architecture, shape);
  std::map<std::string, torch::Tensor> average;
  torch::optim::Adam adam(network->parameters(),
                          torch::optim::AdamOptions(options.learning_rate).betas({0.9, 0.99}));

  std::filesystem::path checkpoint = options.output;
  checkpoint += ".checkpoint";
  std::int64_t step = 0, earlier_steps = 0;
  if (options.resume && std::filesystem::exists(checkpoint)) {
    TensorFile file = read_safetensors(checkpoint);
    step = std::stoll(file.metadata.at("step"));
    earlier_steps = std::stoll(file.metadata.at("earlier_steps"));
    load_parameters(*network, file.tensors, "weights.", checkpoint);
    for (const auto& [key, tensor] : file.tensors) {
      if (key.rfind("average.", 0) == 0) average[key.substr(8)] = tensor.to(device);
    }
    for (const auto& item : network->named_parameters()) {
      auto state = std::make_unique<torch::optim::AdamParamState>();
      state->step(step);
      state->exp_avg(file.tensors.at("first." + item.key()).to(device));
      state->exp_avg_sq(file.tensors.at("second." + item.key()).to(device));
      adam.state()[state_key(adam.state(), item.value())] = std::move(state);
    }
  } else if (!options.initial_weights.empty()) {
    const SafetensorsHeader header = read_safetensors_header(options.initial_weights);
    Parameters parameters = read_parameters(options.initial_weights, header);
    add_missing_plane(parameters);
    auto tensors = to_tensors(parameters);
    add_missing_blocks(*network, tensors);
    load_parameters(*network, tensors, "", options.initial_weights);
    if (const auto known = header.metadata.find("steps"); known != header.metadata.end())
      earlier_steps = std::stoll(known->second);
  }
  network->to(device);
  network->lay_channels_last();
  if (average.empty()) {
    for (const auto& item : network->named_parameters())
      average[item.key()] = item.value().detach().clone();
  }

  const auto save = [&] {
    if (hosts.rank != 0) return;
    TensorFile file;
    file.metadata = {{"step", std::to_string(step)},
                     {"earlier_steps", std::to_string(earlier_steps)}};
    for (const auto& item : network->named_parameters()) {
      file.tensors["weights." + item.key()] = item.value();
      file.tensors["average." + item.key()] = average.at(item.key());
      const auto state = adam.state().find(state_key(adam.state(), item.value()));
      if (state == adam.state().end()) continue;
      const auto& adam_state = static_cast<const torch::optim::AdamParamState&>(*state->second);
      file.tensors["first." + item.key()] = adam_state.exp_avg();
      file.tensors["second." + item.key()] = adam_state.exp_avg_sq();
    }
    if (step > 0) write_safetensors(checkpoint, file);
    ModelDescription about;
    about.name = options.name;
    about.architecture = options.architecture;
    about.shape = shape;
    about.steps = earlier_steps + step;
    about.patches = (earlier_steps + step) * options.batch * hosts.count;
    about.config = options.config_text;
    about.corpus_hash = simulator.corpus_hash();
    save_model(options.output, average, about);
  };

  Batches batches(simulator, options, step);
  const double started = seconds();
  double last_log = started, last_save = started;
  double loss_sum = 0, identity_sum = 0;
  int compared = 0;
  std::int64_t logged = step;
  const std::int64_t first_step = step;
  bool stopped = hosts.count == 1 && progress.stop.stop_requested();
  while (step < options.steps && !stopped) {
    const auto batch = batches.next();
    const auto planes = batch.planes.to(device), target = batch.target.to(device),
               controls = batch.controls.to(device);
    for (auto& group : adam.param_groups()) {
      static_cast<torch::optim::AdamOptions&>(group.options()).lr(learning_rate_at(step, options));
    }
    adam.zero_grad();
    const auto answer = [&] {
      const Autocast autocast(device, type);
      return network->forward(planes, controls);
    }();
    const auto loss = over_scenes(scene_losses(answer, target, options), options.scene_floor);
    (options.scene_floor > 0 ? loss.log() : loss).backward();
    // what is to be logged, and whether any host shall stop, goes with the gradients
    std::array<float, 3> figures{0, 0, progress.stop.stop_requested() ? 1.0F : 0.0F};
    const bool last = step + 1 == options.steps,
               compare = step % identity_every == 0 || last || options.log_seconds <= 0;
    if (compare) {
      const torch::NoGradGuard no_grad;
      figures[0] = loss.item<float>();
      figures[1] = over_scenes(scene_losses(planes.narrow(1, 0, 3 * block_area), target, options),
                               options.scene_floor)
                       .item<float>();
    }
    average_over(hosts, network->parameters(), figures);
    stopped = figures[2] > 0;
    torch::nn::utils::clip_grad_norm_(network->parameters(), options.gradient_clip);
    adam.step();
    {
      const torch::NoGradGuard no_grad;
      const double keep = std::min(options.weight_average,
                                   static_cast<double>(1 + step) / static_cast<double>(10 + step));
      for (const auto& item : network->named_parameters())
        average[item.key()].mul_(keep).add_(item.value(), 1 - keep);
      if (compare) {
        loss_sum += static_cast<double>(figures[0]);
        identity_sum += static_cast<double>(figures[1]);
        ++compared;
      }
    }
    ++step;
    const double now = seconds();
    if (log && hosts.rank == 0 && compared > 0 && (now - last_log > options.log_seconds || last)) {
      TrainState state;
      state.step = step;
      const auto steps = static_cast<double>(step - logged);
      state.loss = loss_sum / compared;
      state.identity_loss = identity_sum / compared;
      state.patches_per_s = steps * options.batch * hosts.count / (now - last_log);
      const double elapsed = now - started;
      state.loader_share = batches.loader().busy_seconds() / (elapsed * threads);
      state.wait_share = batches.loader().waited_seconds() / elapsed;
      state.seconds_left = elapsed / static_cast<double>(step - first_step) *
                           static_cast<double>(options.steps - step);
      state.learning_rate = learning_rate_at(step, options);
      log(state);
      loss_sum = identity_sum = 0;
      compared = 0;
      logged = step;
      last_log = now;
    }
    progress(static_cast<double>(step) / static_cast<double>(options.steps), "training");
    if (now - last_save > 60 * options.checkpoint_minutes) {
      save();
      last_save = now;
    }
  }
  save();
}

}  // namespace limpid
