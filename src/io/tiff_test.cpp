#include "tiff.h"

#include <array>

#include "test_support.h"

namespace limpid {
namespace {

struct Layout {
  bool big = false, big_endian = false, planar = false, tiled = false;
  int samples = 3, compression = COMPRESSION_NONE, predictor = 1;
};

/// Sample s of pixel (x, y): all different, below 2^16.
std::uint16_t value(int s, int y, int x) {
  return static_cast<std::uint16_t>(s * 20000 + y * 100 + x);
}

constexpr int width = 50, height = 37, tile = 16;

void write_chunk(TIFF* tiff, const Layout& layout, int x0, int y0, int columns, int rows, int first,
                 int count) {
  std::vector<std::uint16_t> samples;
  for (int y = y0; y < y0 + rows; ++y) {
    for (int x = x0; x < x0 + columns; ++x) {
      for (int s = first; s < first + count; ++s) samples.push_back(value(s, y, x));
    }
  }
  const auto bytes = static_cast<tmsize_t>(samples.size() * sizeof(samples[0]));
  const auto plane = static_cast<std::uint16_t>(first);
  const auto column = static_cast<std::uint32_t>(x0), row = static_cast<std::uint32_t>(y0);
  if (layout.tiled) {
    TIFFWriteEncodedTile(tiff, TIFFComputeTile(tiff, column, row, 0, plane), samples.data(), bytes);
  } else {
    TIFFWriteEncodedStrip(tiff, TIFFComputeStrip(tiff, row, plane), samples.data(), bytes);
  }
}

void write_tiff_of(const std::filesystem::path& path, const Layout& layout) {
  const std::string mode =
      std::string("w") + (layout.big ? "8" : "") + (layout.big_endian ? "b" : "l");
  const io::TiffHandle tiff(TIFFOpen(path.c_str(), mode.c_str()), TIFFClose);
  TIFFSetField(tiff.get(), TIFFTAG_IMAGEWIDTH, width);
  TIFFSetField(tiff.get(), TIFFTAG_IMAGELENGTH, height);
  TIFFSetField(tiff.get(), TIFFTAG_BITSPERSAMPLE, 16);
  TIFFSetField(tiff.get(), TIFFTAG_SAMPLESPERPIXEL, layout.samples);
  TIFFSetField(tiff.get(), TIFFTAG_PHOTOMETRIC,
               layout.samples >= 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  if (layout.samples == 2 || layout.samples == 4) {
    const std::uint16_t kind = EXTRASAMPLE_UNASSALPHA;
    TIFFSetField(tiff.get(), TIFFTAG_EXTRASAMPLES, 1, &kind);
  }
  TIFFSetField(tiff.get(), TIFFTAG_PLANARCONFIG,
               layout.planar ? PLANARCONFIG_SEPARATE : PLANARCONFIG_CONTIG);
  TIFFSetField(tiff.get(), TIFFTAG_COMPRESSION, layout.compression);
  if (layout.predictor > 1) TIFFSetField(tiff.get(), TIFFTAG_PREDICTOR, layout.predictor);
  constexpr int rows_per_strip = 10;
  if (layout.tiled) {
    TIFFSetField(tiff.get(), TIFFTAG_TILEWIDTH, tile);
    TIFFSetField(tiff.get(), TIFFTAG_TILELENGTH, tile);
  } else {
    TIFFSetField(tiff.get(), TIFFTAG_ROWSPERSTRIP, rows_per_strip);
  }
  const int step_x = layout.tiled ? tile : width, step_y = layout.tiled ? tile : rows_per_strip;
  for (int first = 0; first < (layout.planar ? layout.samples : 1); ++first) {
    for (int y = 0; y < height; y += step_y) {
      for (int x = 0; x < width; x += step_x) {
        const int rows = layout.tiled ? tile : std::min(step_y, height - y);
        write_chunk(tiff.get(), layout, x, y, step_x, rows, first,
                    layout.planar ? 1 : layout.samples);
      }
    }
  }
}

TEST(Tiff, EveryLayoutGivesTheSamePixels) {
  const TemporaryFolder folder;
  for (int bits = 0; bits < 16; ++bits) {
    for (const int samples : {1, 2, 3, 4}) {
      for (const auto& [compression, predictor] : {std::pair{COMPRESSION_NONE, 1},
                                                   {COMPRESSION_LZW, 2},
                                                   {COMPRESSION_ADOBE_DEFLATE, 1},
                                                   {COMPRESSION_ZSTD, 2},
                                                   {COMPRESSION_PACKBITS, 1}}) {
        const Layout layout{(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0,
                            samples,         compression,     predictor};
        SCOPED_TRACE(testing::Message() << bits << ' ' << samples << ' ' << compression);
        write_tiff_of(folder / "a.tif", layout);
        const Frame frame = read_frame(folder / "a.tif");
        ASSERT_EQ(frame.image.channels(), samples >= 3 ? 3 : 1);
        EXPECT_EQ(frame.metadata.notes.size(), samples % 2 == 0 ? 1U : 0U);
        const Image part = read_tile(folder / "a.tif", {13, 9, 30, 20});
        for (int channel = 0; channel < frame.image.channels(); ++channel) {
          for (int y = 0; y < height; ++y) {
            for (int x = 0; x < width; ++x) {
              const float expected = static_cast<float>(value(channel, y, x)) / 65535.0F;
              ASSERT_EQ(frame.image.view()(channel, y, x), expected) << x << ' ' << y;
              if (x < 13 || x >= 43 || y < 9 || y >= 29) continue;
              ASSERT_EQ(part.view()(channel, y - 9, x - 13), expected) << x << ' ' << y;
            }
          }
        }
      }
    }
  }
}

TEST(Tiff, BitsInReverseOrderAreLeftToLibtiff) {
  const TemporaryFolder folder;
  const std::array<std::uint8_t, 2> samples{1, 3};
  {
    const io::TiffHandle tiff(TIFFOpen((folder / "a.tif").c_str(), "w"), TIFFClose);
    TIFFSetField(tiff.get(), TIFFTAG_IMAGEWIDTH, 2);
    TIFFSetField(tiff.get(), TIFFTAG_IMAGELENGTH, 1);
    TIFFSetField(tiff.get(), TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(tiff.get(), TIFFTAG_PHOTOMETRIC, PHOTOMETRIC_MINISBLACK);
    TIFFSetField(tiff.get(), TIFFTAG_FILLORDER, FILLORDER_LSB2MSB);
    TIFFWriteEncodedStrip(tiff.get(), 0, const_cast<std::uint8_t*>(samples.data()), 2);
  }
  const Frame frame = read_frame(folder / "a.tif");
  EXPECT_EQ(frame.image.pixels()[0], 1.0F / 255.0F);
  EXPECT_EQ(frame.image.pixels()[1], 3.0F / 255.0F);
}

/// One strip of 2 x 1 samples with these tags.
void write_small(const std::filesystem::path& path, int bits, int format, int photometric,
                 const void* samples) {
  const io::TiffHandle tiff(TIFFOpen(path.c_str(), "w"), TIFFClose);
  TIFFSetField(tiff.get(), TIFFTAG_IMAGEWIDTH, 2);
  TIFFSetField(tiff.get(), TIFFTAG_IMAGELENGTH, 1);
  TIFFSetField(tiff.get(), TIFFTAG_BITSPERSAMPLE, bits);
  TIFFSetField(tiff.get(), TIFFTAG_SAMPLEFORMAT, format);
  TIFFSetField(tiff.get(), TIFFTAG_SAMPLESPERPIXEL, 1);
  TIFFSetField(tiff.get(), TIFFTAG_PHOTOMETRIC, photometric);
  TIFFWriteEncodedStrip(tiff.get(), 0, const_cast<void*>(samples), 2 * bits / 8);
}

TEST(Tiff, FloatsKeepTheUnitsOfTheirWriter) {
  const TemporaryFolder folder;
  const float unit[] = {0.25F, 1.0F}, adu[] = {500.25F, 65535.0F};
  write_small(folder / "a.tif", 32, SAMPLEFORMAT_IEEEFP, PHOTOMETRIC_MINISBLACK, unit);
  write_small(folder / "b.tif", 32, SAMPLEFORMAT_IEEEFP, PHOTOMETRIC_MINISBLACK, adu);
  const Frame a = read_frame(folder / "a.tif"), b = read_frame(folder / "b.tif");
  EXPECT_EQ(a.metadata.scale, 1.0);
  EXPECT_EQ(a.image.pixels()[0], 0.25F);
  EXPECT_EQ(b.metadata.scale, 65536.0);
  EXPECT_EQ(b.image.pixels()[0], 500.25F / 65536.0F);
}

TEST(Tiff, WhiteIsZeroIsTurnedRound) {
  const TemporaryFolder folder;
  const std::uint8_t samples[] = {0, 55};
  write_small(folder / "a.tif", 8, SAMPLEFORMAT_UINT, PHOTOMETRIC_MINISWHITE, samples);
  const Frame frame = read_frame(folder / "a.tif");
  EXPECT_EQ(frame.image.pixels()[0], 1.0F);
  EXPECT_EQ(frame.image.pixels()[1], 200.0F / 255.0F);
}

TEST(Tiff, WhatIsNoPictureOfTheSkyIsRefused) {
  const TemporaryFolder folder;
  const std::uint16_t samples[] = {1, 2, 3, 4};
  write_small(folder / "a.tif", 16, SAMPLEFORMAT_UINT, PHOTOMETRIC_CFA, samples);
  EXPECT_NE(refusal(folder / "a.tif").find("debayer"), std::string::npos);
  write_small(folder / "b.tif", 16, SAMPLEFORMAT_UINT, PHOTOMETRIC_LOGL, samples);
  EXPECT_NE(refusal(folder / "b.tif").find("colours"), std::string::npos);
  write_small(folder / "c.tif", 32, SAMPLEFORMAT_COMPLEXINT, PHOTOMETRIC_MINISBLACK, samples);
  EXPECT_NE(refusal(folder / "c.tif").find("complex"), std::string::npos);
}

TEST(Tiff, SirilsDescriptionIsAFitsHeader) {
  const TemporaryFolder folder;
  Frame frame{ramp(1, {4, 4}), {}};
  frame.metadata.cards = {{"OBJECT", "M31", "", true}, {"BAYERPAT", "NONE", "", true}};
  write_frame(folder / "a.tif", frame, {.history = "limpid convert"});
  const Metadata back = read_info(folder / "a.tif").metadata;
  EXPECT_EQ(back.card("OBJECT"), "M31");
  EXPECT_TRUE(back.description.empty());
  EXPECT_EQ(back.cards.back().comment, "limpid convert");
}

TEST(Tiff, StripOffsetsBeyondTheFileAreRefused) {
  const TemporaryFolder folder;
  write_frame(folder / "a.tif", {ramp(3, {64, 64}), {}}, {.compression = Compression::zlib});
  const std::string bytes = read_text(folder / "a.tif");
  // The directory lies at the end: without the strips in front of it nothing can be unpacked.
  for (const std::size_t keep : {std::size_t{8}, bytes.size() / 2}) {
    std::string cut = bytes;
    std::fill(cut.begin() + 8, cut.begin() + static_cast<std::ptrdiff_t>(keep + 100), '\0');
    write_text(folder / "b.tif", cut);
    refusal(folder / "b.tif");
  }
}

}  // namespace
}  // namespace limpid
