// Unpacked samples that lie in a file or in memory one after the other, and are written so.
#pragma once

#include "format.h"

namespace limpid::io {

struct RawPixels {
  Size size;
  int channels = 1;          ///< stored; a view with fewer gets the first ones
  bool interleaved = false;  ///< channel by channel within a pixel, not plane by plane
  std::uint64_t start = 0;   ///< byte of the first sample
  Decoding decoding;         ///< its stride is found here

  [[nodiscard]] std::uint64_t bytes() const {
    return size.pixels() * static_cast<std::uint64_t>(channels) * sample_bytes(decoding.type);
  }
  /// The samples of `rect`, reading little more than them.
  void read(const InputFile& file, Rect rect, MutableView out) const;

 private:
  void read_interleaved(const InputFile& file, Rect rect, MutableView out) const;
  void read_planar(const InputFile& file, Rect rect, MutableView out) const;
};

/// Appends the samples of the job's frame, plane by plane, a little at a time.
void write_samples(OutputFile& file, const WriteJob& job, const Encoding& encoding);

}  // namespace limpid::io
