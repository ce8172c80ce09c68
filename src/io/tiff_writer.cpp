// Writes TIFF in contiguous strips; BigTIFF where 4 GB are not enough.
#include "tiff.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdarg>

#include <limpid/error.h>

namespace limpid::io {
namespace {

/// libtiff's view of an OutputFile. An exception must not cross libtiff: it waits in `failure`.
struct TiffOutput {
  OutputFile* file;
  std::exception_ptr failure;
  std::string message;
};

tmsize_t read_bytes(thandle_t handle, void* buffer, tmsize_t count) {
  auto& output = *static_cast<TiffOutput*>(handle);
  return static_cast<tmsize_t>(
      output.file->read({static_cast<std::byte*>(buffer), static_cast<std::size_t>(count)}));
}
tmsize_t write_bytes(thandle_t handle, void* buffer, tmsize_t count) {
  auto& output = *static_cast<TiffOutput*>(handle);
  try {
    output.file->write({static_cast<const std::byte*>(buffer), static_cast<std::size_t>(count)});
  } catch (...) {
    output.failure = std::current_exception();
    return -1;
  }
  return count;
}
toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto& output = *static_cast<TiffOutput*>(handle);
  if (whence == SEEK_CUR) offset += output.file->position();
  if (whence == SEEK_END) offset += output.file->size();
  output.file->seek(offset);
  return offset;
}
int keep_open(thandle_t) { return 0; }
toff_t size_of(thandle_t handle) { return static_cast<TiffOutput*>(handle)->file->size(); }

int keep_message(TIFF*, void* user, const char*, const char* format, va_list arguments) {
  std::array<char, 300> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  static_cast<TiffOutput*>(user)->message = text.data();
  return 1;
}
int ignore_message(TIFF*, void*, const char*, const char*, va_list) { return 1; }

TiffHandle create(TiffOutput& output, bool big) {
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, keep_message, &output);
  TIFFOpenOptionsSetWarningHandlerExtR(options, ignore_message, nullptr);
  TIFF* tiff = TIFFClientOpenExt(shown(output.file->target()).c_str(), big ? "w8m" : "wm", &output,
                                 read_bytes, write_bytes, seek, keep_open, size_of, nullptr,
                                 nullptr, options);
  TIFFOpenOptionsFree(options);
  return {tiff, TIFFClose};
}

[[noreturn]] void fail(const TiffOutput& output) {
  if (output.failure) std::rethrow_exception(output.failure);
  throw Error(ErrorKind::cannot_write,
              shown(output.file->target()) + ": " + clean_text(output.message));
}

std::uint16_t format_of(SampleType type) {
  if (is_float(type)) return SAMPLEFORMAT_IEEEFP;
  return sample_min(type) < 0.0 ? SAMPLEFORMAT_INT : SAMPLEFORMAT_UINT;
}

int compression_tag(Compression compression) {
  if (compression == Compression::zlib) return COMPRESSION_ADOBE_DEFLATE;
  return compression == Compression::zstd ? COMPRESSION_ZSTD : COMPRESSION_LZW;
}

/// The header of a FITS file, as Siril does it, so that nothing of it is lost; otherwise the text
/// that the frame came with, untouched: programs keep notes to themselves in it.
std::string description(const WriteJob& job) {
  const Metadata& metadata = job.frame.metadata;
  if (metadata.cards.empty()) return metadata.description;
  std::string text = format_card({"SIMPLE", "T", "header of a FITS file", false}).front() + "\n";
  for (const HeaderCard& card : cards_to_write(job)) {
    for (const std::string& line : format_card(card)) text += line + "\n";
  }
  return text + "END\n";
}

