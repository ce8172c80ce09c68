#include "test_support.h"

namespace limpid {
namespace {

HeaderCard number(const std::string& keyword, const std::string& value) {
  return {keyword, value, "", false};
}

TEST(Metadata, PixelScaleComesFromTheCdMatrix) {
  Metadata metadata;
  metadata.cards = {{"CTYPE1", "RA---TAN", "", true},
                    number("CD1_1", "-3.0D-4"),
                    number("CD1_2", "0.0"),
                    number("CD2_1", "0"),
                    number("CD2_2", "3.0E-4")};
  EXPECT_NEAR(pixel_scale_arcsec(metadata).value(), 1.08, 1e-9);
}

TEST(Metadata, PixelScaleComesFromCdeltAndARotation) {
  Metadata metadata;
  metadata.cards = {{"CTYPE1", "RA---TAN", "", true},
                    number("CDELT1", "-5e-4"),
                    number("CDELT2", "5e-4"),
                    number("PC1_1", "0.6"),
                    number("PC1_2", "-0.8"),
                    number("PC2_1", "0.8"),
                    number("PC2_2", "0.6")};
  EXPECT_NEAR(pixel_scale_arcsec(metadata).value(), 1.8, 1e-9);
}

TEST(Metadata, PixelScaleComesFromPixelSizeAndFocalLength) {
  Metadata metadata;
  metadata.cards = {number("XPIXSZ", "3.76"), number("FOCALLEN", "620")};
  // 206.265 * 3.76 / 620
  EXPECT_NEAR(pixel_scale_arcsec(metadata).value(), 1.2509, 1e-4);
  metadata.cards.clear();
  metadata.properties = {{"Instrument:Sensor:XPixelSize", "Float32", "3.76", "", "", {}, {}},
                         {"Instrument:Telescope:FocalLength", "Float32", "0.620", "", "", {}, {}}};
  EXPECT_NEAR(pixel_scale_arcsec(metadata).value(), 1.2509, 1e-4);
}

TEST(Metadata, NoPixelScaleWithoutSky) {
  Metadata metadata;
  EXPECT_FALSE(pixel_scale_arcsec(metadata));
  metadata.cards = {{"CTYPE1", "WAVE", "", true},
                    number("CDELT1", "1"),
                    number("CDELT2", "1"),
                    number("XPIXSZ", "nan"),
                    number("FOCALLEN", "0")};
  EXPECT_FALSE(pixel_scale_arcsec(metadata));
}

}  // namespace
}  // namespace limpid
