// Metadata of parts of frames and of finer grids.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <limpid/io.h>

namespace limpid {
namespace {

Metadata with(const std::vector<std::pair<std::string, std::string>>& cards) {
  Metadata metadata;
  for (const auto& [keyword, value] : cards)
    metadata.cards.push_back({keyword, value, "", value.starts_with('[')});
  return metadata;
}
double value_of(const Metadata& metadata, const std::string& keyword) {
  return std::stod(metadata.card(keyword).value());
}

TEST(Grid, TheSameGridLeavesEverythingAsItIs) {
  Metadata metadata = with({{"CRPIX1", "100.50"},
                            {"DATASEC", "[1:200,1:100]"},
                            {"LTV1", "-3"},
                            {"XPIXSZ", "3.760"},
                            {"SATURATE", "65535"}});
  const auto before = metadata.cards;
  EXPECT_TRUE(change_grid(metadata, {200, 100}, {{0, 0, 200, 100}}).empty());
  ASSERT_EQ(metadata.cards.size(), before.size());
  for (std::size_t i = 0; i < before.size(); ++i)
    EXPECT_EQ(metadata.cards[i].value, before[i].value);
}

/// Where a star that the frame has at (x, y), from 1 on, lies in the part of finer pixels.
TEST(Grid, WorldAndPhysicalCoordinatesOfAPixelStay) {
  for (const Rect part : {Rect{0, 0, 200, 100}, Rect{30, 20, 64, 48}}) {
    for (const int factor : {1, 2, 3}) {
      Metadata metadata = with({{"CRPIX1", "100.5"},
                                {"CRPIX2", "60"},
                                {"CD1_1", "-3e-4"},
                                {"CD1_2", "1e-5"},
                                {"CD2_1", "2e-5"},
                                {"CD2_2", "3e-4"},
                                {"CRPIX1A", "100.5"},
                                {"CDELT1A", "2"},
                                {"A_ORDER", "2"},
                                {"A_2_0", "1e-5"},
                                {"LTV1", "-12"},
                                {"LTM1_1", "0.5"}});
      change_grid(metadata, {200, 100}, {part, factor});
      const double x = 41, y = 33;  // inside both parts
      const double u = (x - part.x - 0.5) * factor + 0.5, v = (y - part.y - 0.5) * factor + 0.5;
      const double dx = u - value_of(metadata, "CRPIX1"), dy = v - value_of(metadata, "CRPIX2");
      const double sip = dx + value_of(metadata, "A_2_0") * dx * dx;
      const double sip_before = x - 100.5 + 1e-5 * (x - 100.5) * (x - 100.5);
      EXPECT_NEAR(value_of(metadata, "CD1_1") * sip + value_of(metadata, "CD1_2") * dy,
                  -3e-4 * sip_before + 1e-5 * (y - 60), 1e-12);
      EXPECT_NEAR(value_of(metadata, "CDELT1A") * (u - value_of(metadata, "CRPIX1A")),
                  2 * (x - 100.5), 1e-9);
      EXPECT_EQ(metadata.card("A_ORDER"), "2");
      // physical = (pixel - LTV) / LTM; what IRAF leaves out is the identity
      const auto physical = [&](const char* axis, double pixel, double usual) {
        const std::string n = axis, ltm = "LTM" + n + "_" + n, ltv = "LTV" + n;
        return (pixel - (metadata.card(ltv) ? value_of(metadata, ltv) : 0)) /
               (metadata.card(ltm) ? value_of(metadata, ltm) : usual);
      };
      EXPECT_NEAR(physical("1", u, 1), (x + 12) / 0.5, 1e-9);
      EXPECT_NEAR(physical("2", v, 1), y, 1e-9);
    }
  }
}

TEST(Grid, PixelsAndTheirLevelsAreAsSmallAsTheyAre) {
  Metadata metadata = with({{"PIXSCALE", "1.2"},
                            {"SECPIX", "1.2"},
                            {"SECPIX1", "1.2"},
                            {"XPIXSZ", "3.8"},
                            {"YPIXSZ", "3.8"},
                            {"PIXSIZE1", "3.8"},
                            {"XBINNING", "2"},
                            {"FOCALLEN", "530"},
                            {"IMAGEW", "200"},
                            {"IMAGEH", "100"},
                            {"SATURATE", "60000"},
                            {"DATAMAX", "64000"},
                            {"EXPTIME", "300"}});
  metadata.properties = {{"Instrument:Sensor:XPixelSize", "Float32", "3.8", "", "", {}, {}}};
  metadata.sample_type = SampleType::u16;
  metadata.scale = 65535;
  change_grid(metadata, {200, 100}, {{0, 0, 180, 100}, 2, true});
  for (const char* key : {"PIXSCALE", "SECPIX", "SECPIX1"})
    EXPECT_DOUBLE_EQ(value_of(metadata, key), 0.6) << key;
  for (const char* key : {"XPIXSZ", "YPIXSZ", "PIXSIZE1"})
    EXPECT_DOUBLE_EQ(value_of(metadata, key), 1.9) << key;
  EXPECT_EQ(metadata.properties[0].value, "1.9");
  EXPECT_EQ(metadata.card("XBINNING"), "2");
  EXPECT_EQ(metadata.card("FOCALLEN"), "530");
  EXPECT_EQ(metadata.card("EXPTIME"), "300");
  EXPECT_EQ(metadata.card("IMAGEW"), "360");
  EXPECT_EQ(metadata.card("IMAGEH"), "200");
  // floats of an integer frame end at one, and a quarter of the light falls on each pixel
  EXPECT_NEAR(value_of(metadata, "SATURATE"), 60000.0 / 65535 / 4, 1e-12);
  EXPECT_NEAR(value_of(metadata, "DATAMAX"), 64000.0 / 65535 / 4, 1e-12);
}

TEST(Grid, SectionsAndPixInsightsSolutionOfAnotherGridAreDroppedAndNamed) {
  const auto dropped = [](Rect part, int factor) {
    Metadata metadata = with({{"DATASEC", "[1:200,1:100]"},
                              {"BIASSECA", "[201:210,1:100]"},
                              {"CCDSEC", "[1:200,1:100]"},
                              {"DETSECX", "3"}});
    metadata.properties = {
        {"PCL:AstrometricSolution:ReferenceImageCoordinates", "", "", "", "", {}, {}},
        {"PCL:AstrometricSolution:CreationTime", "", "", "", "", {}, {}},
        {"Observation:Object:Name", "String", "M 31", "", "", {}, {}}};
    const auto names = change_grid(metadata, {200, 100}, {part, factor});
    EXPECT_TRUE(metadata.card("DETSECX"));
    EXPECT_EQ(metadata.properties.back().value, "M 31");
    return names;
  };
  using Names = std::vector<std::string>;
  const Names sections{"DATASEC", "BIASSECA", "CCDSEC"};
  Names all = sections;
  all.emplace_back("PCL:AstrometricSolution");
  EXPECT_EQ(dropped({0, 0, 200, 100}, 1), Names());
  EXPECT_EQ(dropped({0, 0, 200, 100}, 2), all);
  EXPECT_EQ(dropped({10, 0, 100, 100}, 1), all);
  // pixels have their places
  EXPECT_EQ(dropped({0, 0, 100, 100}, 1), sections);
}

}  // namespace
}  // namespace limpid
