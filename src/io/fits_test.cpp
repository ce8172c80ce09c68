#include <zlib.h>

#include <cmath>
#include <cstdlib>

#include "test_support.h"

namespace limpid {
namespace {

std::string card(std::string text) {
  text.resize(80, ' ');
  return text;
}

std::string padded(std::string bytes, char filling) {
  bytes.resize((bytes.size() + 2879) / 2880 * 2880, filling);
  return bytes;
}

std::string header(const std::vector<std::string>& cards) {
  std::string text;
  for (const std::string& line : cards) text += card(line);
  return padded(text + card("END"), ' ');
}

std::string big_endian_16(const std::vector<int>& values) {
  std::string bytes;
  for (const int value : values) {
    bytes += static_cast<char>(value >> 8 & 0xff);
    bytes += static_cast<char>(value & 0xff);
  }
  return padded(bytes, '\0');
}

std::string simple_header(int bitpix, const std::vector<int>& axes,
                          const std::vector<std::string>& more = {}) {
  std::vector<std::string> cards{"SIMPLE  =                    T",
                                 "BITPIX  = " + std::to_string(bitpix),
                                 "NAXIS   = " + std::to_string(axes.size())};
  for (std::size_t i = 0; i < axes.size(); ++i) {
    cards.push_back("NAXIS" + std::to_string(i + 1) + "  = " + std::to_string(axes[i]));
  }
  cards.insert(cards.end(), more.begin(), more.end());
  return header(cards);
}

Frame read_bytes(const std::string& bytes) {
  const TemporaryFolder folder;
  write_text(folder / "a.fits", bytes);
  return read_frame(folder / "a.fits");
}

std::string refusal_of(const std::string& bytes) {
  const TemporaryFolder folder;
  write_text(folder / "a.fits", bytes);
  return refusal(folder / "a.fits");
}

std::vector<float> values(const Frame& frame) {
  return {frame.image.pixels().begin(), frame.image.pixels().end()};
}

TEST(Fits, ScaledIntegersArePhysicalValues) {
  const Frame frame = read_bytes(simple_header(16, {2, 1}, {"BSCALE  = 0.5", "BZERO   = 100."}) +
                                 big_endian_16({-40, 400}));
  EXPECT_EQ(frame.metadata.scale, 256.0);
  EXPECT_EQ(values(frame), (std::vector<float>{80.0F / 256, 300.0F / 256}));
}

TEST(Fits, SixteenUnsignedBitsComeFromBzero) {
  const Frame frame = read_bytes(simple_header(16, {3, 1}, {"BZERO   = 32768"}) +
                                 big_endian_16({-32768, 0, 32767}));
  EXPECT_EQ(frame.metadata.sample_type, SampleType::u16);
  EXPECT_EQ(values(frame), (std::vector<float>{0.0F, 32768.0F / 65535, 1.0F}));
}

TEST(Fits, NegativeIntegersSurvive) {
  const Frame frame = read_bytes(simple_header(16, {2, 1}) + big_endian_16({-100, 200}));
  EXPECT_EQ(values(frame), (std::vector<float>{-100.0F / 32767, 200.0F / 32767}));
}

TEST(Fits, BlankIsNoData) {
  const Frame frame =
      read_bytes(simple_header(16, {2, 1}, {"BLANK   = -1"}) + big_endian_16({-1, 200}));
  EXPECT_TRUE(std::isnan(frame.image.pixels()[0]));
  EXPECT_FALSE(std::isnan(frame.image.pixels()[1]));
}

TEST(Fits, ReadsTheSameWithAnyNumberOfThreads) {
  TemporaryFolder folder;
  Frame frame{Image(3, {700, 900}), {}};  // several bands of rows
  float value = 0;
  for (float& pixel : frame.image.pixels()) pixel = value++;
  write_frame(folder / "a.fits", frame, {.depth = Depth::f32});
  const Frame one = read_frame(folder / "a.fits"),
              three = read_frame(folder / "a.fits", {.threads = 3});
  EXPECT_EQ(one.metadata.scale, three.metadata.scale);
  EXPECT_TRUE(std::ranges::equal(one.image.pixels(), three.image.pixels()));
}

TEST(Fits, NoDataSurvivesInIntegers) {
  const TemporaryFolder folder;
  Frame frame{Image(1, {2, 2}, 0.5F), {}};
  frame.image.pixels()[2] = std::numeric_limits<float>::quiet_NaN();
  for (const SampleType type : {SampleType::i16, SampleType::u16, SampleType::u32}) {
    frame.metadata.sample_type = type;
    frame.metadata.scale = 1000.0;
    write_frame(folder / "a.fits", frame, {.overwrite = true});
    const Frame back = read_frame(folder / "a.fits");
    EXPECT_TRUE(std::isnan(back.image.pixels()[2]));
    EXPECT_FALSE(std::isnan(back.image.pixels()[1]));
  }
}

TEST(Fits, ChannelsMayComeLast) {
  // Axes (3, 4, 5): the first is the channel.
  std::vector<int> stored;
  for (int i = 0; i < 60; ++i) stored.push_back(i);
  const Frame frame = read_bytes(simple_header(16, {3, 4, 5}) + big_endian_16(stored));
  ASSERT_EQ(frame.image.channels(), 3);
  EXPECT_EQ(frame.image.size(), (Size{4, 5}));
  for (int channel = 0; channel < 3; ++channel) {
    EXPECT_EQ(frame.image.view()(channel, 2, 1),
              static_cast<float>((2 * 4 + 1) * 3 + channel) / 32767.0F);
  }
}

TEST(Fits, AxesOfLengthOneMeanNothing) {
  const Frame frame = read_bytes(simple_header(16, {2, 2, 1, 1}) + big_endian_16({1, 2, 3, 4}));
  EXPECT_EQ(frame.image.channels(), 1);
  EXPECT_EQ(frame.image.size(), (Size{2, 2}));
}

TEST(Fits, OtherCubesAreRefused) {
  EXPECT_NE(refusal_of(simple_header(16, {2, 2, 4}) + big_endian_16({1})).find("4 planes"),
            std::string::npos);
}

TEST(Fits, FirstImageExtensionIsReadAndOthersCanBeChosen) {
  const auto extension = [](const std::string& name, int value) {
    return header({"XTENSION= 'IMAGE   '", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 1",
                   "NAXIS2  = 1", "PCOUNT  = 0", "GCOUNT  = 1", "EXTNAME = '" + name + "'",
                   "EXPTIME = 5."}) +
           big_endian_16({value});
  };
  const TemporaryFolder folder;
  write_text(folder / "a.fits", header({"SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 0",
                                        "OBJECT  = 'M31'", "EXPTIME = 1."}) +
                                    extension("SCI", 7) + extension("MASK", 8));
  const FrameInfo info = read_info(folder / "a.fits");
  EXPECT_EQ(info.image_count, 2);
  EXPECT_EQ(info.image_names, (std::vector<std::string>{"SCI", "MASK"}));
  EXPECT_EQ(info.metadata.card("OBJECT"), "M31");
  EXPECT_EQ(info.metadata.card("EXPTIME"), "5.");  // the extension's own word counts
  EXPECT_EQ(values(read_frame(folder / "a.fits"))[0], 7.0F / 32767);
  EXPECT_EQ(values(read_frame(folder / "a.fits", {.image = 1}))[0], 8.0F / 32767);
  EXPECT_EQ(error_of([&] { read_frame(folder / "a.fits", {.image = 2}); }).first,
            ErrorKind::bad_input);
}

TEST(Fits, MosaicsAreRefusedAndDescribed) {
  const TemporaryFolder folder;
  const std::string pixels = big_endian_16({1, 2, 3, 4});
  write_text(folder / "a.fits", simple_header(16, {2, 2}, {"BAYERPAT= 'RGGB    '"}) + pixels);
  EXPECT_NE(refusal(folder / "a.fits").find("debayer"), std::string::npos);
  EXPECT_EQ(error_of([&] {
              read_tile(folder / "a.fits", {0, 0, 1, 1});
            }).first,
            ErrorKind::bad_input);
  EXPECT_EQ(read_info(folder / "a.fits").bayer, "RGGB");
  EXPECT_NO_THROW(read_bytes(simple_header(16, {2, 2}, {"BAYERPAT= 'NONE    '"}) + pixels));
}

TEST(Fits, RowOrderIsBottomUpUnlessItSaysOtherwise) {
  const std::string pixels = big_endian_16({1});
  EXPECT_TRUE(read_bytes(simple_header(16, {1, 1}) + pixels).metadata.bottom_up);
  EXPECT_FALSE(
      read_bytes(simple_header(16, {1, 1}, {"ROWORDER= 'TOP-DOWN'"}) + pixels).metadata.bottom_up);
  EXPECT_TRUE(
      read_bytes(simple_header(16, {1, 1}, {"ROWORDER= 'BOTTOM-UP'"}) + pixels).metadata.bottom_up);
}

TEST(Fits, GzippedFilesAreUnpacked) {
  const TemporaryFolder folder;
  const std::string bytes = simple_header(16, {2, 1}) + big_endian_16({5, 6});
  gzFile file = gzopen((folder / "a.fits.gz").c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  EXPECT_EQ(values(read_frame(folder / "a.fits.gz"))[1], 6.0F / 32767);
  const std::string packed = read_text(folder / "a.fits.gz");
  write_text(folder / "cut.fits.gz", packed.substr(0, packed.size() / 2));
  EXPECT_NE(refusal(folder / "cut.fits.gz").find("cut short"), std::string::npos);
}

TEST(Fits, HeadersThatPromiseTooMuchTakeNoMemory) {
  // 16 terabytes, and sizes whose product wraps around 64 bits.
  EXPECT_NE(refusal_of(simple_header(-64, {1 << 20, 1 << 21})).find("cut short"),
            std::string::npos);
  refusal_of(simple_header(-64, {1 << 24, 1 << 24, 3}));
  refusal_of(simple_header(16, {2000000000, 2000000000, 2000000000}));
  refusal_of(simple_header(16, {-5, 5}));
  refusal_of(simple_header(17, {5, 5}));
  refusal_of(card("SIMPLE  =                    T"));
}

TEST(Fits, LongStringsAreContinued) {
  const std::string text = std::string(66, 'a') + "'s end";
  const Frame frame = read_bytes(
      simple_header(16, {1, 1},
                    {"LONGTEXT= '" + std::string(66, 'a') + "&'", "CONTINUE  '''s end' / why"}) +
      big_endian_16({1}));
  EXPECT_EQ(frame.metadata.card("LONGTEXT"), text);
  EXPECT_EQ(frame.metadata.cards[0].comment, "why");
}

TEST(Fits, StructureIsWrittenAnewAndTheRestIsKept) {
  const TemporaryFolder folder;
  const Frame frame = read_bytes(
      simple_header(16, {1, 1}, {"BZERO   = 32768", "CHECKSUM= 'abcdefgh'", "OBJECT  = 'M31'"}) +
      big_endian_16({1}));
  write_frame(folder / "a.fits", frame, {.depth = Depth::f32});
  const std::string bytes = read_text(folder / "a.fits");
  EXPECT_EQ(bytes.find("CHECKSUM"), std::string::npos);
  EXPECT_EQ(bytes.find("BZERO"), std::string::npos);
  EXPECT_NE(bytes.find("OBJECT  = 'M31     '"), std::string::npos);
  EXPECT_EQ(bytes.size() % 2880, 0U);
}

TEST(Fits, RiceCodingOfFloatsIsRefusedBecauseItRounds) {
  const TemporaryFolder folder;
  const Frame frame{ramp(1, {8, 8}), {}};
  const auto [kind, text] =
      error_of([&] { write_frame(folder / "a.fits", frame, {.compression = Compression::rice}); });
  EXPECT_EQ(kind, ErrorKind::usage);
  EXPECT_NE(text.find("zlib"), std::string::npos);
}

TEST(Fits, TilesWithoutASideAreRefused) {
  const TemporaryFolder folder;
  write_frame(folder / "a.fits", {ramp(1, {64, 64}), {}}, {.compression = Compression::zlib});
  std::string bytes = read_text(folder / "a.fits");
  const std::size_t place = bytes.find("ZTILE1  =                   64");
  ASSERT_NE(place, std::string::npos);
  bytes.replace(place, 30, "ZTILE1  =                    0");
  write_text(folder / "b.fits", bytes);
  refusal(folder / "b.fits");
}

// found by fuzzing: CFITSIO writes the value behind its message, one byte past the end
TEST(Fits, LongWordsInPlaceOfNumbersAreRefused) {
  const TemporaryFolder folder;
  write_frame(folder / "a.fits", {ramp(1, {64, 64}), {}}, {.compression = Compression::zlib});
  std::string bytes = read_text(folder / "a.fits");
  const std::size_t place = bytes.find("ZBITPIX =");
  ASSERT_NE(place, std::string::npos);
  bytes.replace(place + 10, 70, std::string(70, 'x'));
  write_text(folder / "b.fits", bytes);
  refusal(folder / "b.fits");
}

// found by fuzzing: CFITSIO took the second, and memory by it
TEST(Fits, ShapesThatAreToldTwiceAreRefused) {
  const TemporaryFolder folder;
  write_frame(folder / "a.fits", {ramp(1, {64, 64}), {}}, {.compression = Compression::zlib});
  std::string bytes = read_text(folder / "a.fits");
  const std::size_t place = bytes.find("ROWORDER=");
  ASSERT_NE(place, std::string::npos);
  bytes.replace(place, 80, "ZTILE2  =                   64" + std::string(50, ' '));
  write_text(folder / "b.fits", bytes);
  refusal(folder / "b.fits");
}

TEST(Fits, RiceCodesThatRunOutAreRefused) {
  const TemporaryFolder folder;
  Frame frame{ramp(1, {64, 64}), {}};
  frame.metadata.sample_type = SampleType::u16;
  frame.metadata.scale = 65535.0;
  write_frame(folder / "a.fits", frame, {.compression = Compression::rice});
  std::string bytes = read_text(folder / "a.fits");
  // Zeros in the heap ask for pixel after pixel without an end.
  const std::size_t heap = bytes.size() - 2880;
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(heap), bytes.end(), '\x10');
  write_text(folder / "b.fits", bytes);
  try {
    read_frame(folder / "b.fits");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_input);
  }
}

// found by fuzzing: CFITSIO takes the second parameter for the bytes of a pixel whatever its name
TEST(Fits, RiceParametersThatAreMisnamedAreRefused) {
  const TemporaryFolder folder;
  Frame frame{ramp(1, {64, 64}), {}};
  frame.metadata.sample_type = SampleType::u16;
  frame.metadata.scale = 65535.0;
  write_frame(folder / "a.fits", frame, {.compression = Compression::rice});
  const std::string bytes = read_text(folder / "a.fits");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = bytes;
    const std::size_t place = changed.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    changed.replace(place, from.size(), to);
    return changed;
  };
  for (const std::string& damaged :
       {with("ZNAME2  = 'BYTEPIX '", "ZNAME2  = 'BLOCKSIZE'"), with("ZVAL2 ", "ZVAL1 "),
        with("ZVAL1   =                   32", "ZVAL1   =                    0")}) {
    write_text(folder / "b.fits", damaged);
    EXPECT_THROW(read_frame(folder / "b.fits"), Error);
  }
  // a code that asks for one more bit for ever, under a parameter without its name
  std::string endless = with("ZNAME2  = 'BYTEPIX '", "AMNZE2  = 'BYTEPIX '");
  const std::size_t end = endless.find("END     ", endless.find("COMPRESSED_DATA"));
  const std::size_t heap = (end / 2880 + 1) * 2880 + 64 * 8;  // behind where each of 64 tiles lies
  std::fill(endless.begin() + static_cast<std::ptrdiff_t>(heap), endless.end(), '\0');
  endless[heap + 2] = '\x10';  // behind the first pixel: no low bits, a one ends each difference
  write_text(folder / "b.fits", endless);
  EXPECT_NE(refusal(folder / "b.fits").find("packed tile"), std::string::npos);
}

TEST(Fits, PackedTilesThatEndEarlyAreRefused) {
  const TemporaryFolder folder;
  write_frame(folder / "a.fits", {ramp(1, {64, 64}), {}}, {.compression = Compression::zlib});
  std::string bytes = read_text(folder / "a.fits");
  const std::size_t stream = bytes.find("\x1f\x8b\x08");
  ASSERT_NE(stream, std::string::npos);
  bytes.replace(stream + 20, 20, 20, '\0');
  write_text(folder / "b.fits", bytes);
  EXPECT_NE(refusal(folder / "b.fits").find("packed tile"), std::string::npos);
}

}  // namespace
}  // namespace limpid
