#include <limpid/image.h>

#include <algorithm>
#include <limits>
#include <string>

#include <limpid/error.h>

#include "core/large_pages.h"

namespace limpid {
namespace {

/// Zeroed if `zero`; large blocks come zeroed from the system, so that this costs nothing.
float* allocate(int channels, Size size, bool zero) {
  assert(channels >= 0 && size.width >= 0 && size.height >= 0);
  const std::size_t limit = std::numeric_limits<std::ptrdiff_t>::max() / sizeof(float);
  const std::size_t planes = static_cast<std::size_t>(channels);
  void* block = nullptr;
  if (planes == 0 || size.pixels() <= limit / planes) {
    const std::size_t count = std::max<std::size_t>(1, size.pixels() * planes);
    block = zero ? std::calloc(count, sizeof(float)) : std::malloc(count * sizeof(float));
    if (block != nullptr) ask_for_large_pages(block, count * sizeof(float));
  }
  if (block != nullptr) return static_cast<float*>(block);
  throw Error(ErrorKind::exhausted, "no memory for an image of " + std::to_string(size.width) +
                                        " x " + std::to_string(size.height) + " pixels and " +
                                        std::to_string(channels) + " channels");
}

/// Position in [0, length) that mirroring at the edges gives; the edge itself is not repeated.
int mirror(int position, int length) {
  if (length == 1) return 0;
  const int period = 2 * (length - 1);
  const int wrapped = ((position % period) + period) % period;
  return wrapped < length ? wrapped : period - wrapped;
}

}  // namespace

Rect intersect(Rect a, Rect b) {
  const int x = std::max(a.x, b.x);
  const int y = std::max(a.y, b.y);
  return {x, y, std::max(0, std::min(a.x + a.width, b.x + b.width) - x),
          std::max(0, std::min(a.y + a.height, b.y + b.height) - y)};
}

Image::Image(int channels, Size size, float fill)
    : channels_(channels),
      size_(size),
      pixels_(allocate(channels, size, fill == 0)) {
  if (fill != 0) std::ranges::fill(pixels(), fill);
}

Image Image::unset(int channels, Size size) {
  Image image;
  image.channels_ = channels;
  image.size_ = size;
  image.pixels_.reset(allocate(channels, size, false));
  return image;
}

Image Image::clone() const { return copy(view()); }

Image copy(ConstView view) {
  Image out = Image::unset(view.channels(), view.size());
  for (int channel = 0; channel < view.channels(); ++channel) {
    for (int y = 0; y < view.height(); ++y) {
      std::ranges::copy(view.row(channel, y), out.view().row(channel, y).begin());
    }
  }
  return out;
}

Image extract_mirrored(ConstView frame, Rect rect) {
  assert(!frame.empty());
  Image out = Image::unset(frame.channels(), rect.size());
  const Rect inside = intersect(rect, {0, 0, frame.width(), frame.height()});
  const int first = inside.width > 0 ? inside.x - rect.x : rect.width;
  const int last = inside.width > 0 ? first + inside.width : rect.width;
  for (int channel = 0; channel < frame.channels(); ++channel) {
    for (int y = 0; y < rect.height; ++y) {
      const auto from = frame.row(channel, mirror(rect.y + y, frame.height()));
      const auto to = out.view().row(channel, y);
      const auto mirrored = [&](int x) {
        return from[static_cast<std::size_t>(mirror(rect.x + x, frame.width()))];
      };
      for (int x = 0; x < first; ++x) to[static_cast<std::size_t>(x)] = mirrored(x);
      if (first < last) {
        std::copy_n(from.begin() + inside.x, inside.width, to.begin() + first);
      }
      for (int x = last; x < rect.width; ++x) to[static_cast<std::size_t>(x)] = mirrored(x);
    }
  }
  return out;
}

}  // namespace limpid
