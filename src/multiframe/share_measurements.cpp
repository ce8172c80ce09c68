#include "multiframe/share_measurements.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>

namespace limpid::multiframe {
namespace {

/// Numbers in the order in which Reader takes them out. Hosts can only sum floats; counts and pixel
/// coordinates stay far below 2^24, up to which floats are exact.
class Writer {
 public:
  void add(float value) { values_.push_back(value); }
  void add(int value) { add(static_cast<float>(value)); }
  template <typename Range>
  void add_all(const Range& range) {
    add(static_cast<int>(range.size()));
    for (const auto value : range) add(static_cast<float>(value));
  }
  std::vector<float> take() { return std::move(values_); }

 private:
  std::vector<float> values_;
};

class Reader {
 public:
  explicit Reader(std::span<const float> values) : values_(values) {}
  float next() {
    const float value = values_.front();
    values_ = values_.subspan(1);
    return value;
  }
  int next_count() { return static_cast<int>(next()); }
  template <typename T>
  std::vector<T> all() {
    std::vector<T> list;
    for (int left = next_count(); left > 0; --left) list.push_back(static_cast<T>(next()));
    return list;
  }

 private:
  std::span<const float> values_;
};

void add(Writer& out, const Thumbnail& thumbnail) {
  out.add(thumbnail.width);
  out.add(thumbnail.height);
  out.add_all(thumbnail.cells);
}
Thumbnail next_thumbnail(Reader& in) {
  Thumbnail thumbnail;
  thumbnail.width = in.next_count();
  thumbnail.height = in.next_count();
  thumbnail.cells = in.all<float>();
  return thumbnail;
}

std::vector<float> pack(const Measured& m) {
  Writer out;
  out.add_all(m.fault);
  out.add(m.stars);
  for (const float value : {m.fwhm_px, m.ellipticity, m.beta, m.wing_weight, m.widest_px})
    out.add(value);
  out.add(m.member.index);
  out.add_all(m.member.sky);
  out.add_all(m.member.sigma);
  out.add_all(m.member.scale);
  out.add(m.member.saturation ? 1 : 0);
  out.add(m.member.saturation.value_or(0));
  out.add(static_cast<int>(m.member.coverage.size()));
  for (const Coverage& coverage : m.member.coverage) out.add_all(coverage.edges());
  for (const auto& cells : m.member.cells) out.add_all(cells);
  add(out, m.thumbnail);
  out.add(static_cast<int>(m.light.size()));
  for (const Thumbnail& thumbnail : m.light) add(out, thumbnail);
  out.add_all(m.digest);
  out.add(static_cast<int>(m.points.size()));
  for (const Point& point : m.points) {
    out.add(point.x);
    out.add(point.y);
    out.add(point.clean ? 1 : 0);
    out.add_all(point.flux);
  }
  return out.take();
}

Measured unpack(std::span<const float> values, Size size) {
  Reader in(values);
  Measured m;
  for (const int letter : in.all<int>()) m.fault.push_back(static_cast<char>(letter));
  m.stars = in.next_count();
  for (float* value : {&m.fwhm_px, &m.ellipticity, &m.beta, &m.wing_weight, &m.widest_px})
    *value = in.next();
  m.member.index = in.next_count();
  m.member.sky = in.all<float>();
  m.member.sigma = in.all<float>();
  m.member.scale = in.all<float>();
  const bool saturated = in.next() != 0;
  const float saturation = in.next();
  if (saturated) m.member.saturation = saturation;
  const int channels = in.next_count();
  for (int c = 0; c < channels; ++c) m.member.coverage.emplace_back(size, in.all<int>());
  for (int c = 0; c < channels; ++c) m.member.cells.push_back(in.all<float>());
  m.thumbnail = next_thumbnail(in);
  for (int left = in.next_count(); left > 0; --left) m.light.push_back(next_thumbnail(in));
  std::ranges::copy(in.all<int>(), m.digest.begin());
  for (int left = in.next_count(); left > 0; --left) {
    Point& point = m.points.emplace_back();
    point.x = in.next();
    point.y = in.next();
    point.clean = in.next() != 0;
    point.flux = in.all<float>();
  }
  return m;
}

}  // namespace

void share_measurements(std::vector<Measured>& measured, Size size, const Hosts& hosts) {
  if (hosts.count == 1) return;
  std::vector<std::vector<float>> packed(measured.size());
  std::vector<float> lengths(measured.size());
  for (std::size_t i = 0; i < measured.size(); ++i) {
    if (!hosts.owns(static_cast<int>(i))) continue;
    packed[i] = pack(measured[i]);
    lengths[i] = static_cast<float>(packed[i].size());
  }
  hosts.sum(lengths);
  for (std::size_t i = 0; i < measured.size(); ++i) {
    packed[i].resize(static_cast<std::size_t>(lengths[i]));
    hosts.sum(packed[i]);
    if (!hosts.owns(static_cast<int>(i))) measured[i] = unpack(packed[i], size);
  }
}

}  // namespace limpid::multiframe
