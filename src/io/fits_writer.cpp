// Writes FITS: header and pixels straight to the file, tile-compressed images through CFITSIO.
#include "fits.h"

#include <fitsio.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>

#include <limpid/error.h>

#include "raw_pixels.h"

namespace limpid::io {
namespace {

constexpr std::size_t block_bytes = 2880;
/// CFITSIO's word for "floats are not rounded", which its public header lacks.
constexpr float no_quantisation = 9999.0F;

/// How FITS stores a sample type: a signed type and an offset for the unsigned ones
/// (section 4.4.2.5).
struct Storage {
  SampleType type;
  int bitpix;
  double zero;
  int image_type, sample_type;  ///< CFITSIO's names for the same
};

Storage storage_of(SampleType type) {
  switch (type) {
    case SampleType::u8:
      return {SampleType::u8, 8, 0.0, BYTE_IMG, TBYTE};
    case SampleType::i16:
      return {SampleType::i16, 16, 0.0, SHORT_IMG, TSHORT};
    case SampleType::u16:
      return {SampleType::i16, 16, 32768.0, USHORT_IMG, TUSHORT};
    case SampleType::i32:
      return {SampleType::i32, 32, 0.0, LONG_IMG, TINT};
    case SampleType::u32:
      return {SampleType::i32, 32, 2147483648.0, ULONG_IMG, TUINT};
    case SampleType::i64:
      return {SampleType::i64, 64, 0.0, LONGLONG_IMG, TLONGLONG};
    case SampleType::f64:
      return {SampleType::f64, -64, 0.0, DOUBLE_IMG, TDOUBLE};
    default:
      return {SampleType::f32, -32, 0.0, FLOAT_IMG, TFLOAT};
  }
}

bool has_nan(std::span<const float> pixels) {
  return std::ranges::any_of(pixels, [](float pixel) { return std::isnan(pixel); });
}

/// The stored value for "no data" of an integer frame that has some.
std::optional<std::int64_t> blank_of(const WriteJob& job, const Storage& storage) {
  if (is_float(job.type) || !has_nan(job.frame.image.pixels())) return std::nullopt;
  return static_cast<std::int64_t>(sample_min(storage.type));
}

std::string number_card(const std::string& keyword, const std::string& value,
                        const std::string& comment) {
  return format_card({keyword, value, comment, false}).front();
}

std::string whole(double value) { return std::to_string(static_cast<std::int64_t>(value)); }

std::string header(const WriteJob& job, const Storage& storage, std::optional<std::int64_t> blank) {
  const Image& image = job.frame.image;
  std::string text = number_card("SIMPLE", "T", "file conforms to the FITS standard");
  text += number_card("BITPIX", std::to_string(storage.bitpix), "bits per sample");
  text += number_card("NAXIS", image.channels() == 3 ? "3" : "2", "number of axes");
  text += number_card("NAXIS1", std::to_string(image.width()), "width");
  text += number_card("NAXIS2", std::to_string(image.height()), "height");
  if (image.channels() == 3) text += number_card("NAXIS3", "3", "red, green, blue");
  if (storage.zero != 0.0) {
    text += number_card("BZERO", whole(storage.zero), "samples are unsigned");
    text += number_card("BSCALE", "1", "");
  }
  if (blank) text += number_card("BLANK", std::to_string(*blank), "no data");
  for (const HeaderCard& card : cards_to_write(job)) {
    for (const std::string& line : format_card(card)) text += line;
  }
  std::string end = "END";
  text += end.append(77, ' ');
  text.resize((text.size() + block_bytes - 1) / block_bytes * block_bytes, ' ');
  return text;
}

void write_plain(OutputFile& file, const WriteJob& job) {
  const Storage storage = storage_of(job.type);
  const auto blank = blank_of(job, storage);
  file.write(header(job, storage, blank));
  write_samples(file, job,
                {.type = storage.type,
                 .big_endian = true,
                 .scale = job.scale,
                 .offset = job.offset - storage.zero,
                 .blank = blank});
  file.write_zeros((block_bytes - file.position() % block_bytes) % block_bytes);
}

/// A FITS file that CFITSIO builds in memory.
class MemoryFits {
 public:
  explicit MemoryFits(const OutputFile& file) : target_(shown(file.target())) {
    int status = 0;
    check(fits_create_memfile(&fits_, &buffer_, &size_, block_bytes, std::realloc, &status));
  }
  ~MemoryFits() {
    int status = 0;
    if (fits_ != nullptr) fits_close_file(fits_, &status);
    std::free(buffer_);
    fits_clear_errmsg();
  }
  MemoryFits(const MemoryFits&) = delete;
  MemoryFits& operator=(const MemoryFits&) = delete;