void set_tags(TIFF* tiff, const WriteJob& job, std::uint32_t rows_per_strip) {
  const Metadata& metadata = job.frame.metadata;
  const Image& image = job.frame.image;
  TIFFSetField(tiff, TIFFTAG_IMAGEWIDTH, image.width());
  TIFFSetField(tiff, TIFFTAG_IMAGELENGTH, image.height());
  TIFFSetField(tiff, TIFFTAG_SAMPLESPERPIXEL, image.channels());
  TIFFSetField(tiff, TIFFTAG_BITSPERSAMPLE, static_cast<int>(8 * sample_bytes(job.type)));
  TIFFSetField(tiff, TIFFTAG_SAMPLEFORMAT, static_cast<int>(format_of(job.type)));
  TIFFSetField(tiff, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
  TIFFSetField(tiff, TIFFTAG_PHOTOMETRIC,
               image.channels() == 3 ? PHOTOMETRIC_RGB : PHOTOMETRIC_MINISBLACK);
  TIFFSetField(tiff, TIFFTAG_ORIENTATION,
               metadata.bottom_up ? ORIENTATION_BOTLEFT : ORIENTATION_TOPLEFT);
  TIFFSetField(tiff, TIFFTAG_ROWSPERSTRIP, rows_per_strip);
  const std::string& history = job.options.history;
  TIFFSetField(tiff, TIFFTAG_SOFTWARE,
               history.empty() ? "limpid " LIMPID_VERSION : history.c_str());
  if (job.options.compression != Compression::none) {
    TIFFSetField(tiff, TIFFTAG_COMPRESSION, compression_tag(job.options.compression));
    TIFFSetField(tiff, TIFFTAG_PREDICTOR,
                 is_float(job.type) ? PREDICTOR_FLOATINGPOINT : PREDICTOR_HORIZONTAL);
  }
  const std::string text = description(job);
  if (!text.empty()) TIFFSetField(tiff, TIFFTAG_IMAGEDESCRIPTION, text.c_str());
  if (!metadata.icc_profile.empty()) {
    TIFFSetField(tiff, TIFFTAG_ICCPROFILE, static_cast<std::uint32_t>(metadata.icc_profile.size()),
                 metadata.icc_profile.data());
  }
}

/// Rows of the view, channel by channel within a pixel.
void encode_rows(const WriteJob& job, int first, int count, std::span<std::byte> out) {
  const ConstView image = job.frame.image.view();
  const auto channels = static_cast<std::size_t>(image.channels());
  const std::size_t sample = sample_bytes(job.type);
  const std::size_t row_bytes = static_cast<std::size_t>(image.width()) * channels * sample;
  for (int y = 0; y < count; ++y) {
    for (std::size_t channel = 0; channel < channels; ++channel) {
      encode(image.row(static_cast<int>(channel), first + y),
             {.type = job.type,
              .big_endian = std::endian::native == std::endian::big,
              .stride = channels,
              .scale = job.scale,
              .offset = job.offset},
             out.subspan(static_cast<std::size_t>(y) * row_bytes + channel * sample));
    }
  }
}

}  // namespace

void write_tiff(OutputFile& file, const WriteJob& job) {
  const Image& image = job.frame.image;
  const std::size_t row_bytes = static_cast<std::size_t>(image.width()) *
                                static_cast<std::size_t>(image.channels()) * sample_bytes(job.type);
  const std::size_t total = row_bytes * static_cast<std::size_t>(image.height());
  const int rows = static_cast<int>(std::clamp<std::size_t>(
      (std::size_t{1} << 18) / row_bytes, 1, static_cast<std::size_t>(image.height())));
  TiffOutput output{&file, nullptr, {}};
  // Offsets have 32 bits in a plain TIFF; the margin is for directory, description and profile.
  const bool big = total > (std::uint64_t{4} << 30) - (std::uint64_t{64} << 20);
  TiffHandle tiff = create(output, big);
  if (!tiff) fail(output);
  set_tags(tiff.get(), job, static_cast<std::uint32_t>(rows));
  std::vector<std::byte> strip(row_bytes * static_cast<std::size_t>(rows));
  std::uint32_t index = 0;
  for (int y = 0; y < image.height(); y += rows, ++index) {
    job.progress.throw_if_stopped();
    const int count = std::min(rows, image.height() - y);
    encode_rows(job, y, count, strip);
    const auto bytes = static_cast<tmsize_t>(row_bytes * static_cast<std::size_t>(count));
    if (TIFFWriteEncodedStrip(tiff.get(), index, strip.data(), bytes) != bytes) fail(output);
    job.progress(static_cast<double>(y + count) / image.height(), "writing");
  }
  if (TIFFFlush(tiff.get()) != 1) fail(output);
  tiff.reset();
  if (output.failure) fail(output);
}

}  // namespace limpid::io
