#include <png.h>

#include "test_support.h"

namespace limpid {
namespace {

void write_png(const std::filesystem::path& path, png_uint_32 format, const void* samples,
               const void* colormap = nullptr) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = 2;
  image.height = 1;
  image.format = format;
  image.colormap_entries = colormap != nullptr ? 2 : 0;
  ASSERT_NE(png_image_write_to_file(&image, path.c_str(), 0, samples, 0, colormap), 0);
}

TEST(Png, AlphaIsDroppedWithANote) {
  const TemporaryFolder folder;
  const png_byte samples[] = {10, 20, 30, 255, 40, 50, 60, 0};
  write_png(folder / "a.png", PNG_FORMAT_RGBA, samples);
  const Frame frame = read_frame(folder / "a.png");
  EXPECT_EQ(frame.image.channels(), 3);
  EXPECT_EQ(frame.image.view()(2, 0, 1), 60.0F / 255.0F);
  EXPECT_EQ(frame.metadata.notes.size(), 1U);
}

TEST(Png, PalettesBecomeColours) {
  const TemporaryFolder folder;
  const png_byte samples[] = {1, 0}, colours[] = {10, 20, 30, 40, 50, 60};
  write_png(folder / "a.png", PNG_FORMAT_RGB_COLORMAP, samples, colours);
  const Frame frame = read_frame(folder / "a.png");
  ASSERT_EQ(frame.image.channels(), 3);
  EXPECT_EQ(frame.image.view()(0, 0, 0), 40.0F / 255.0F);
  EXPECT_EQ(frame.image.view()(2, 0, 1), 30.0F / 255.0F);
}

TEST(Png, DescriptionAndHistoryAreWritten) {
  const TemporaryFolder folder;
  Frame frame{ramp(1, {4, 4}), {}};
  frame.metadata.description = "M 31";
  write_frame(folder / "a.png", frame, {.history = "limpid convert"});
  EXPECT_EQ(read_info(folder / "a.png").metadata.description, "M 31");
  EXPECT_NE(read_text(folder / "a.png").find("limpid convert"), std::string::npos);
}

TEST(Png, HugePromisesTakeNoMemory) {
  const TemporaryFolder folder;
  write_frame(folder / "a.png", {ramp(1, {4, 4}), {}});
  std::string bytes = read_text(folder / "a.png");
  // Width and height of the IHDR chunk, and its CRC, which libpng checks.
  const auto put = [&](std::size_t place, std::uint32_t number) {
    for (int i = 0; i < 4; ++i) {
      bytes[place + static_cast<std::size_t>(i)] = static_cast<char>(number >> (24 - 8 * i));
    }
  };
  put(16, 900000);
  put(20, 900000);
  std::uint32_t crc = 0xffffffffU;
  for (std::size_t i = 12; i < 29; ++i) {  // ISO 3309, as in the PNG specification
    crc ^= static_cast<unsigned char>(bytes[i]);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320U : 0U);
  }
  put(29, ~crc);
  write_text(folder / "b.png", bytes);
  EXPECT_NE(refusal(folder / "b.png").find("cut short"), std::string::npos);
}

}  // namespace
}  // namespace limpid
