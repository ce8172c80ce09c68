// One scene, step by step: telescope, wishes, sky, stars, recording.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "train/measurement.h"
#include "train/recording.h"
#include "train/scene.h"

namespace limpid {

using torch::indexing::Slice;

namespace {

torch::Tensor phases(const torch::Tensor& psfs) {
  return psfs.index({torch::indexing::Ellipsis, Slice(0, torch::indexing::None, psf_oversampling),
                     Slice(0, torch::indexing::None, psf_oversampling)});
}

torch::Tensor convolved(const torch::Tensor& spectrum, const torch::Tensor& kernel,
                        std::int64_t height, std::int64_t width) {
  return torch::fft::irfft2(spectrum * kernel_spectrum(kernel, height, width),
                            at::IntArrayRef({height, width}));
}

/// What a kind of recording asks for where the caller asks nothing.
SceneOptions with_recording(SceneOptions options, Recording recording, Random& random) {
  const int field = options.side_px + 2 * scene_margin_px;
  if (recording == Recording::clipped) options.saturation = true;
  if (recording == Recording::cluster && !options.stars)
    options.stars = static_cast<int>(0.05 * field * field);
  if (recording == Recording::galaxy) {
    options.nebula = true;
    if (!options.stars) options.stars = random.index(5);
  }
  if (recording == Recording::narrowband) options.mono = false;
  return options;
}

/// A few stars of 1 to 300 times full scale; on the whole lattice when stars shall be isolated.
SceneOptions clipped_stars(SceneOptions options, double full_scale, int field, Random& random) {
  options.star_peak_min = full_scale;
  options.star_peak_max = 300 * full_scale;
  const double area = field * field / 65536.0;
  options.stars = std::max(1, static_cast<int>(area * random.log_uniform(1, 12)));
  return options;
}

/// Full scale: over what is drawn for it and the nebula, but now and then far under the nebula's
/// brightest parts, as in frames of galaxies and on photographic plates. A random stream of its
/// own: other scenes stay what they are without.
double draw_full_scale(std::uint64_t seed, std::uint64_t index, double drawn, double nebula_peak) {
  Random random(seed ^ 0xf5ca1eULL, index + 1);
  const bool burnt_out = random.chance(0.2);
  const double share = random.log_uniform(0.1, 1);
  return burnt_out && nebula_peak > 100 ? share * nebula_peak : std::max(1.5 * nebula_peak, drawn);
}

/// A scene that is being drawn. Its steps follow one another on one random stream.
class Drawing {
 public:
  Drawing(const SceneSimulator& simulator, std::uint64_t index, const SceneOptions& asked)
      : simulator_(simulator),
        index_(index),
        random_(simulator.seed, index + 1) {
    scene_.recording = asked.recording.value_or(draw_recording(simulator.seed, index));
    options_ = with_recording(asked, scene_.recording, random_);
    field_ = options_.side_px + 2 * scene_margin_px;
  }
  SceneTensors finish() && {
    choose_telescope();
    describe_telescope();
    ask();
    measure();
    light_nebulae();
    place_stars();
    expose();
    record();
    if (scene_.recording == Recording::stretched) stretch();
    list_stars();
    if (options_.perturb_measurement) misjudge_sky();
    return std::move(scene_);
  }

 private:
  void choose_telescope();
  void describe_telescope();
  void ask();
  void measure();
  void light_nebulae();
  void place_stars();
  void expose();
  void record();
  void stretch();
  void list_stars();
  void misjudge_sky();
  [[nodiscard]] torch::Tensor draw_light();
  [[nodiscard]] bool varies() const { return psf_.there.defined(); }
  /// Share of the PSF further on at a place in the field.
  [[nodiscard]] float weight_there(int x, int y) const;

