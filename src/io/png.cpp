// PNG: 8 and 16 bits, for pictures.
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <optional>

#include <limpid/error.h>

#include "format.h"
#include "raw_pixels.h"

namespace limpid::io {
namespace {

/// What libpng's callbacks need. An error inside libpng leaves by longjmp, as libpng asks: nothing
/// with a destructor may live between setjmp and the call.
struct PngIo {
  const InputFile* input = nullptr;
  OutputFile* output = nullptr;              // either a file
  std::vector<std::byte>* memory = nullptr;  // or bytes
  std::uint64_t position = 0;
  std::string message;
  std::exception_ptr failure;
};

void on_error(png_structp png, png_const_charp message) {
  static_cast<PngIo*>(png_get_error_ptr(png))->message = message;
  png_longjmp(png, 1);
}
void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep bytes, std::size_t count) {
  auto& io = *static_cast<PngIo*>(png_get_io_ptr(png));
  bool failed = false;
  try {
    io.input->read_at(io.position, {reinterpret_cast<std::byte*>(bytes), count});
    io.position += count;
  } catch (...) {
    io.failure = std::current_exception();
    failed = true;
  }
  if (failed) png_error(png, "read error");
}

void write_bytes(png_structp png, png_bytep bytes, std::size_t count) {
  auto& io = *static_cast<PngIo*>(png_get_io_ptr(png));
  bool failed = false;
  try {
    const std::span written(reinterpret_cast<const std::byte*>(bytes), count);
    if (io.memory != nullptr) {
      io.memory->insert(io.memory->end(), written.begin(), written.end());
    } else {
      io.output->write(written);
    }
  } catch (...) {
    io.failure = std::current_exception();
    failed = true;
  }
  if (failed) png_error(png, "write error");
}
void flush_bytes(png_structp) {}

class Reader {
 public:
  explicit Reader(const InputFile& file) {
    io_.input = &file;
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &io_, on_error, on_warning);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) throw Error(ErrorKind::exhausted, "no memory for libpng");
    png_set_read_fn(png_, &io_, read_bytes);
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  [[nodiscard]] png_structp png() const { return png_; }
  [[nodiscard]] png_infop info() const { return info_; }

  void read_header() {
    if (setjmp(png_jmpbuf(png_)) != 0) fail();
    png_read_info(png_, info_);
  }
  void expand() {
    if (setjmp(png_jmpbuf(png_)) != 0) fail();
    png_set_expand(png_);  // palettes to RGB, 1, 2, 4 bits to 8, transparent colours to alpha
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
  }
  void read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_)) != 0) fail();
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
  }

 private:
  [[noreturn]] void fail() {
    if (io_.failure) std::rethrow_exception(io_.failure);
    throw Error(ErrorKind::bad_input,
                shown(io_.input->path()) + ": damaged PNG: " + clean_text(io_.message));
  }

  PngIo io_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

class PngSource final : public ImageSource {
 public:
  PngSource(const std::filesystem::path& path, int image) : file_(path) {
    require_image(path, image, 1);
    Reader reader(file_);
    reader.read_header();
    reader.expand();
    describe(reader);
  }

  void read(Rect rect, MutableView out) override {
    if (!samples_) load();
    pixels_.read(*samples_, rect, out);
  }

 private:
  void describe(Reader& reader) {
    const auto width = png_get_image_width(reader.png(), reader.info());
    const auto height = png_get_image_height(reader.png(), reader.info());
    const int file_channels = png_get_channels(reader.png(), reader.info());
    require_sane_size(file_.path(), width, height, file_channels);
    row_bytes_ = png_get_rowbytes(reader.png(), reader.info());
    // Deflate packs 1032 to 1 at most, and a palette image grows eightfold times three.
    if (height * row_bytes_ / 24 / 1032 > file_.size()) {
      throw Error(ErrorKind::bad_input, shown(file_.path()) + ": the file is cut short");
    }
    info_.size = {static_cast<int>(width), static_cast<int>(height)};
    info_.channels = file_channels >= 3 ? 3 : 1;
    info_.compression = "zlib";
    Metadata& metadata = info_.metadata;
    metadata.format = "png";
    metadata.sample_type =
        png_get_bit_depth(reader.png(), reader.info()) == 16 ? SampleType::u16 : SampleType::u8;
    metadata.scale = sample_max(metadata.sample_type);
    pixels_ = {.size = info_.size,
               .channels = file_channels,
               .interleaved = true,
               .decoding = {.type = metadata.sample_type, .big_endian = true}};
    if (file_channels == 2 || file_channels == 4) {
      metadata.notes.emplace_back("the alpha channel was dropped");
    }
    png_charp name = nullptr;
    int method = 0;
    png_bytep profile = nullptr;
    png_uint_32 length = 0;
    if (png_get_iCCP(reader.png(), reader.info(), &name, &method, &profile, &length) != 0) {
      const auto* bytes = reinterpret_cast<const std::byte*>(profile);
      metadata.icc_profile.assign(bytes, bytes + length);
    }
    png_textp texts = nullptr;
    const int count = png_get_text(reader.png(), reader.info(), &texts, nullptr);
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(texts[i].key, "Description") == 0) metadata.description = texts[i].text;
    }
  }

  void load() {
    Reader reader(file_);
    reader.read_header();
    reader.expand();
    const auto height = static_cast<std::size_t>(info_.size.height);
    std::vector<std::byte> samples(height * row_bytes_);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) {
      rows[y] = reinterpret_cast<png_bytep>(samples.data() + y * row_bytes_);
    }
    reader.read_rows(rows.data());
    samples_ = std::make_unique<InputFile>(file_.path(), std::move(samples));
  }

  InputFile file_;
  std::size_t row_bytes_ = 0;
  RawPixels pixels_;
  std::unique_ptr<InputFile> samples_;  ///< unpacked at the first read
};

