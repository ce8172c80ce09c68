// Planar float pixels: who owns them and how to look at them.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <type_traits>

namespace limpid {

struct Size {
  int width = 0, height = 0;
  bool operator==(const Size&) const = default;
  [[nodiscard]] std::size_t pixels() const {
    return static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
  }
};

/// Half-open: covers x .. x + width - 1. May reach outside a frame.
struct Rect {
  int x = 0, y = 0, width = 0, height = 0;
  bool operator==(const Rect&) const = default;
  [[nodiscard]] Size size() const { return {width, height}; }
};

/// The part that both rectangles share; empty (zero width or height) when they do not meet.
Rect intersect(Rect a, Rect b);

/// A window onto planar pixels owned by someone else, shape (channels, height, width). Cheap to
/// copy, like std::span. Pixel (0, 0) has its centre at (0.0, 0.0); y runs along stored rows.
template <typename T>
class ImageView {
 public:
  ImageView() = default;
  ImageView(T* data, int channels, Size size, std::ptrdiff_t row_stride,
            std::ptrdiff_t channel_stride)
      : data_(data), channels_(channels), size_(size), row_stride_(row_stride),
        channel_stride_(channel_stride) {}
  /// A mutable view is also a view of constants.
  template <typename U>
    requires(std::is_const_v<T> && std::is_same_v<const U, T>)
  ImageView(ImageView<U> other)  // NOLINT(google-explicit-constructor): like std::span
      : ImageView(other.data(), other.channels(), other.size(), other.row_stride(),
                  other.channel_stride()) {}

  [[nodiscard]] int channels() const { return channels_; }
  [[nodiscard]] int width() const { return size_.width; }
  [[nodiscard]] int height() const { return size_.height; }
  [[nodiscard]] Size size() const { return size_; }
  [[nodiscard]] bool empty() const { return channels_ == 0 || size_.pixels() == 0; }
  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::ptrdiff_t row_stride() const { return row_stride_; }
  [[nodiscard]] std::ptrdiff_t channel_stride() const { return channel_stride_; }

  /// One row of one channel, for hot loops.
  [[nodiscard]] std::span<T> row(int channel, int y) const {
    assert(channel >= 0 && channel < channels_ && y >= 0 && y < size_.height);
    return {data_ + channel * channel_stride_ + y * row_stride_,
            static_cast<std::size_t>(size_.width)};
  }
  T& operator()(int channel, int y, int x) const {
    assert(x >= 0 && x < size_.width);
    return row(channel, y)[static_cast<std::size_t>(x)];
  }
  /// `rect` must lie inside the view.
  [[nodiscard]] ImageView crop(Rect rect) const {
    assert(rect.x >= 0 && rect.y >= 0 && rect.x + rect.width <= size_.width &&
           rect.y + rect.height <= size_.height);
    return {data_ + rect.y * row_stride_ + rect.x, channels_, rect.size(), row_stride_,
            channel_stride_};
  }
  /// One channel as a view with one channel.
  [[nodiscard]] ImageView channel(int index) const {
    assert(index >= 0 && index < channels_);
    return {data_ + index * channel_stride_, 1, size_, row_stride_, channel_stride_};
  }

 private:
  T* data_ = nullptr;
  int channels_ = 0;
  Size size_;
  std::ptrdiff_t row_stride_ = 0, channel_stride_ = 0;
};
using ConstView = ImageView<const float>;
using MutableView = ImageView<float>;

/// Owns linear float32 pixels, shape (channels, height, width), rows packed. Moves; copies only by
/// clone(). NaN means "no data".
class Image {
 public:
  Image() = default;
  /// Pixels start at `fill`. Throws Error(exhausted) when the memory cannot be had.
  Image(int channels, Size size, float fill = 0.0F);
  /// Pixels are not set: for those who set each of them next.
  static Image unset(int channels, Size size);

  [[nodiscard]] int channels() const { return channels_; }
  [[nodiscard]] Size size() const { return size_; }
  [[nodiscard]] int width() const { return size_.width; }
  [[nodiscard]] int height() const { return size_.height; }
  [[nodiscard]] bool empty() const { return channels_ == 0 || size_.pixels() == 0; }
  [[nodiscard]] ConstView view() const {
    return {pixels_.get(), channels_, size_, size_.width,
            static_cast<std::ptrdiff_t>(size_.pixels())};
  }
  [[nodiscard]] MutableView view() {
    return {pixels_.get(), channels_, size_, size_.width,
            static_cast<std::ptrdiff_t>(size_.pixels())};
  }
  [[nodiscard]] Image clone() const;
  /// All pixels in storage order.
  [[nodiscard]] std::span<const float> pixels() const {
    return {pixels_.get(), size_.pixels() * static_cast<std::size_t>(channels_)};
  }
  [[nodiscard]] std::span<float> pixels() {
    return {pixels_.get(), size_.pixels() * static_cast<std::size_t>(channels_)};
  }

 private:
  struct Free {
    void operator()(float* pixels) const { std::free(pixels); }
  };
  int channels_ = 0;
  Size size_;
  std::unique_ptr<float[], Free> pixels_;
};

/// A packed copy of what the view shows.
Image copy(ConstView view);
/// The pixels of `rect`; where it reaches outside the frame the frame is mirrored at its edge
/// (without repeating the edge pixel), again and again if need be.
Image extract_mirrored(ConstView frame, Rect rect);

}  // namespace limpid
