#include <cmath>
#include <utility>

#include <gtest/gtest.h>
#include <limpid/stars.h>

#include "synthetic.h"

namespace limpid {
namespace {

constexpr Size frame_size{1000, 800};

/// Coma that points away from the centre and grows towards the edge: a fifth of the light is
/// displaced.
Psf ghost_of(float x, float y) {
  const float u = 2 * x / static_cast<float>(frame_size.width) - 1,
              v = 2 * y / static_cast<float>(frame_size.height) - 1;
  return {3.5F, 3, 0, 0, 3.5F * u, 3.5F * v};
}
constexpr Psf core{3.0F, 3, 0, 0, 0, 0};
constexpr float ghost_share = 0.2F;
constexpr std::pair<float, float> corners[] = {{80.0F, 80.0F}, {920.0F, 700.0F}, {900.0F, 100.0F}};

/// Stars on a jittered lattice, with coma if asked, or as plain Moffats.
Image draw(bool coma, float snr) {
  Image frame(1, frame_size);
  std::mt19937 random(7);
  std::uniform_real_distribution<float> jitter(-8, 8);
  for (float y = 40; y < 770; y += 50) {
    for (float x = 40; x < 970; x += 50) {
      const synthetic::TrueStar star{x + jitter(random), y + jitter(random),
                                     synthetic::flux_for_snr(core, snr, 1)};
      synthetic::add_star(frame.view(), core,
                          {star.x, star.y, star.flux * (coma ? 1 - ghost_share : 1)});
      if (coma)
        synthetic::add_star(frame.view(), ghost_of(star.x, star.y),
                            {star.x, star.y, star.flux * ghost_share});
    }
  }
  synthetic::add_noise(frame.view(), 1, 0, 0, 3);
  for (float& pixel : frame.pixels()) pixel += 100;
  return frame;
}

double distance(ConstView a, ConstView b) {
  double sum = 0;
  for (int y = 0; y < a.height(); ++y) {
    for (int x = 0; x < a.width(); ++x)
      sum += std::pow(static_cast<double>(a(0, y, x) - b(0, y, x)), 2);
  }
  return std::sqrt(sum);
}

TEST(EffectivePsf, TellsWhatAMoffatCannot) {
  const Image frame = draw(true, 300);
  const StarCatalogue catalogue = detect_stars(frame.view());
  auto field = fit_psf_field(catalogue);
  ASSERT_TRUE(field);
  const auto effective = measure_effective_psf(frame.view(), catalogue, *field);
  ASSERT_TRUE(effective);
  EXPECT_GE(effective->order(), 1);
  for (const auto& [x, y] : corners) {
    // Where the Moffat fit puts a lopsided star is its own affair: the best shift of the truth
    // counts.
    double moffat = 1e9, whole = 1e9;
    PsfField with = *field;
    with.set_effective(effective);
    for (float dy = -1.5F; dy <= 1.5F; dy += 0.1F) {
      for (float dx = -1.5F; dx <= 1.5F; dx += 0.1F) {
        Image truth(1, {64, 64});
        const auto shifted = [&](Psf psf) {
          psf.dx += dx;
          psf.dy += dy;
          return psf.kernel(64);
        };
        const Image near = shifted(core), far = shifted(ghost_of(x, y));
        for (std::size_t i = 0; i < truth.pixels().size(); ++i) {
          truth.pixels()[i] = (1 - ghost_share) * near.pixels()[i] + ghost_share * far.pixels()[i];
        }
        moffat = std::min(moffat, distance(field->kernel(x, y, 0, 64).view(), truth.view()));
        whole = std::min(whole, distance(with.kernel(x, y, 0, 64).view(), truth.view()));
      }
    }
    EXPECT_LT(whole, 0.6 * moffat) << x << ' ' << y << ": " << whole << " against " << moffat;
    const auto [coma_x, coma_y] = with.coma(x, y);
    EXPECT_GT(coma_x * (x - 500) + coma_y * (y - 400), 0) << "coma points outwards";
    EXPECT_GT(std::hypot(coma_x, coma_y), 0.02);
  }
}

TEST(EffectivePsf, ABinnedFrameKnowsTheSame) {
  // bright: both grids of pixels fall on other cells of the stack, whose noise is not the same
  const Image frame = draw(true, 1000);
  const auto field = fit_psf_field(frame.view(), detect_stars(frame.view()));
  ASSERT_TRUE(field);
  for (const auto& [x, y] : corners) {
    const auto [coma_x, coma_y] = field->coma(x, y);
    // its light leans as far, in pixels twice as large
    const auto [binned_x, binned_y] = field->binned(2).coma((x - 0.5F) / 2, (y - 0.5F) / 2);
    EXPECT_NEAR(2 * binned_x, coma_x, 0.02 + 0.1F * std::abs(coma_x));
    EXPECT_NEAR(2 * binned_y, coma_y, 0.02 + 0.1F * std::abs(coma_y));
  }
}

TEST(EffectivePsf, IsNearlyNothingForMoffats) {
  const Image frame = draw(false, 200);
  const StarCatalogue catalogue = detect_stars(frame.view());
  auto field = fit_psf_field(catalogue);
  ASSERT_TRUE(field);
  const Image before = field->kernel(500, 400, 0, 64);
  field->set_effective(measure_effective_psf(frame.view(), catalogue, *field));
  EXPECT_LT(distance(field->kernel(500, 400, 0, 64).view(), before.view()), 0.01 * std::sqrt(0.02));
}

/// PSFs in the middle of the frame, 64 px.
struct Mixture {
  Image measured, right;
};

/// Bright stars on a jittered lattice; that share of their light has the profile of `other`.
Mixture measure_mixture(const Psf& other, float share, float across, float last_x) {
  Image frame(1, frame_size, 100);
  std::mt19937 random(7);
  std::uniform_real_distribution<float> jitter(-8, 8);
  for (float y = 40; y < 770; y += 50) {
    for (float x = 40; x < last_x; x += across) {
      const synthetic::TrueStar star{x + jitter(random), y + jitter(random),
                                     synthetic::flux_for_snr(core, 1000, 1)};
      synthetic::add_star(frame.view(), core, {star.x, star.y, (1 - share) * star.flux});
      synthetic::add_star(frame.view(), other, {star.x, star.y, share * star.flux});
    }
  }
  synthetic::add_noise(frame.view(), 1, 0, 0, 3);
  const auto field = fit_psf_field(frame.view(), detect_stars(frame.view()));
  Mixture psf{field.value().kernel(500, 400, 0, 64), core.kernel(64)};
  const Image far = other.kernel(64);
  for (std::size_t i = 0; i < far.pixels().size(); ++i)
    psf.right.pixels()[i] = (1 - share) * psf.right.pixels()[i] + share * far.pixels()[i];
  return psf;
}

/// The measured light of these pixels over the right one.
template <typename Counts>
double light_found(const Mixture& psf, Counts counts) {
  double found = 0, right = 0;
  for (int y = 0; y < 64; ++y) {
    for (int x = 0; x < 64; ++x) {
      if (!counts(x, y)) continue;
      found += static_cast<double>(psf.measured.view()(0, y, x));
      right += static_cast<double>(psf.right.view()(0, y, x));
    }
  }
  return found / right;
}

TEST(EffectivePsf, WingsAreNotDarkWhereTheFittedSkySwallowedThem) {
  // seeing: a twentieth of the light lies in a halo four times as wide
  constexpr Psf halo{12, 2.5F, 0, 0, 0, 0};
  const double found = light_found(measure_mixture(halo, 0.05F, 50, 970), [](int x, int y) {
    const double away = std::hypot(x - 32, y - 32) / 3;
    return away >= 2 && away <= 3.5;
  });
  // the stack ends at 14 px: what lies further out counts as sky
  EXPECT_NEAR(found, 1, 0.35);
}

TEST(EffectivePsf, ATailIsFollowedToItsEnd) {
  // a comatic tail far outside of what three FWHM reach, a seventh of the light
  constexpr Psf tail{7, 3, 0, 0, 14, 0};
  const double found = light_found(measure_mixture(tail, 0.15F, 70, 960), [](int x, int y) {
    return x >= 40 && x < 52 && y >= 26 && y < 38;
  });
  EXPECT_NEAR(found, 1, 0.2);
}

TEST(EffectivePsf, NeedsStars) {
  StarCatalogue catalogue;
  catalogue.frame = frame_size;
  catalogue.sky.resize(1);
  EXPECT_EQ(measure_effective_psf(Image(1, frame_size).view(), catalogue,
                                  PsfField::constant(core, frame_size, 1)),
            nullptr);
}

}  // namespace
}  // namespace limpid
