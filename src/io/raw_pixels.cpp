#include "raw_pixels.h"

#include <algorithm>

namespace limpid::io {

void RawPixels::read(const InputFile& file, Rect rect, MutableView out) const {
  if (interleaved && channels > 1) {
    read_interleaved(file, rect, out);
  } else {
    read_planar(file, rect, out);
  }
}

void RawPixels::read_interleaved(const InputFile& file, Rect rect, MutableView out) const {
  const std::size_t sample = sample_bytes(decoding.type);
  const std::size_t pixel = sample * static_cast<std::size_t>(channels);
  Decoding how = decoding;
  how.stride = static_cast<std::size_t>(channels);
  std::vector<std::byte> row(pixel * static_cast<std::size_t>(rect.width));
  for (int y = 0; y < rect.height; ++y) {
    const std::uint64_t first =
        static_cast<std::uint64_t>(rect.y + y) * static_cast<std::uint64_t>(size.width) +
        static_cast<std::uint64_t>(rect.x);
    file.read_at(start + first * pixel, row);
    for (int channel = 0; channel < out.channels(); ++channel) {
      decode(std::span(row).subspan(static_cast<std::size_t>(channel) * sample), how,
             out.row(channel, y));
    }
  }
}

void RawPixels::read_planar(const InputFile& file, Rect rect, MutableView out) const {
  const std::size_t sample = sample_bytes(decoding.type);
  const std::size_t width = static_cast<std::size_t>(rect.width);
  // Full rows follow each other in the file: fetch as many at once as stay in the cache.
  constexpr std::size_t chunk_bytes = std::size_t{1} << 18;
  const std::size_t rows_at_once =
      rect.width == size.width ? std::max<std::size_t>(chunk_bytes / (width * sample), 1) : 1;
  std::vector<std::byte> rows(std::min(rows_at_once, static_cast<std::size_t>(rect.height)) *
                              width * sample);
  for (int channel = 0; channel < out.channels(); ++channel) {
    for (int y = 0; y < rect.height;) {
      const int count =
          static_cast<int>(std::min(rows_at_once, static_cast<std::size_t>(rect.height - y)));
      const std::uint64_t row =
          static_cast<std::uint64_t>(channel) * static_cast<std::uint64_t>(size.height) +
          static_cast<std::uint64_t>(rect.y + y);
      const std::uint64_t first =
          row * static_cast<std::uint64_t>(size.width) + static_cast<std::uint64_t>(rect.x);
      const auto chunk = std::span(rows).first(static_cast<std::size_t>(count) * width * sample);
      file.read_at(start + first * sample, chunk);
      for (int i = 0; i < count; ++i, ++y) {
        decode(chunk.subspan(static_cast<std::size_t>(i) * width * sample), decoding,
               out.row(channel, y));
      }
    }
  }
}

void write_samples(OutputFile& file, const WriteJob& job, const Encoding& encoding) {
  constexpr std::size_t chunk_samples = std::size_t{1} << 17;  // stays in the cache
  const std::size_t bytes = sample_bytes(encoding.type);
  std::vector<std::byte> chunk(chunk_samples * bytes);
  const std::span<const float> pixels = job.frame.image.pixels();
  for (std::size_t first = 0; first < pixels.size(); first += chunk_samples) {
    job.progress.throw_if_stopped();
    const auto part = pixels.subspan(first, std::min(chunk_samples, pixels.size() - first));
    encode(part, encoding, chunk);
    file.write(std::span(chunk).first(part.size() * bytes));
    job.progress(static_cast<double>(first + part.size()) / static_cast<double>(pixels.size()),
                 "writing");
  }
}

}  // namespace limpid::io
