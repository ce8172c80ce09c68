#include <cmath>

#include <gtest/gtest.h>
#include <limpid/stars.h>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr Size frame_size{1000, 800};
constexpr Psf core{2.5F, 3.5F, 0, 0, 0, 0}, aureole{14, 2.5F, 0, 0, 0, 0};
constexpr float aureole_share = 0.1F;

/// Bright stars on a jittered lattice, and faint ones anywhere, before a slope of light.
Image draw(float share, int faint_stars) {
  Image frame(1, frame_size);
  std::mt19937 random(11);
  const auto uniform = [&](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
  };
  const auto add = [&](float x, float y, float snr) {
    const float flux = synthetic::flux_for_snr(core, snr, 1);
    synthetic::add_star(frame.view(), core, {x, y, (1 - share) * flux});
    if (share > 0) synthetic::add_star(frame.view(), aureole, {x, y, share * flux}, 0, 4);
  };
  for (float y = 50; y < 760; y += 60) {
    for (float x = 50; x < 960; x += 60)
      add(x + uniform(-8, 8), y + uniform(-8, 8),
          std::exp(uniform(std::log(80.0F), std::log(800.0F))));
  }
  for (int i = 0; i < faint_stars; ++i) add(uniform(40, 960), uniform(40, 760), uniform(4, 40));
  for (int y = 0; y < frame.height(); ++y) {
    for (int x = 0; x < frame.width(); ++x) frame.view()(0, y, x) += 0.02F * static_cast<float>(x);
  }
  synthetic::add_noise(frame.view(), 1, 0, 0, 3);
  for (float& pixel : frame.pixels()) pixel += 100;
  return frame;
}

/// Share of a kernel's light within a radius of its middle.
double light_within(const Image& kernel, double radius) {
  double sum = 0;
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 64; ++x) {
      if (std::hypot(x - 32, y - 32) < radius) sum += static_cast<double>(kernel.view()(0, y, x));
    }
  }
  return sum;
}

Image whole_kernel(const PsfField& field) {
  return field.at(500, 400, 0).kernel(64, field.residual_with_wings(500, 400, 0, 64));
}

Image true_kernel() {
  Image sum = core.kernel(64);
  const Image far = aureole.kernel(64);
  for (std::size_t i = 0; i < sum.pixels().size(); ++i)
    sum.pixels()[i] += aureole_share * (far.pixels()[i] - sum.pixels()[i]);
  return sum;
}

TEST(PsfWings, TellLightThatFitsTakeForSky) {
  const Image truth = true_kernel();
  for (const int faint : {0, 1500}) {
    const Image frame = draw(aureole_share, faint);
    const auto field = fit_psf_field(frame.view(), detect_stars(frame.view()));
    ASSERT_TRUE(field);
    const Image with = whole_kernel(*field), without = field->kernel(500, 400, 0, 64);
    double error_with = 0, error_without = 0;
    for (const double radius : {4.0, 6.0, 9.0, 13.0, 18.0}) {
      const double right = light_within(truth, radius);
      error_with = std::max(error_with, std::abs(light_within(with, radius) - right));
      error_without = std::max(error_without, std::abs(light_within(without, radius) - right));
    }
    EXPECT_GT(error_without, 0.04) << faint << " faint stars";
    // the sky is read from 25 to 31 px, where half a per cent of the light is left
    EXPECT_LT(error_with, 0.25 * error_without) << faint << " faint stars";
  }
}

TEST(PsfWings, AreNothingAroundMoffats) {
  const Image frame = draw(0, 800);
  const auto field = fit_psf_field(frame.view(), detect_stars(frame.view()));
  ASSERT_TRUE(field);
  const Image with = whole_kernel(*field), right = core.kernel(64);
  for (const double radius : {4.0, 9.0, 18.0})
    EXPECT_NEAR(light_within(with, radius), light_within(right, radius), 0.01) << radius;
}

TEST(PsfWings, OfABinnedFieldHoldTheSameLight) {
  const Image frame = draw(aureole_share, 0);
  const auto field = fit_psf_field(frame.view(), detect_stars(frame.view()));
  ASSERT_TRUE(field);
  const PsfField half = field->binned(2);
  const Image fine = whole_kernel(*field),
              coarse = half.at(250, 200, 0).kernel(64, half.residual_with_wings(250, 200, 0, 64));
  for (const double radius : {4.0, 8.0})
    EXPECT_NEAR(light_within(coarse, radius), light_within(fine, 2 * radius), 0.015) << radius;
}

TEST(PsfWings, NeedStars) {
  StarCatalogue catalogue;
  catalogue.frame = frame_size;
  catalogue.sky.resize(1);
  EXPECT_EQ(measure_psf_wings(Image(1, frame_size).view(), catalogue, nullptr), nullptr);
}

}  // namespace
}  // namespace limpid