  [[nodiscard]] fitsfile* get() const { return fits_; }
  void check(int status) const {
    if (status == 0) return;
    std::array<char, FLEN_STATUS> text{};
    fits_get_errstatus(status, text.data());
    throw Error(status == MEMORY_ALLOCATION ? ErrorKind::exhausted : ErrorKind::cannot_write,
                target_ + ": " + text.data());
  }
  /// All bytes of the finished file.
  std::span<const std::byte> finish() {
    int status = 0;
    check(fits_flush_file(fits_, &status));
    LONGLONG start = 0, data = 0, end = 0;
    check(fits_get_hduaddrll(fits_, &start, &data, &end, &status));
    return {static_cast<const std::byte*>(buffer_), static_cast<std::size_t>(end)};
  }

 private:
  std::string target_;
  fitsfile* fits_ = nullptr;
  void* buffer_ = nullptr;
  std::size_t size_ = 0;
};

void write_compressed(OutputFile& file, const WriteJob& job, int algorithm) {
  const Storage storage = storage_of(job.type);
  const Image& image = job.frame.image;
  MemoryFits memory(file);
  int status = 0;
  fits_set_compression_type(memory.get(), algorithm, &status);
  fits_set_quantize_level(memory.get(), no_quantisation, &status);  // floats keep every bit
  std::array<LONGLONG, 3> axes{image.width(), image.height(), image.channels()};
  fits_create_imgll(memory.get(), storage.image_type, image.channels() == 3 ? 3 : 2, axes.data(),
                    &status);
  memory.check(status);
  const auto blank = blank_of(job, storage);
  if (blank) {
    job.progress.say("compressed integer FITS has no place for pixels without data: they are 0");
  }
  for (const HeaderCard& card : cards_to_write(job)) {
    for (const std::string& line : format_card(card)) {
      memory.check(fits_write_record(memory.get(), line.c_str(), &status));
    }
  }
  const Encoding encoding{.type = job.type,
                          .big_endian = std::endian::native == std::endian::big,
                          .scale = job.scale,
                          .offset = job.offset};
  const auto width = static_cast<std::size_t>(image.width());
  std::vector<std::byte> row(width * sample_bytes(job.type));
  const std::size_t rows = image.pixels().size() / width;
  for (std::size_t y = 0; y < rows; ++y) {
    job.progress.throw_if_stopped();
    encode(image.pixels().subspan(y * width, width), encoding, row);
    fits_write_img(memory.get(), storage.sample_type, static_cast<LONGLONG>(y * width + 1),
                   static_cast<LONGLONG>(width), row.data(), &status);
    memory.check(status);
    job.progress(static_cast<double>(y + 1) / static_cast<double>(rows), "writing");
  }
  file.write(memory.finish());
}

}  // namespace

void write_fits(OutputFile& file, const WriteJob& job) {
  const std::string ending = file.target().extension().string();
  Compression compression = job.options.compression;
  if (compression == Compression::none && (ending == ".fz" || ending == ".FZ")) {
    compression = is_float(job.type) ? Compression::zlib : Compression::rice;
  }
  switch (compression) {
    case Compression::none:
      return write_plain(file, job);
    case Compression::zlib:
      return write_compressed(file, job, GZIP_2);
    default:
      break;
  }
  if (is_float(job.type) || job.type == SampleType::i64) {
    throw Error(ErrorKind::usage, shown(file.target()) +
                                      ": Rice coding is for 8, 16 and 32-bit integers; use "
                                      "--compress zlib, which keeps every bit, or --depth u16");
  }
  write_compressed(file, job, RICE_1);
}

}  // namespace limpid::io
