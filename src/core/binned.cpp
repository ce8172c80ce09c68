#include "core/binned.h"

namespace limpid {

Image binned(ConstView frame, int factor) {
  Image small(frame.channels(), {frame.width() / factor, frame.height() / factor});
  for (int c = 0; c < frame.channels(); ++c) {
    for (int y = 0; y < small.height(); ++y) {
      for (int x = 0; x < small.width(); ++x) {
        float sum = 0;
        for (int j = 0; j < factor; ++j) {
          for (int i = 0; i < factor; ++i) sum += frame(c, y * factor + j, x * factor + i);
        }
        small.view()(c, y, x) = sum / static_cast<float>(factor * factor);
      }
    }
  }
  return small;
}

}  // namespace limpid