  const SceneSimulator& simulator_;
  std::uint64_t index_;
  Random random_;
  SceneOptions options_;
  int field_ = 0;
  SceneTensors scene_;
  BankPsf psf_;
  double drop_ = 0;  // of a drizzle; 0: none
  bool mono_ = false;
  double turn_ = 0;  // in which direction the PSF changes
  std::array<double, 3> channel_scale_{1, 1, 1};
  torch::Tensor light_;  // of nebulae and galaxies
  double nebula_peak_ = 0;
  float psf_peak_ = 1;
  std::vector<SceneStar> stars_;
  torch::Tensor ideal_rest_, wanted_stellar_;  // the wanted picture without stars; their PSF
};

float Drawing::weight_there(int x, int y) const {
  const double u =
      ((x - field_ / 2) * std::cos(turn_) + (y - field_ / 2) * std::sin(turn_)) / field_;
  return static_cast<float>(std::clamp(0.5 + u, 0.0, 1.0));
}

/// From the bank, or made to order.
void Drawing::choose_telescope() {
  if (options_.aberration || options_.fwhm_px || simulator_.bank.empty()) {
    for (;;) {
      const auto drawn = draw_psf(random_, options_.aberration.value_or(draw_aberration(random_)),
                                  options_.fwhm_px.value_or(random_.log_uniform(1.6, 7.5)));
      if (drawn) {
        psf_ = *drawn;
        break;
      }
    }
  } else {
    const auto& bank = simulator_.bank;
    psf_ = bank[static_cast<std::size_t>(random_.index(static_cast<int>(bank.size())))];
  }
  std::array<int, 3> order{0, 1, 2};
  for (int i = 2; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(random_.index(i + 1))]);
  mono_ = options_.mono.value_or(random_.chance(0.15));
  if (mono_) order = {order[0], order[0], order[0]};
  psf_ = turned_psf(psf_, random_.index(8), order);
  if (scene_.recording == Recording::drizzled) {
    const double tried = random_.uniform(0.5, 1);
    if (auto wider = drizzled(psf_, tried)) {
      psf_ = std::move(*wider);
      drop_ = tried;
    }
  }
  if (mono_) {
    for (auto* described : {&psf_.described, &psf_.described_there}) {
      for (Psf& p : *described) p.dx = p.dy = 0;
    }
  }
  turn_ = random_.uniform(0, 2 * std::numbers::pi);
}

/// What is true of the PSF in the middle of the field.
void Drawing::describe_telescope() {
  scene_.aberration = psf_.aberration;
  scene_.true_psf = psf_.described;
  for (std::size_t c = 0; varies() && c < 3; ++c) {
    Psf& p = scene_.true_psf[c];
    const Psf& q = psf_.described_there[c];
    p.fwhm_px = std::sqrt(p.fwhm_px * q.fwhm_px);
    p.beta = std::sqrt(p.beta * q.beta);
    p.e1 = (p.e1 + q.e1) / 2;
    p.e2 = (p.e2 + q.e2) / 2;
    p.dx = (p.dx + q.dx) / 2;
    p.dy = (p.dy + q.dy) / 2;
  }
  for (std::int64_t c = 0; c < 3; ++c) {
    scene_.kernels[static_cast<std::size_t>(c)] =
        central_phase(varies() ? (psf_.here[c] + psf_.there[c]) / 2 : psf_.here[c]);
  }
}

void Drawing::ask() {
  TileControls truth;
  truth.measured = truth.nonstellar = scene_.true_psf;
  truth.mono = mono_;
  const bool correct_only = random_.chance(0.08);
  const double s = random_.chance(0.12) ? 0 : random_.chance(0.25) ? 0.25 : random_.uniform(0, 0.7);
  const double n = random_.chance(0.12) ? 0 : random_.chance(0.35) ? 0.9 : random_.uniform(0, 1);
  const double a = random_.chance(0.6) ? 0 : random_.uniform(-0.5, 0.5);
  truth.sharpen_stars = static_cast<float>(options_.sharpen_stars.value_or(correct_only ? 0 : s));
  truth.sharpen_nonstellar =
      static_cast<float>(options_.sharpen_nonstellar.value_or(correct_only ? 0 : n));
  truth.adjust_halos = static_cast<float>(options_.adjust_halos.value_or(correct_only ? 0 : a));
  scene_.wanted = wanted_psfs(truth);
  scene_.controls = truth;
}

/// What the network is told instead of the truth.
void Drawing::measure() {
  TileControls& controls = scene_.controls;
  const double drawn_error = random_.log_uniform(0.15, 1);
  if (options_.perturb_measurement) {
    controls.measured =
        measured_like(random_, scene_.true_psf, options_.measurement_error.value_or(drawn_error));
  }
  controls.nonstellar = controls.measured;
  if (mono_) {
    controls.measured.fill(controls.measured[0]);
    for (Psf& p : controls.measured) p.dx = p.dy = 0;
    controls.nonstellar = controls.measured;
  }
  if (options_.perturb_measurement) {
    add_measured_residual(random_, scene_, options_.residual_known);
    add_measured_wings(Random(simulator_.seed ^ 0x3196eULL, index_ + 1), scene_);
  }
  if (random_.chance(0.12) && options_.perturb_measurement) {  // a round PSF given by hand
    TileControls unsharpened = controls;
    unsharpened.sharpen_stars = unsharpened.adjust_halos = 0;
    Psf round = wanted_psfs(unsharpened).stellar;
    round.fwhm_px *= static_cast<float>(std::exp(0.06 * random_.normal()));
    controls.nonstellar.fill(round);
    controls.nonstellar_residual.fill({});
  }
}

torch::Tensor Drawing::draw_light() {
  const auto& corpus = simulator_.corpus;
  const bool real = corpus && !options_.procedural_only && random_.chance(0.65);
  auto drawn = real ? corpus->draw(random_, field_) : simulator_.draw_sky(random_, field_);
  if (real && random_.chance(0.25)) drawn = drawn + 0.3 * simulator_.draw_sky(random_, field_);
  return drawn;
}

void Drawing::light_nebulae() {
  if (random_.chance(0.3))
    for (double& scale : channel_scale_) scale = random_.log_uniform(0.15, 1.5);
  if (scene_.recording == Recording::narrowband)
    for (double& scale : channel_scale_) scale = random_.log_uniform(0.02, 1.5);
  if (!options_.nebula.value_or(random_.chance(0.85))) {
    light_ = torch::zeros({3, field_, field_});
    return;
  }
  auto light = scene_.recording == Recording::galaxy ? draw_galaxy(random_, field_) : draw_light();
  if (scene_.recording == Recording::narrowband)
    light = torch::stack({light[0], draw_light()[1], draw_light()[2]});
  nebula_peak_ = options_.nebula_peak.value_or(random_.log_uniform(2, 1500));
  light = light * (nebula_peak_ / light.quantile(0.99).clamp_min(1e-6).item<double>());
  for (std::size_t c = 0; c < 3; ++c) light[static_cast<std::int64_t>(c)] *= channel_scale_[c];
  if (mono_) light = light.mean(0, true).expand({3, -1, -1}).contiguous();
  light_ = light;
}

void Drawing::place_stars() {
  psf_peak_ = psf_.here.amax().item<float>();
  const StarField sky{field_, scene_.true_psf[0].fwhm_px, psf_peak_, channel_scale_,
                      scene_.recording == Recording::cluster};
  if (options_.stars.value_or(1) != 0) stars_ = draw_stars(random_, options_, sky);
  if (scene_.recording == Recording::clipped) {
    scene_.saturation_level =
        draw_full_scale(simulator_.seed, index_, random_.log_uniform(500, 5000), nebula_peak_);
    const auto bright =
        draw_stars(random_, clipped_stars(options_, scene_.saturation_level, field_, random_), sky);
    if (options_.isolated_stars) {  // most are left to tell the PSF
      for (std::size_t i = 0; i < std::min(stars_.size(), bright.size()); i += 5)
        stars_[i] = bright[i];
    } else {
      stars_.insert(stars_.end(), bright.begin(), bright.end());
    }
  }
  if (mono_)
    for (SceneStar& star : stars_) star.flux.fill(star.flux[1]);
}

/// The same light and the same stars twice: as recorded and as wanted.
void Drawing::expose() {
  torch::Tensor blurred, ideal;
  const auto wanted_nonstellar = central_phase(oversampled_moffat(scene_.wanted.nonstellar));
  if (nebula_peak_ > 0) {
    const auto spectrum = torch::fft::rfft2(light_);
    blurred = convolved(spectrum, phases(psf_.here), field_, field_);
    if (varies()) {
      auto weights = torch::empty({field_, field_});
      float* w = weights.data_ptr<float>();
      for (int y = 0; y < field_; ++y)
        for (int x = 0; x < field_; ++x) w[y * field_ + x] = weight_there(x, y);
      blurred =
          blurred + weights * (convolved(spectrum, phases(psf_.there), field_, field_) - blurred);
    }
    ideal = convolved(spectrum, wanted_nonstellar, field_, field_);
  } else {
    blurred = torch::zeros({3, field_, field_});
    ideal = torch::zeros({3, field_, field_});
  }
  scene_.blurred = blurred.contiguous();
  scene_.ideal = ideal.contiguous();
  ideal_rest_ = scene_.ideal.clone();
  wanted_stellar_ = oversampled_moffat(scene_.wanted.stellar).unsqueeze(0);
  if (stars_.empty()) return;
  const auto weight = [this](int x, int y) { return weight_there(x, y); };
  add_stars(scene_.blurred, stars_, psf_.here, psf_.there, weight, 0.01F);
  add_stars(scene_.ideal, stars_, wanted_stellar_, {}, nullptr, 0.01F);
}

/// Noise and full scale.
void Drawing::record() {
  const auto& blurred = scene_.blurred;
  const auto& ideal = scene_.ideal;
  const double shot = random_.log_uniform(0.003, 0.4);
  const bool correlated = options_.correlated_noise.value_or(random_.chance(0.45));
  auto noise = drop_ > 0 ? drizzled_noise(random_, mono_ ? 1 : 3, field_, field_, drop_)
                         : draw_noise(random_, mono_ ? 1 : 3, field_, field_, correlated);
  noise = noise * (1 + shot * blurred.clamp_min(0)).sqrt();
  scene_.input = blurred + noise;
  scene_.target = ideal + noise;
  scene_.saturated = torch::zeros({1, field_, field_});
  if (!options_.saturation.value_or(random_.chance(0.7))) return;
  if (scene_.saturation_level == 0)
    scene_.saturation_level =
        draw_full_scale(simulator_.seed, index_, random_.log_uniform(300, 3e4), nebula_peak_);
  const auto level = scene_.saturation_level;
  const double gain = std::max(1.0, wanted_stellar_.amax().item<double>() / psf_peak_);
  scene_.saturated = (scene_.input >= 0.98 * level).any(0, true).to(torch::kFloat);
  scene_.input = scene_.input.clamp_max(level);
  // Stars are clipped as if the frame had been sharper when it was recorded. Where nebulae are
  // clipped, what lies above is unknown and shall stay so.
  const auto stellar = ((ideal - ideal_rest_) / ideal.clamp_min(1e-6)).clamp(0, 1);
  scene_.target = torch::minimum(scene_.target, level * (1 + (gain - 1) * stellar));
}

void Drawing::stretch() {
  const double full_scale = scene_.saturation_level > 0
                                ? scene_.saturation_level
                                : std::max(1.5 * nebula_peak_, random_.log_uniform(300, 3e4));
  const Stretch stretch = draw_stretch(random_, full_scale);
  for (auto* x : {&scene_.blurred, &scene_.ideal, &scene_.input, &scene_.target})
    *x = stretch.apply(*x);
  // bright stars tell the PSF, and look wider now
  const auto wider =
      static_cast<float>(stretch.widening(psf_.here[1], random_.log_uniform(30, 300)));
  for (auto* psfs : {&scene_.controls.measured, &scene_.controls.nonstellar})
    for (Psf& p : *psfs) p.fwhm_px *= wider;
}

/// Those that are shown, with what is known of them.
void Drawing::list_stars() {
  for (const SceneStar& star : stars_) {
    SimulatedStar known{static_cast<float>(star.qx) / 4 - scene_margin_px,
                        static_cast<float>(star.qy) / 4 - scene_margin_px, star.flux, false};
    if (known.x < 0 || known.y < 0 || known.x > options_.side_px - 1 ||
        known.y > options_.side_px - 1)
      continue;
    known.saturated = scene_.saturation_level > 0 &&
                      *std::max_element(star.flux.begin(), star.flux.end()) * psf_peak_ >
                          0.8 * scene_.saturation_level;
    scene_.stars.push_back(known);
  }
}

/// The sky and noise of a real frame are measured, not known.
void Drawing::misjudge_sky() {
  // Where nebulae fill the frame the level found is theirs, and dark clouds lie far below it.
  const bool drawn = random_.chance(0.35), misjudged = options_.sky_misjudged.value_or(drawn);
  const double error =
      random_.log_uniform(0.5, 40) * (random_.chance(0.85) ? -1 : 1) * (misjudged ? 1 : 0);
  const double common = random_.uniform(0, 1);
  for (std::int64_t c = 0; c < 3; ++c) {
    const double own = error * (common + (1 - common) * random_.uniform(0, 1));
    const double offset = own + 0.05 * random_.normal(), scale = std::exp(0.04 * random_.normal());
    const auto at = mono_ ? 0 : c;
    if (mono_ && c > 0) {
      scene_.input[c] = scene_.input[at];
      scene_.target[c] = scene_.target[at];
      continue;
    }
    for (auto* x : {&scene_.input, &scene_.target}) (*x)[c].add_(offset).mul_(scale);
    for (auto* x : {&scene_.blurred, &scene_.ideal}) (*x)[c].add_(offset).mul_(scale);
  }
}

}  // namespace

SceneTensors SceneSimulator::draw_tensors(std::uint64_t index, const SceneOptions& asked) const {
  const torch::NoGradGuard no_grad;
  return Drawing(*this, index, asked).finish();
}

}  // namespace limpid
