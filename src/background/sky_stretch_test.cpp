#include "background/sky_stretch.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(SkyStretch, IsUndoneByItsInverse) {
  for (const float m : {0.05F, 0.25F, 0.8F}) {
    const SkyStretch stretch{0.1F, 0.5F, m};
    EXPECT_NEAR(background::stretched(stretch, 0.1F + 0.5F * m), 0.25F, 1e-6F);
    for (float value = 0; value <= 1; value += 0.125F) {
      EXPECT_NEAR(background::stretched(stretch, background::unstretched(stretch, value)), value,
                  2e-5F);
    }
  }
}

}  // namespace
}  // namespace limpid
