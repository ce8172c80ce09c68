#include <cmath>
#include <tuple>

#include "test_support.h"

namespace limpid {
namespace {

using enum SampleType;

struct Variant {
  const char* ending;
  SampleType type;
  Compression compression;
};

/// Everything that write_frame promises, format by format.
const std::vector<Variant> variants{
    {".fits", u8, Compression::none},  {".fits", i16, Compression::none},
    {".fits", u16, Compression::none}, {".fits", i32, Compression::none},
    {".fits", u32, Compression::none}, {".fits", i64, Compression::none},
    {".fits", f32, Compression::none}, {".fits", f64, Compression::none},
    {".fits", u8, Compression::rice},  {".fits", i16, Compression::rice},
    {".fits", u16, Compression::rice}, {".fits", i32, Compression::rice},
    {".fits", u16, Compression::zlib}, {".fits", f32, Compression::zlib},
    {".fits", f64, Compression::zlib}, {".fz", u16, Compression::none},
    {".fz", f32, Compression::none},   {".fit", f32, Compression::none},
    {".fts", u16, Compression::none},  {".xisf", u8, Compression::none},
    {".xisf", u16, Compression::none}, {".xisf", u32, Compression::none},
    {".xisf", u64, Compression::none}, {".xisf", f32, Compression::none},
    {".xisf", f64, Compression::none}, {".xisf", u8, Compression::zlib},
    {".xisf", u16, Compression::zlib}, {".xisf", f32, Compression::zlib},
    {".xisf", u16, Compression::lz4},  {".xisf", f32, Compression::lz4},
    {".xisf", u16, Compression::zstd}, {".xisf", f32, Compression::zstd},
    {".xisf", f64, Compression::zstd}, {".tif", u8, Compression::none},
    {".tif", u16, Compression::none},  {".tif", i16, Compression::none},
    {".tif", u32, Compression::none},  {".tif", i32, Compression::none},
    {".tif", f16, Compression::none},  {".tif", f32, Compression::none},
    {".tif", f64, Compression::none},  {".tif", u8, Compression::zlib},
    {".tif", u16, Compression::zlib},  {".tif", f16, Compression::zlib},
    {".tif", f32, Compression::zlib},  {".tif", f64, Compression::zlib},
    {".tif", u16, Compression::zstd},  {".tiff", f32, Compression::zstd},
    {".tif", u8, Compression::lzw},    {".tif", u16, Compression::lzw},
    {".tif", f32, Compression::lzw},   {".png", u8, Compression::none},
    {".png", u16, Compression::zlib},
};

class RoundTrip : public testing::TestWithParam<std::tuple<Variant, int>> {};

Frame frame_for(SampleType type, int channels) {
  Frame frame{ramp(channels, {37, 23}), {}};
  frame.metadata.sample_type = type;
  if (type == u8 || type == u16 || type == i16 || type == u32 || type == u64) {
    frame.metadata.scale = type == u8    ? 255.0
                           : type == u16 ? 65535.0
                           : type == i16 ? 32767.0
                           : type == u32 ? 4294967295.0
                                         : 18446744073709551615.0;
  } else if (type == i32 || type == i64) {
    frame.metadata.scale = 65536.0;
  }
  if (type == i16 || type == i32 || type == i64 || type == f16) {
    // 255ths are no whole numbers there: take what the type can hold.
    for (float& pixel : frame.image.pixels()) pixel = std::round(pixel * 128.0F) / 128.0F;
  }
  if (type == i16) {
    for (float& pixel : frame.image.pixels()) pixel = std::round(pixel * 128.0F) / 32767.0F;
  }
  return frame;
}

TEST_P(RoundTrip, EveryBitOfEveryPixelComesBack) {
  const auto& [variant, channels] = GetParam();
  const TemporaryFolder folder;
  const auto path = folder / (std::string("frame") + variant.ending);
  const Frame frame = frame_for(variant.type, channels);
  write_frame(path, frame, {.compression = variant.compression});
  const Frame back = read_frame(path);
  EXPECT_TRUE(same_bits(back.image.pixels(), frame.image.pixels()));
  EXPECT_EQ(back.metadata.sample_type, variant.type);
  EXPECT_EQ(back.image.size(), frame.image.size());
  EXPECT_EQ(back.image.channels(), channels);
}

TEST_P(RoundTrip, TilesAreThePixelsOfTheFrame) {
  const auto& [variant, channels] = GetParam();
  const TemporaryFolder folder;
  const auto path = folder / (std::string("frame") + variant.ending);
  write_frame(path, frame_for(variant.type, channels), {.compression = variant.compression});
  const Frame frame = read_frame(path);
  TileReader reader(path);
  EXPECT_EQ(reader.info().metadata.scale, frame.metadata.scale);
  for (const Rect rect : {Rect{0, 0, 37, 23}, Rect{5, 7, 11, 13}, Rect{36, 22, 1, 1},
                          Rect{0, 3, 37, 4}, Rect{30, 0, 7, 23}}) {
    EXPECT_TRUE(
        same_bits(reader.read(rect).pixels(), copy(frame.image.view().crop(rect)).pixels()));
  }
}

TEST_P(RoundTrip, WritingTwiceGivesTheSameBytes) {
  const auto& [variant, channels] = GetParam();
  const TemporaryFolder folder;
  const auto first = folder / (std::string("a") + variant.ending);
  const auto second = folder / (std::string("b") + variant.ending);
  const Frame frame = frame_for(variant.type, channels);
  write_frame(first, frame, {.compression = variant.compression});
  write_frame(second, frame, {.compression = variant.compression});
  EXPECT_EQ(read_text(first), read_text(second));
}

INSTANTIATE_TEST_SUITE_P(Formats, RoundTrip,
                         testing::Combine(testing::ValuesIn(variants), testing::Values(1, 3)));

TEST(Formats, FloatsKeepTheirUnitsAndEveryBit) {
  const TemporaryFolder folder;
  Frame frame{Image(1, {3, 2}), {}};
  frame.metadata.scale = 65536.0;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  // A dark pixel, one far over the range, one that rounds if it is multiplied by 65535.
  const std::vector<float> adu{-1853.25F, 0.1F, 107850.3F, 40000.7F, nan, 1e-20F};
  for (std::size_t i = 0; i < adu.size(); ++i) frame.image.pixels()[i] = adu[i] / 65536.0F;
  for (const char* name : {"a.fits", "a.xisf", "a.tif"}) {
    write_frame(folder / name, frame);
    const Frame back = read_frame(folder / name);
    EXPECT_EQ(back.metadata.scale, 65536.0) << name;
    EXPECT_TRUE(same_bits(back.image.pixels(), frame.image.pixels())) << name;
  }
}

TEST(Formats, SixteenBitsGoBackToSixteenBitsThroughEveryFormat) {
  const TemporaryFolder folder;
  write_frame(folder / "a.tif", frame_for(u16, 3));
  const Frame original = read_frame(folder / "a.tif");
  std::string last = "a.tif";
  for (const char* next : {"b.fits", "c.xisf", "d.png", "e.tif"}) {
    write_frame(folder / next, read_frame(folder / last));
    EXPECT_EQ(read_info(folder / next).metadata.sample_type, u16);
    last = next;
  }
  EXPECT_TRUE(same_bits(read_frame(folder / last).image.pixels(), original.image.pixels()));
}

TEST(Formats, DepthIsWhatWasAsked) {
  const TemporaryFolder folder;
  const Frame frame = frame_for(u16, 1);
  write_frame(folder / "a.fits", frame, {.depth = Depth::f32});
  const Frame floats = read_frame(folder / "a.fits");
  EXPECT_EQ(floats.metadata.sample_type, f32);
  EXPECT_EQ(floats.metadata.scale, 1.0);
  EXPECT_TRUE(same_bits(floats.image.pixels(), frame.image.pixels()));
  write_frame(folder / "b.fits", floats, {.depth = Depth::u16});
  EXPECT_TRUE(same_bits(read_frame(folder / "b.fits").image.pixels(), frame.image.pixels()));
  write_frame(folder / "c.png", floats, {.depth = Depth::u8});
  EXPECT_EQ(read_info(folder / "c.png").metadata.sample_type, u8);
  EXPECT_EQ(error_of([&] { write_frame(folder / "d.png", frame, {.depth = Depth::f32}); }).first,
            ErrorKind::usage);
}

TEST(Formats, FloatsInSixteenBitUnitsBecomeTheSameNumbersInSixteenBits) {
  const TemporaryFolder folder;
  Frame frame{Image(1, {2, 1}, 1234.0F / 65536.0F), {}};
  frame.metadata.scale = 65536.0;
  write_frame(folder / "a.fits", frame, {.depth = Depth::u16});
  EXPECT_EQ(read_frame(folder / "a.fits").image.pixels()[0], 1234.0F / 65535.0F);
}

TEST(Formats, ClippedPixelsAreCounted) {
  const TemporaryFolder folder;
  Frame frame{Image(1, {2, 1}), {}};
  frame.image.pixels()[0] = -0.1F;
  frame.image.pixels()[1] = 1.5F;
  std::string said;
  Progress progress;
  progress.note = [&](std::string_view text) { said = text; };
  write_frame(folder / "a.png", frame, {}, progress);
  EXPECT_NE(said.find("2 pixels"), std::string::npos) << said;
}

TEST(Formats, RowOrderIsRemembered) {
  const TemporaryFolder folder;
  for (const bool bottom_up : {false, true}) {
    Frame frame = frame_for(f32, 1);
    frame.metadata.bottom_up = bottom_up;
    for (const char* name : {"a.fits", "a.xisf", "a.tif"}) {
      write_frame(folder / name, frame, {.overwrite = true});
      const Frame back = read_frame(folder / name);
      EXPECT_EQ(back.metadata.bottom_up, bottom_up) << name;
      EXPECT_TRUE(same_bits(back.image.pixels(), frame.image.pixels())) << name;
    }
  }
}

TEST(Formats, PngShowsTheTopOfThePictureFirst) {
  const TemporaryFolder folder;
  Frame frame = frame_for(u8, 1);
  frame.metadata.bottom_up = true;
  write_frame(folder / "a.png", frame);
  const Frame back = read_frame(folder / "a.png");
  EXPECT_EQ(back.image.view()(0, 0, 5), frame.image.view()(0, 22, 5));
}

TEST(Formats, PngInMemoryIsThePngInAFile) {
  const TemporaryFolder folder;
  for (const int channels : {1, 3}) {
    const Image picture = ramp(channels, {61, 47});
    const auto bytes = encode_png(picture.view());
    write_file_atomically(folder / "memory.png", bytes.data(), bytes.size(), true);
    const Frame read = read_frame(folder / "memory.png");
    EXPECT_EQ(read.metadata.sample_type, u8);
    EXPECT_TRUE(same_bits(read.image.pixels(), picture.pixels()));
  }
}

TEST(Formats, CardsGoFromFormatToFormatInTheirOrder) {
  const TemporaryFolder folder;
  Frame frame = frame_for(u16, 1);
  frame.metadata.cards = {
      {"OBJECT", "M 31, Andromeda's galaxy", "what it is", true},
      {"EXPTIME", "120.5", "[s]", false},
      {"COMMENT", "", "first comment", false},
      {"CTYPE1", "RA---TAN-SIP", "", true},
      {"CRVAL1", "10.6847083", "", false},
      {"CCD-TEMP", "-10.", "", false},
      {"FLIPPED", "F", "", false},
      {"EMPTY", "", "no value", false},
      {"LONGTEXT", std::string(150, 'x') + "'" + std::string(30, 'y'), "", true},
      {"ESO DET WIN1 NX", "512", "hierarchical", false},
      {"HISTORY", "", "as it was", false},
      {"ROWORDER", "TOP-DOWN", "", true}};
  std::string last;
  for (const char* name : {"a.fits", "b.xisf", "c.tif", "d.fits"}) {
    write_frame(folder / name, last.empty() ? std::move(frame) : read_frame(folder / last));
    last = name;
  }
  const Metadata back = read_frame(folder / last).metadata;
  const std::vector<HeaderCard> expected = [] {
    return std::vector<HeaderCard>{
        {"OBJECT", "M 31, Andromeda's galaxy", "what it is", true},
        {"EXPTIME", "120.5", "[s]", false},
        {"COMMENT", "", "first comment", false},
        {"CTYPE1", "RA---TAN-SIP", "", true},
        {"CRVAL1", "10.6847083", "", false},
        {"CCD-TEMP", "-10.", "", false},
        {"FLIPPED", "F", "", false},
        {"EMPTY", "", "no value", false},
        {"LONGTEXT", std::string(150, 'x') + "'" + std::string(30, 'y'), "", true},
        {"ESO DET WIN1 NX", "512", "hierarchical", false},
        {"HISTORY", "", "as it was", false},
        {"ROWORDER", "TOP-DOWN", "", true}};
  }();
  ASSERT_EQ(back.cards.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(back.cards[i].keyword, expected[i].keyword);
    EXPECT_EQ(back.cards[i].value, expected[i].value) << expected[i].keyword;
    EXPECT_EQ(back.cards[i].comment, expected[i].comment) << expected[i].keyword;
    EXPECT_EQ(back.cards[i].is_string, expected[i].is_string) << expected[i].keyword;
  }
}

TEST(Formats, HistoryIsAppended) {
  const TemporaryFolder folder;
  const std::string line =
      "limpid 0.1.0: limpid deconvolve a.fits -o b.fits, model limpid-1 " + std::string(100, 'x');
  for (const char* name : {"a.fits", "a.fz", "a.xisf"}) {
    Frame frame = frame_for(u16, 1);
    frame.metadata.cards = {{"HISTORY", "", "older", false}};
    write_frame(folder / name, frame, {.history = line});
    std::string history;
    for (const HeaderCard& card : read_info(folder / name).metadata.cards) {
      if (card.keyword == "HISTORY") history += card.comment;
    }
    EXPECT_EQ(history, "older" + line) << name;
  }
  Frame picture = frame_for(u16, 1);
  picture.metadata.description = "M 31";
  write_frame(folder / "a.tif", picture, {.history = line});
  EXPECT_EQ(read_info(folder / "a.tif").metadata.description, "M 31");
  EXPECT_NE(read_text(folder / "a.tif").find(line), std::string::npos);  // the Software tag
}

TEST(Formats, IccProfileAndDescriptionSurvive) {
  const TemporaryFolder folder;
  Frame frame = frame_for(u16, 3);
  frame.metadata.icc_profile.resize(5000);
  for (std::size_t i = 0; i < 5000; ++i) {
    frame.metadata.icc_profile[i] = static_cast<std::byte>(i * 7);
  }
  frame.metadata.description = "stretched";
  for (const char* name : {"a.xisf", "a.tif"}) {
    write_frame(folder / name, frame);
    EXPECT_EQ(read_info(folder / name).metadata.icc_profile, frame.metadata.icc_profile) << name;
  }
  EXPECT_EQ(read_info(folder / "a.tif").metadata.description, "stretched");
}

TEST(Formats, WhatCannotBeWrittenIsSaidBeforeTheWork) {
  const TemporaryFolder folder;
  write_text(folder / "old.fits", "old");
  const auto kind = [](const std::filesystem::path& path, const WriteOptions& options = {}) {
    return error_of([&] { check_writable(path, options); }).first;
  };
  EXPECT_EQ(kind(folder / "a.bmp"), ErrorKind::usage);
  EXPECT_EQ(kind(folder / "a"), ErrorKind::usage);
  EXPECT_EQ(kind(folder / "old.fits"), ErrorKind::cannot_write);
  EXPECT_EQ(kind(folder / "none" / "a.fits"), ErrorKind::cannot_write);
  EXPECT_EQ(kind(folder / "a.fits", {.compression = Compression::zstd}), ErrorKind::usage);
  EXPECT_EQ(kind(folder / "a.tif", {.compression = Compression::rice}), ErrorKind::usage);
  EXPECT_EQ(kind(folder / "a.fits", {.checksum = Checksum::sha256}), ErrorKind::usage);
  EXPECT_NO_THROW(check_writable(folder / "old.fits", {.overwrite = true}));
  EXPECT_NO_THROW(check_writable(folder / "a.XISF"));
}

TEST(Formats, ANamedFormatNeedsNoEnding) {
  const TemporaryFolder folder;
  const Frame frame{ramp(1, {8, 8}), {}};
  write_frame(folder / "a", frame, {.format = "xisf"});
  EXPECT_EQ(read_info(folder / "a").metadata.format, "xisf");
  write_frame(folder / "b", frame, {.format = "tif"});
  EXPECT_EQ(read_info(folder / "b").metadata.format, "tiff");
  for (const auto& [name, format] : {std::pair{"c.fits", "xisf"}, {"c", "jpeg"}, {"c", "bmp"}}) {
    const auto [kind, text] =
        error_of([&] { write_frame(folder / name, frame, {.format = format}); });
    EXPECT_EQ(kind, ErrorKind::usage) << text;
  }
}

TEST(Formats, OutputMayBeTheInput) {
  const TemporaryFolder folder;
  write_frame(folder / "a.fits", frame_for(f32, 1));
  const Frame frame = read_frame(folder / "a.fits");
  write_frame(folder / "a.fits", frame, {.overwrite = true});
  EXPECT_TRUE(same_bits(read_frame(folder / "a.fits").image.pixels(), frame.image.pixels()));
}

TEST(Formats, ReadingGoesByContent) {
  const TemporaryFolder folder;
  write_frame(folder / "a.fits", frame_for(f32, 1));
  std::filesystem::rename(folder / "a.fits", folder / "a[1]+b.tif");
  EXPECT_EQ(read_frame(folder / "a[1]+b.tif").metadata.format, "fits");
}

TEST(Formats, DamagedFilesAreReadOrRefused) {
  const TemporaryFolder folder;
  for (const Variant& variant :
       {Variant{".fits", f32, Compression::none}, Variant{".fits", u16, Compression::rice},
        Variant{".fits", f32, Compression::zlib}, Variant{".xisf", u16, Compression::none},
        Variant{".xisf", f32, Compression::zstd}, Variant{".xisf", f32, Compression::lz4},
        Variant{".xisf", u16, Compression::zlib}, Variant{".tif", f32, Compression::none},
        Variant{".tif", u16, Compression::zlib}, Variant{".png", u16, Compression::none}}) {
    const auto path = folder / (std::string("frame") + variant.ending);
    write_frame(path, frame_for(variant.type, 3),
                {.compression = variant.compression, .overwrite = true});
    abuse(folder, path);
  }
}

TEST(Formats, FramesOfDifferentScaleCanBeCompared) {
  Frame frame;
  frame.image = Image(1, {2, 1});
  frame.image.view()(0, 0, 0) = 0.25F;
  frame.image.view()(0, 0, 1) = 1;
  frame.metadata.scale = 4;
  frame.metadata.offset = 1;
  Metadata other;
  other.scale = 8;
  const Image same = in_scale_of(std::move(frame), other);
  EXPECT_EQ(same.view()(0, 0, 0), 0.25F);   // stored: 1 + 4 * 0.25 = 2
  EXPECT_EQ(same.view()(0, 0, 1), 0.625F);  // stored: 5
}

}  // namespace
}  // namespace limpid
