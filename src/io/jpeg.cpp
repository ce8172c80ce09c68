// JPEG, for reading only: pictures that go into a training corpus.
#include <cstdio>  // jpeglib.h needs it first

#include <jpeglib.h>

#include <csetjmp>

#include <limpid/error.h>

#include "format.h"
#include "raw_pixels.h"

namespace limpid::io {
namespace {

struct ErrorManager {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
};

void on_error(j_common_ptr jpeg) {
  std::longjmp(reinterpret_cast<ErrorManager*>(jpeg->err)->jump, 1);
}
void on_message(j_common_ptr) {}

/// libjpeg leaves an error by longjmp: nothing with a destructor may live beside such a call.
class Decoder {
 public:
  explicit Decoder(const std::vector<std::byte>& bytes, const std::filesystem::path& path)
      : path_(path) {
    jpeg_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = on_error;
    errors_.base.output_message = on_message;
    jpeg_create_decompress(&jpeg_);
    jpeg_.mem->max_memory_to_use = 512L << 20;  // progressive files keep all coefficients
    if (setjmp(errors_.jump) != 0) fail();
    jpeg_mem_src(&jpeg_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&jpeg_, TRUE);
  }
  ~Decoder() { jpeg_destroy_decompress(&jpeg_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  [[nodiscard]] const jpeg_decompress_struct& header() const { return jpeg_; }

  void decode_into(unsigned char* samples, std::size_t row_bytes) {
    if (setjmp(errors_.jump) != 0) fail();
    jpeg_.out_color_space = jpeg_.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&jpeg_);
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = samples + jpeg_.output_scanline * row_bytes;
      jpeg_read_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_decompress(&jpeg_);
  }

 private:
  [[noreturn]] void fail() {
    char message[JMSG_LENGTH_MAX];
    errors_.base.format_message(reinterpret_cast<j_common_ptr>(&jpeg_), message);
    const std::string text = shown(path_) + ": damaged JPEG: " + message;
    jpeg_destroy_decompress(&jpeg_);  // harmless twice; the constructor has no destructor to run
    throw Error(ErrorKind::bad_input, text);
  }

  std::filesystem::path path_;
  ErrorManager errors_;
  jpeg_decompress_struct jpeg_{};
};

class JpegSource final : public ImageSource {
 public:
  JpegSource(const std::filesystem::path& path, int image) {
    require_image(path, image, 1);
    const InputFile file(path);
    bytes_ = file.read_at(0, file.size());
    path_ = path;
    const Decoder decoder(bytes_, path);
    const auto& header = decoder.header();
    require_sane_size(path, header.image_width, header.image_height, header.num_components);
    if (header.num_components != 1 && header.num_components != 3) {
      throw Error(ErrorKind::bad_input, shown(path) + ": a CMYK picture; convert it to RGB");
    }
    info_.size = {static_cast<int>(header.image_width), static_cast<int>(header.image_height)};
    // The shortest code for an 8 x 8 block of one component: two bits.
    if (info_.size.pixels() / 64 / 4 > bytes_.size()) {
      throw Error(ErrorKind::bad_input, shown(path) + ": the file is cut short");
    }
    info_.channels = header.num_components;
    info_.compression = "jpeg";
    info_.metadata.format = "jpeg";
    info_.metadata.sample_type = SampleType::u8;
    info_.metadata.scale = 255.0;
  }

  void read(Rect rect, MutableView out) override {
    const auto channels = static_cast<std::size_t>(info_.channels);
    const std::size_t row_bytes = channels * static_cast<std::size_t>(info_.size.width);
    if (!samples_) {
      std::vector<std::byte> samples(row_bytes * static_cast<std::size_t>(info_.size.height));
      Decoder(bytes_, path_)
          .decode_into(reinterpret_cast<unsigned char*>(samples.data()), row_bytes);
      samples_ = std::make_unique<InputFile>(path_, std::move(samples));
    }
    RawPixels{.size = info_.size,
              .channels = info_.channels,
              .interleaved = true,
              .decoding = {.type = SampleType::u8}}
        .read(*samples_, rect, out);
  }

 private:
  std::filesystem::path path_;
  std::vector<std::byte> bytes_;
  std::unique_ptr<InputFile> samples_;  ///< unpacked at the first read
};

bool recognises(std::span<const std::byte> head) {
  return head.size() >= 3 && head[0] == std::byte{0xff} && head[1] == std::byte{0xd8} &&
         head[2] == std::byte{0xff};
}

std::unique_ptr<ImageSource> open(const std::filesystem::path& path, int image) {
  return std::make_unique<JpegSource>(path, image);
}

}  // namespace

Format jpeg_format() {
  return {.name = "jpeg",
          .endings = {},
          .writable = {},
          .compressions = {},
          .checksums = false,
          .recognises = recognises,
          .open = open,
          .write = nullptr};
}

}  // namespace limpid::io
