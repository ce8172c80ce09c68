#include "restore/cores.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "core/parallel.h"
#include "core/statistics.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr float core_fwhm = 0.8F, beside_fwhm = 1.5F, least_sigma = 30;
constexpr float level_from_fwhm = 2,
                level_to_fwhm = 3;  // the ring that tells a star's surroundings
/// Of a star's light: what has more than that is brighter, what has less than this lies beside it.
constexpr float brighter_share = 1.05F, beside_share = 0.5F;
constexpr int most_open_sides = 1;  // of eight: a saddle has two
constexpr int farthest_px = 48;     // no clipped core is followed further
constexpr std::pair<int, int> directions[] = {{-1, -1}, {0, -1}, {1, -1}, {-1, 0},
                                              {1, 0},   {-1, 1}, {0, 1},  {1, 1}};

struct Pixel {
  int x, y;
};
struct Raised {
  Pixel at;
  float value;
};

/// The pixels that tell a star's surroundings.
std::vector<Pixel> ring_around(const Star& star, const RestoredPart& known) {
  const float from = level_from_fwhm * known.fwhm_px, to = level_to_fwhm * known.fwhm_px;
  std::vector<Pixel> ring;
  for_pixels(intersect(square_around(star, static_cast<int>(std::ceil(to))),
                       {0, 0, known.before.width(), known.before.height()}),
             [&](int x, int y) {
               const float away = distance(star, x, y);
               if (away >= from && away <= to) ring.push_back({x, y});
             });
  return ring;
}

/// One channel of a frame and of its result.
class Channel {
 public:
  Channel(const RestoredPart& known, ConstView after, int channel)
      : known_(known),
        after_(after),
        channel_(channel),
        clipping_(known.catalogue.saturation ? clipped_share * *known.catalogue.saturation
                                             : std::numeric_limits<float>::infinity()) {}

  /// What is too dark in a star's core. `ring`: ring_around() it.
  [[nodiscard]] std::vector<Raised> raised(const Star& star, std::span<const Pixel> ring) const {
    std::vector<Raised> result;
    const auto look = [&](Pixel at, float least) {
      if (least > restored(at)) result.push_back({at, least});
    };
    const SkyLevel& sky = known_.catalogue.sky[static_cast<std::size_t>(channel_)];
    const float core_px = core_fwhm * known_.fwhm_px, beside_px = beside_fwhm * known_.fwhm_px,
                around = level_of(ring), least = least_sigma * sky.sigma;
    for_pixels(intersect(square_around(star, static_cast<int>(std::ceil(core_px))), known_.part),
               [&](int x, int y) {
                 const float light = recorded({x, y}) - around;
                 if (clipped({x, y}) || light < least || distance(star, x, y) > core_px) return;
                 look({x, y}, enclosed({x, y}, beside_px, [&](Pixel p) {
                        const float there = recorded(p) - around;
                        return there <= brighter_share * light && there >= beside_share * light;
                      }));
               });
    if (!star.saturated) return result;
    // at least as bright as the clipping: what is not clipped lies beside it
    const float beside = sky.sky + beside_share * (clipping_ - sky.sky);
    const auto belongs = [&](Pixel p) { return recorded(p) >= beside; };
    for_pixels(intersect(square_around(star, farthest_px), known_.part), [&](int x, int y) {
      if (!clipped({x, y})) return;
      look({x, y}, std::max(std::ranges::min(sides_of({x, y}, farthest_px, belongs)),
                            enclosed({x, y}, beside_px, belongs)));
    });
    return result;
  }

 private:
  using Sides = std::array<float, std::size(directions)>;
  /// The brightest of one side that belongs to the pixel, which itself is the least.
  template <typename Belongs>
  [[nodiscard]] float side_of(Pixel at, std::size_t direction, float reach_px,
                              Belongs belongs) const {
    const auto [dx, dy] = directions[direction];
    float highest = restored(at);
    Pixel p{at.x + dx, at.y + dy};
    for (float away = 1; away <= reach_px && inside(p) && belongs(p); ++away) {
      // what the record shows more there than here, the result may show more, too
      const float more = std::max(0.0F, recorded(p) - recorded(at));
      highest = std::max(highest, restored(p) - more);
      p = {p.x + dx, p.y + dy};
    }
    return highest;
  }
  template <typename Belongs>
  [[nodiscard]] Sides sides_of(Pixel at, float reach_px, Belongs belongs) const {
    Sides highest{};
    for (std::size_t i = 0; i < highest.size(); ++i) highest[i] = side_of(at, i, reach_px, belongs);
    return highest;
  }
  /// What a pixel should have that is enclosed on all sides but one; others what they have.
  template <typename Belongs>
  [[nodiscard]] float enclosed(Pixel at, float reach_px, Belongs belongs) const {
    Sides sides{};
    int open = 0;
    for (std::size_t i = 0; i < sides.size(); ++i) {
      sides[i] = side_of(at, i, reach_px, belongs);
      if (sides[i] <= restored(at) && ++open > most_open_sides) return restored(at);
    }
    return median(sides);
  }

  [[nodiscard]] float level_of(std::span<const Pixel> ring) const {
    if (ring.empty()) return std::numeric_limits<float>::max();
    std::vector<float> light(ring.size());
    std::ranges::transform(ring, light.begin(), [&](Pixel p) { return recorded(p); });
    return median_in_place(light);
  }
  [[nodiscard]] bool inside(Pixel p) const {
    const Rect part = known_.part;
    return p.x >= part.x && p.y >= part.y && p.x < part.x + part.width &&
           p.y < part.y + part.height;
  }
  [[nodiscard]] float recorded(Pixel p) const { return known_.before(channel_, p.y, p.x); }
  [[nodiscard]] bool clipped(Pixel p) const { return recorded(p) >= clipping_; }
  [[nodiscard]] float restored(Pixel p) const {
    return after_(channel_, p.y - known_.part.y, p.x - known_.part.x);
  }

  const RestoredPart& known_;
  ConstView after_;
  int channel_;
  float clipping_;
};

}  // namespace

void fill_cores(const RestoredPart& known, MutableView after) {
  std::vector<const Star*> stars;
  for (const Star& star : known.catalogue.stars) {
    const int reach = star.saturated ? farthest_px : static_cast<int>(std::ceil(known.fwhm_px));
    if (!star.artefact && intersect(square_around(star, reach), known.part).size().pixels() > 0)
      stars.push_back(&star);
  }
  std::vector<Channel> channels;
  for (int c = 0; c < after.channels(); ++c) channels.emplace_back(known, after, c);
  std::vector<std::vector<std::vector<Raised>>> raised(stars.size());
  parallel_for(static_cast<int>(stars.size()), known.threads, [&](int i) {
    const auto index = static_cast<std::size_t>(i);
    const auto ring = ring_around(*stars[index], known);
    for (const Channel& channel : channels)
      raised[index].push_back(channel.raised(*stars[index], ring));
  });
  // cores may overlap: what one star raises, another leaves
  for (const auto& of_star : raised) {
    for (int c = 0; c < after.channels(); ++c) {
      for (const Raised& one : of_star[static_cast<std::size_t>(c)]) {
        float& value = after(c, one.at.y - known.part.y, one.at.x - known.part.x);
        value = std::max(value, one.value);
      }
    }
  }
}

}  // namespace limpid
