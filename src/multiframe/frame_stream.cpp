#include "multiframe/frame_stream.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "multiframe/measure_frame.h"

namespace limpid::multiframe {
namespace {

constexpr float no_data = std::numeric_limits<float>::quiet_NaN();

/// Pixels next to a border of no data are mixed with it by registration.
bool inside(const Coverage& coverage, int x, int y, Size size) {
  constexpr int mixed_px = 2;
  for (const int d : {-mixed_px, mixed_px}) {
    const int u = std::clamp(x + d, 0, size.width - 1), v = std::clamp(y + d, 0, size.height - 1);
    if (!coverage.covers(u, y) || !coverage.covers(x, v)) return false;
  }
  return true;
}

/// Pixels over `level`, and their neighbours, become NaN; `wide` is one pixel larger all around
/// than `image` where the frame goes on there.
void mask_cores(MutableView image, ConstView wide, Rect rect, Rect wide_rect, float level) {
  for (int c = 0; c < image.channels(); ++c) {
    for (int y = 0; y < image.height(); ++y) {
      const auto row = image.row(c, y);
      for (int x = 0; x < image.width(); ++x) {
        const Rect near =
            intersect({rect.x + x - 1 - wide_rect.x, rect.y + y - 1 - wide_rect.y, 3, 3},
                      {0, 0, wide_rect.width, wide_rect.height});
        for (int v = near.y; v < near.y + near.height; ++v) {
          for (int u = near.x; u < near.x + near.width; ++u) {
            if (wide(c, v, u) >= level) row[static_cast<std::size_t>(x)] = no_data;
          }
        }
      }
    }
  }
}

}  // namespace

FrameStream::FrameStream(std::span<const InputFrame> frames, const Survey& survey,
                         const MultiframeOptions& options)
    : frames_(frames),
      survey_(&survey),
      luma_(options.luma),
      star_masks_(options.star_masks) {}

float FrameStream::sigma(int member, int channel) const {
  const Member& m = survey_->members[static_cast<std::size_t>(member)];
  const auto c = static_cast<std::size_t>(channel);
  return m.sigma[c] / (m.scale[c] * survey_->sigma[c]);
}

void FrameStream::fill_sigma(int member, int channel, int y, std::span<float> row) const {
  const Member& m = survey_->members[static_cast<std::size_t>(member)];
  const auto c = static_cast<std::size_t>(channel);
  m.noise[c].fill_row(y, row);
  const float factor = 1 / (m.scale[c] * survey_->sigma[c]);
  const float least = 0.2F * sigma(member, channel), usual = sigma(member, channel);
  for (float& value : row) value = std::isfinite(value) ? std::max(value * factor, least) : usual;
}

Image FrameStream::load(int member, Rect rect) const { return load(member, rect, false); }
Image FrameStream::load_all(int member, Rect rect) const { return load(member, rect, true); }

Image FrameStream::load(int member, Rect rect, bool all) const {
  const Member& m = survey_->members[static_cast<std::size_t>(member)];
  try {
    return read(m, rect, all);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::bad_input && error.kind() != ErrorKind::failed) throw;
    throw FrameLost({m.index, error.what()});
  }
}

std::vector<LostFrame> FrameStream::lost_with(const LostFrame& frame) const {
  std::vector<LostFrame> lost{frame};
  for (int member = 0; member < count(); ++member) {
    if (survey_->members[static_cast<std::size_t>(member)].index == frame.index) continue;
    try {
      // files that are cut short lack their end
      for (const int y : {0, size().height - 1})
        static_cast<void>(load_all(member, {0, y, size().width, 1}));
    } catch (const FrameLost& other) {
      lost.push_back(other.frame());
    }
  }
  return lost;
}

Image FrameStream::read(const Member& m, Rect rect, bool all) const {
  const InputFrame& frame = frames_[static_cast<std::size_t>(m.index)];
  const Rect whole{0, 0, frame.size.width, frame.size.height};
  const bool cores = !all && star_masks_ && m.saturation.has_value();
  const Rect wide_rect =
      cores ? intersect({rect.x - 1, rect.y - 1, rect.width + 2, rect.height + 2}, whole) : rect;
  const Image wide = read_working(frame, wide_rect, luma_);
  Image image =
      copy(wide.view().crop({rect.x - wide_rect.x, rect.y - wide_rect.y, rect.width, rect.height}));
  // a tenth below: stacking and interpolation blur the level of the clipping
  if (cores) mask_cores(image.view(), wide.view(), rect, wide_rect, 0.9F * *m.saturation);
  Image rejected;
  if (frame.rejected) rejected = frame.rejected(rect);
  for (int c = 0; c < image.channels(); ++c) {
    const auto slot = static_cast<std::size_t>(c);
    const float sky = m.sky[slot], factor = 1 / (m.scale[slot] * survey_->sigma[slot]);
    for (int y = 0; y < image.height(); ++y) {
      const auto row = image.view().row(c, y);
      m.sky_surface[slot].add_to(row, rect.x, rect.y + y, survey_->size, -1);
      for (int x = 0; x < image.width(); ++x) {
        float& value = row[static_cast<std::size_t>(x)];
        value = (value - sky) * factor + pedestal_;
        if (!std::isfinite(value) ||
            !inside(m.coverage[slot], rect.x + x, rect.y + y, survey_->size))
          value = no_data;
      }
      if (rejected.empty()) continue;
      const auto marks = rejected.view().row(std::min(c, rejected.channels() - 1), y);
      for (std::size_t x = 0; x < row.size(); ++x) {
        if (!(marks[x] <= 0.5F)) row[x] = no_data;
      }
    }
  }
  return image;
}

void FrameStream::keep(const Hosts& hosts, int threads) {
  std::vector<Image> images(static_cast<std::size_t>(count()));
  parallel_for(count(), threads, [&](int i) {
    if (belongs_to(hosts, i))
      images[static_cast<std::size_t>(i)] = load(i, {0, 0, size().width, size().height});
  });
  kept_ = std::move(images);
}

}  // namespace limpid::multiframe