class Writer {
 public:
  explicit Writer(OutputFile& file) : Writer(PngIo{nullptr, &file, nullptr, 0, {}, {}}) {}
  explicit Writer(std::vector<std::byte>& memory)
      : Writer(PngIo{nullptr, nullptr, &memory, 0, {}, {}}) {}
  explicit Writer(PngIo io) : io_(std::move(io)) {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, &io_, on_error, on_warning);
    info_ = png_ == nullptr ? nullptr : png_create_info_struct(png_);
    if (info_ == nullptr) throw Error(ErrorKind::exhausted, "no memory for libpng");
    png_set_write_fn(png_, &io_, write_bytes, flush_bytes);
  }
  ~Writer() { png_destroy_write_struct(&png_, &info_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  /// A seventh of the time of the default for a third more bytes.
  void hurry() {
    png_set_compression_level(png_, 1);
    png_set_filter(png_, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
  }
  void write_header(Size size, int channels, int bits, const std::vector<std::byte>& profile,
                    png_text* texts, int text_count) {
    if (setjmp(png_jmpbuf(png_)) != 0) fail();
    png_set_IHDR(png_, info_, static_cast<png_uint_32>(size.width),
                 static_cast<png_uint_32>(size.height), bits,
                 channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_benign_errors(png_, 1);  // a profile that libpng finds odd is left out, not fatal
    if (!profile.empty()) {
      png_set_iCCP(png_, info_, "ICC profile", PNG_COMPRESSION_TYPE_BASE,
                   reinterpret_cast<png_const_bytep>(profile.data()),
                   static_cast<png_uint_32>(profile.size()));
    }
    png_set_text(png_, info_, texts, text_count);
    png_write_info(png_, info_);
  }
  void write_row(const std::byte* row) {
    if (setjmp(png_jmpbuf(png_)) != 0) fail();
    png_write_row(png_, reinterpret_cast<png_const_bytep>(row));
  }
  void finish() {
    if (setjmp(png_jmpbuf(png_)) != 0) fail();
    png_write_end(png_, info_);
  }

 private:
  [[noreturn]] void fail() {
    if (io_.failure) std::rethrow_exception(io_.failure);
    throw Error(ErrorKind::cannot_write,
                (io_.output == nullptr ? "PNG" : shown(io_.output->target())) + ": " +
                    clean_text(io_.message));
  }

  PngIo io_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

png_text text_chunk(const char* key, std::string& text) {
  png_text chunk{};
  chunk.compression = PNG_TEXT_COMPRESSION_NONE;
  chunk.key = const_cast<char*>(key);  // libpng copies it
  chunk.text = text.data();
  chunk.text_length = text.size();
  return chunk;
}

void write(OutputFile& file, const WriteJob& job) {
  const ConstView image = job.frame.image.view();
  const auto channels = static_cast<std::size_t>(image.channels());
  std::string description = job.frame.metadata.description;
  std::string history = job.options.history;
  std::vector<png_text> texts;
  if (!description.empty()) texts.push_back(text_chunk("Description", description));
  if (!history.empty()) texts.push_back(text_chunk("History", history));

  Writer writer(file);
  writer.write_header(image.size(), image.channels(), job.type == SampleType::u16 ? 16 : 8,
                      job.frame.metadata.icc_profile, texts.data(), static_cast<int>(texts.size()));
  const std::size_t sample = sample_bytes(job.type);
  std::vector<std::byte> row(static_cast<std::size_t>(image.width()) * channels * sample);
  for (int y = 0; y < image.height(); ++y) {
    job.progress.throw_if_stopped();
    // A PNG has no orientation: the top of the picture comes first.
    const int source = job.frame.metadata.bottom_up ? image.height() - 1 - y : y;
    for (std::size_t channel = 0; channel < channels; ++channel) {
      encode(image.row(static_cast<int>(channel), source),
             {.type = job.type,
              .big_endian = true,
              .stride = channels,
              .scale = job.scale,
              .offset = job.offset},
             std::span(row).subspan(channel * sample));
    }
    writer.write_row(row.data());
    job.progress(static_cast<double>(y + 1) / image.height(), "writing");
  }
  writer.finish();
}

bool recognises(std::span<const std::byte> head) {
  return head.size() >= 8 && png_sig_cmp(reinterpret_cast<png_const_bytep>(head.data()), 0, 8) == 0;
}

std::unique_ptr<ImageSource> open(const std::filesystem::path& path, int image) {
  return std::make_unique<PngSource>(path, image);
}

}  // namespace

Format png_format() {
  return {.name = "png",
          .endings = {".png"},
          .writable = {SampleType::u8, SampleType::u16},
          .compressions = {Compression::none, Compression::zlib},
          .checksums = false,
          .recognises = recognises,
          .open = open,
          .write = write};
}

}  // namespace limpid::io

namespace limpid {

std::vector<std::byte> encode_png(ConstView picture) {
  std::vector<std::byte> bytes;
  io::Writer writer(bytes);
  writer.hurry();
  writer.write_header(picture.size(), picture.channels(), 8, {}, nullptr, 0);
  const auto channels = static_cast<std::size_t>(picture.channels());
  std::vector<std::byte> row(static_cast<std::size_t>(picture.width()) * channels);
  for (int y = 0; y < picture.height(); ++y) {
    for (std::size_t channel = 0; channel < channels; ++channel) {
      io::encode(picture.row(static_cast<int>(channel), y),
                 {.type = SampleType::u8, .stride = channels, .scale = 255},
                 std::span(row).subspan(channel));
    }
    writer.write_row(row.data());
  }
  writer.finish();
  return bytes;
}

}  // namespace limpid
