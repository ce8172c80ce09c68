#include "train/judge.h"

#include "nn/torch_device.h"
#include "nn/torch_guides.h"

namespace limpid {
namespace {

constexpr int side = evaluation_px, field_side = side + 2 * scene_margin_px;

torch::Tensor answer_of(Model& model, const torch::Device& device, torch::ScalarType type,
                        const SceneTensors& scene, const torch::Tensor& guides, int shown = side) {
  model.network->to(device, type);
  const auto planes = torch::cat({inner(scene.input, shown),
                                  inner(guides, shown).reshape({3 * guide_count, shown, shown}),
                                  inner(scene.saturated, shown)});
  const auto wishes = control_vector(scene.controls);
  const auto controls =
      torch::tensor(at::ArrayRef<float>(wishes.data(), wishes.size())).unsqueeze(0);
  return from_blocks(model.network->forward(to_blocks(planes).to(device), controls.to(device)))
      .cpu();
}

/// The scene's sky as a frame with some sky in it would tell it: the noise of the faintest tenth.
std::vector<SkyLevel> faint_noise(const SceneTensors& scene) {
  std::vector<SkyLevel> sky;
  for (std::int64_t c = 0; c < scene.input.size(0); ++c) {
    const auto light = scene.blurred[c].flatten(), noise = (scene.input[c].flatten() - light);
    const auto faintest = std::get<1>(light.topk(light.numel() / 10, 0, false));
    const auto sigma = noise.index_select(0, faintest).square().mean().sqrt();
    sky.push_back({0, sigma.item<float>()});
  }
  return sky;
}

}  // namespace

Judge::Judge(const EvaluateOptions& options)
    : restore_(options.network_only ? nullptr : options.restore),
      agree_(options.network_only ? nullptr : options.agree),
      device_(torch_device(options.device)),
      type_(scalar_type(options.precision, device_)),
      model_(load_model(options.weights)),
      simulator_(options.corpus, true, options.seed, 0, options.threads) {
  if (!options.previous.empty()) previous_ = load_model(options.previous);
}

Judge::Answer Judge::answer(std::uint64_t index, const SceneOptions& options) {
  Answer a;
  a.scene = simulator_.draw_tensors(index, options);
  a.guides = guide_planes(a.scene.input, a.scene.controls);
  a.input = inner(a.scene.input, side).contiguous();
  a.target = inner(a.scene.target, side).contiguous();
  a.network = answer_of(model_, device_, type_, a.scene, a.guides).contiguous();
  if (previous_) a.previous = answer_of(*previous_, device_, type_, a.scene, a.guides).contiguous();
  return a;
}

torch::Tensor Judge::program(const SceneTensors& scene) const {
  if (!restore_) return {};
  const auto field = scene.input.contiguous();
  const int size = static_cast<int>(field.size(1));
  const Image result = restore_(
      ConstView(field.data_ptr<float>(), 3, {size, size}, size, size * size), scene.controls);
  return result.empty() ? torch::Tensor() : inner(to_tensor(result.view()), side).contiguous();
}

std::optional<Judge::Measured> Judge::measured_psf(const Answer& a, std::uint64_t index,
                                                   const SceneOptions& options) const {
  constexpr int field_px = 512, field_stars = 300;
  if (options.recording == Recording::galaxy || options.recording == Recording::stretched ||
      options.residual_known == false)
    return {};
  SceneOptions starry = options;
  starry.side_px = field_px;
  starry.stars = field_stars;
  starry.nebula = false;
  starry.nebula_peak.reset();
  starry.star_peak_min = 3;
  starry.star_peak_max = 20000;
  const auto light = simulator_.draw_tensors(index, starry).input.contiguous();
  const int side_px = static_cast<int>(light.size(1));
  const ConstView view(light.data_ptr<float>(), 3, {side_px, side_px}, side_px, side_px * side_px);
  const StarCatalogue stars = detect_stars(view, {.max_fits = 300});
  const auto field = fit_psf_field(view, stars);
  if (!field) return {};
  Measured measured{a.scene.controls, stars.noise_correlation};
  TileControls& controls = measured.controls;
  const float middle = static_cast<float>(side_px) / 2;
  for (std::size_t c = 0; c < 3; ++c) {
    const int channel = controls.mono ? 0 : static_cast<int>(c);
    controls.measured[c] = field->at(middle, middle, channel);
    if (controls.mono) controls.measured[c].dx = controls.measured[c].dy = 0;
    controls.residual[c] = field->residual(middle, middle, channel, psf_kernel_px, controls.mono);
    controls.nonstellar_residual[c] =
        field->residual_with_wings(middle, middle, channel, psf_kernel_px, controls.mono);
  }
  controls.nonstellar = controls.measured;
  return measured;
}

torch::Tensor Judge::told(const Answer& a, const TileControls& controls) {
  SceneTensors scene = a.scene;
  scene.controls = controls;
  return answer_of(model_, device_, type_, scene, guide_planes(scene.input, controls), field_side)
      .contiguous();
}

torch::Tensor Judge::in_agreement(const Answer& a, const torch::Tensor& answer,
                                  const TileControls& controls, float noise_correlation) const {
  if (!agree_) return {};
  constexpr std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(field_side) * field_side;
  const auto field = a.scene.input.contiguous();
  StarCatalogue known;
  known.frame = {field_side, field_side};
  const ConstView frame(field.data_ptr<float>(), 3, known.frame, field_side, stride);
  known.sky = faint_noise(a.scene);
  known.noise_correlation = noise_correlation;
  auto result = answer.clone();
  agree_(frame, known, controls,
         MutableView(result.data_ptr<float>(), 3, known.frame, field_side, stride));
  return result;
}

}  // namespace limpid
