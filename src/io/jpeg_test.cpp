#include <cstdio>

#include <jpeglib.h>

#include "test_support.h"

namespace limpid {
namespace {

std::string grey_jpeg(int side, unsigned char level) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &buffer, &size);
  jpeg.image_width = jpeg.image_height = static_cast<JDIMENSION>(side);
  jpeg.input_components = 3;
  jpeg.in_color_space = JCS_RGB;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<unsigned char> row(static_cast<std::size_t>(3 * side), level);
  for (int y = 0; y < side; ++y) {
    JSAMPROW rows = row.data();
    jpeg_write_scanlines(&jpeg, &rows, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string bytes(reinterpret_cast<char*>(buffer), size);
  jpeg_destroy_compress(&jpeg);
  std::free(buffer);
  return bytes;
}

TEST(Jpeg, IsReadForTheCorpus) {
  const TemporaryFolder folder;
  write_text(folder / "a.jpg", grey_jpeg(40, 100));
  const Frame frame = read_frame(folder / "a.jpg");
  EXPECT_EQ(frame.image.channels(), 3);
  EXPECT_EQ(frame.image.size(), (Size{40, 40}));
  EXPECT_EQ(frame.metadata.format, "jpeg");
  // A constant level is one DC coefficient per block; at quality 100 it rounds by one at most.
  EXPECT_NEAR(frame.image.view()(1, 20, 20), 100.0F / 255.0F, 1.01F / 255.0F);
}

TEST(Jpeg, IsNotWritten) {
  EXPECT_EQ(error_of([] { check_writable("a.jpg"); }).first, ErrorKind::usage);
}

TEST(Jpeg, DamagedFilesAreReadOrRefused) {
  const TemporaryFolder folder;
  write_text(folder / "a.jpg", grey_jpeg(40, 100));
  abuse(folder, folder / "a.jpg");
}

}  // namespace
}  // namespace limpid
