#include "restore/light_balance.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>
#include <vector>

#include "core/lanes.h"
#include "core/parallel.h"
#include "core/statistics.h"
#include "measure/neighbours.h"
#include "restore/geometry.h"

namespace limpid {
namespace {

constexpr float least_snr = 15;
/// Inside this radius, in FWHM, an aperture counts everything; to light_reach_fwhm it fades.
constexpr float full_reach_fwhm = 3;
/// What the network's errors are taken for, as a share of a star's light, and the most that is
/// mended: more is no error of this kind but a star that is none.
constexpr double prior_share = 0.1, most_share = 0.2;
constexpr int sweeps = 12, grid_places = 6;

/// Apertures of stars with neighbours are smaller, by one of these factors.
constexpr std::array<float, 3> scales{0.5F, 0.75F, 1.0F};
/// Stars with another of a twentieth of their light nearer than this stay as they are.
constexpr float nearest_fwhm = 2, counting_share = 0.05F;

/// `fwhm_px`: of the frame, times the scale of the aperture.
float aperture(float away, float fwhm_px) {
  return falling(away, full_reach_fwhm * fwhm_px, light_reach_fwhm * fwhm_px);
}

/// A square of pixels around a star's place.
struct Stamp {
  int x = 0, y = 0, side = 0;
  std::vector<float> values;
};

/// What a Moffat holds within a radius, of 1 in all.
double share_within(const Psf& psf, double radius_px) {
  const double a = static_cast<double>(psf.fwhm_px) /
                   (2 * std::sqrt(std::exp2(1 / static_cast<double>(psf.beta)) - 1));
  return 1 - std::pow(1 + radius_px * radius_px / (a * a), 1 - static_cast<double>(psf.beta));
}

/// A round Moffat about (x, y), sampled finely in its core; sums to 1 with what lies outside.
Stamp star_shape(float x, float y, const Psf& psf, int reach) {
  Stamp s{static_cast<int>(std::lround(x)) - reach,
          static_cast<int>(std::lround(y)) - reach,
          2 * reach + 1,
          {}};
  s.values.resize(static_cast<std::size_t>(s.side) * static_cast<std::size_t>(s.side));
  const auto beta = static_cast<double>(psf.beta);
  const double a = static_cast<double>(psf.fwhm_px) / (2 * std::sqrt(std::exp2(1 / beta) - 1)),
               scale = 1 / (a * a), core = 1.5 * static_cast<double>(psf.fwhm_px) + 1;
  const double unit = (beta - 1) * scale / std::numbers::pi;
  const auto light = [&](Lanes dx, Lanes dy) {
    return unit * exp_of(-beta * log_of(1.0 + (dx * dx + dy * dy) * scale));
  };
  constexpr Lanes steps{0, 1, 2, 3}, fine{-0.375, -0.125, 0.125, 0.375};
  for (int j = 0; j < s.side; ++j) {
    const double dy = s.y + j - static_cast<double>(y);
    float* const row = &s.values[static_cast<std::size_t>(j * s.side)];
    for (int i = 0; i < s.side; i += static_cast<int>(lane_count)) {
      const Lanes values = light(s.x + i - static_cast<double>(x) + steps, lanes_of(dy));
      for (int k = 0; k < std::min(static_cast<int>(lane_count), s.side - i); ++k)
        row[i + k] = static_cast<float>(values[k]);
    }
    for (int i = 0; i < s.side; ++i) {
      const double dx = s.x + i - static_cast<double>(x);
      if (dx * dx + dy * dy >= core * core) continue;
      Lanes sum{};
      for (std::size_t v = 0; v < lane_count; ++v) sum += light(dx + fine, lanes_of(dy + fine[v]));
      row[i] = static_cast<float>((sum[0] + sum[1] + sum[2] + sum[3]) / 16);
    }
  }
  return s;
}

/// How much of it an aperture around (x, y) holds.
double light_inside(const Stamp& shape, float x, float y, float fwhm_px) {
  double inside = 0;
  for (int j = 0; j < shape.side; ++j) {
    for (int i = 0; i < shape.side; ++i) {
      const float w = aperture(distance(x, y, shape.x + i, shape.y + j), fwhm_px);
      inside += static_cast<double>(w * shape.values[static_cast<std::size_t>(j * shape.side + i)]);
    }
  }
  return inside;
}

/// How much of the measured PSF's light an aperture of this frame holds, on a grid of places.
class ShareInside {
 public:
  ShareInside(const RestoredPart& known, const PsfField& field, float fwhm_px, int reach,
              int threads)
      : size_(known.before.size()),
        channels_(known.before.channels()),
        shares_(scales.size() * static_cast<std::size_t>(grid_places * grid_places * channels_)) {
    parallel_for(grid_places * grid_places, threads, [&](int place) {
      const float x = at(place % grid_places, size_.width),
                  y = at(place / grid_places, size_.height);
      for (int c = 0; c < channels_; ++c) {
        const int side = 2 * (reach + 8);
        const Image drawn = field.kernel(x, y, c, side);
        const ConstView kernel = drawn.view();
        const double all = share_within(field.at(x, y, c), 0.56 * side);
        for (std::size_t scale = 0; scale < scales.size(); ++scale) {
          double inside = 0;
          for (int j = 0; j < side; ++j) {
            for (int i = 0; i < side; ++i) {
              const float away = distance(0, 0, i - side / 2, j - side / 2);
              inside +=
                  static_cast<double>(kernel(0, j, i) * aperture(away, fwhm_px * scales[scale]));
            }
          }
          shares_[index(scale, place, c)] = all * inside;
        }
      }
    });
  }
  [[nodiscard]] double operator()(std::size_t scale, float x, float y, int channel) const {
    const int i = cell(x, size_.width), j = cell(y, size_.height);
    return shares_[index(scale, j * grid_places + i, channel)];
  }

 private:
  [[nodiscard]] std::size_t index(std::size_t scale, int place, int channel) const {
    return scale * static_cast<std::size_t>(grid_places * grid_places * channels_) +
           static_cast<std::size_t>(place * channels_ + channel);
  }
  static float at(int cell, int length) {
    return (static_cast<float>(cell) + 0.5F) / grid_places * static_cast<float>(length);
  }
  static int cell(float x, int length) {
    return std::clamp(static_cast<int>(x * grid_places / static_cast<float>(length)), 0,
                      grid_places - 1);
  }
  Size size_;
  int channels_;
  std::vector<double> shares_;
};

/// One star and what its aperture says, per channel.
struct Account {
  const Star* star = nullptr;
  std::size_t scale = 0;           ///< of its aperture
  Stamp shape, recorded;           ///< of the PSF wanted and, roughly, of that which was recorded
  double own = 0;                  ///< share of the wanted PSF's light inside the aperture
  std::array<double, 3> inside{};  ///< the same of the measured PSF
  /// In the smallest aperture, where nebulae count least; of the star itself.
  std::array<double, 3> seen{}, light{};
  std::array<double, 3> gained{}, error{}, given{};
  struct Neighbour {
    std::size_t index;
    double wanted, recorded;  ///< what of its light falls into this aperture
    double seen;              ///< and into the smallest
  };
  std::vector<Neighbour> neighbours;
};

/// Which aperture a star has beside its neighbours; nothing where they are too near.
std::optional<std::size_t> aperture_of(const Star& star, const Neighbourhood& neighbourhood,
                                       float fwhm_px) {
  float nearest = 1e9F;
  for (const Star* other : neighbourhood.around(star)) {
    if (other->flux >= counting_share * star.flux)
      nearest = std::min(nearest, std::hypot(other->x - star.x, other->y - star.y));
  }
  if (nearest < nearest_fwhm * fwhm_px) return std::nullopt;
  std::size_t scale = scales.size() - 1;
  while (scale > 0 && nearest < 2 * full_reach_fwhm * scales[scale] * fwhm_px) --scale;
  return scale;
}

/// Sums over a star's aperture: of the frame over the sky around it, and of what was gained.
void open_account(Account& a, const RestoredPart& known, ConstView after, float frame_fwhm_px,
                  const ShareInside& share) {
  const Star& star = *a.star;
  const float fwhm_px = frame_fwhm_px * scales[a.scale];
  /// Of each pixel: what it weighs in the star's own aperture and in the smallest.
  struct Weight {
    float own, least;
    bool around;  ///< what tells the sky
  };
  std::vector<Weight> weight_of;
  double weights = 0, squares = 0;
  for_pixels({a.shape.x, a.shape.y, a.shape.side, a.shape.side}, [&](int x, int y) {
    const float away = distance(star, x, y);
    const Weight& w = weight_of.emplace_back(Weight{aperture(away, fwhm_px),
                                                    aperture(away, frame_fwhm_px * scales[0]),
                                                    away >= light_reach_fwhm * frame_fwhm_px});
    weights += static_cast<double>(w.least);
    squares += static_cast<double>(w.own * w.own);
  });
  for (int c = 0; c < after.channels(); ++c) {
    double sum = 0, gained = 0;
    std::vector<float> around, changes;
    auto weight = weight_of.cbegin();
    for_pixels({a.shape.x, a.shape.y, a.shape.side, a.shape.side}, [&](int x, int y) {
      const float before = known.before(c, y, x),
                  change = after(c, y - known.part.y, x - known.part.x) - before;
      if (weight->around) {
        around.push_back(before);
        changes.push_back(std::abs(change));
      }
      sum += static_cast<double>(weight->least * before);
      gained += static_cast<double>(weight->own * change);
      ++weight;
    });
    const auto channel = static_cast<std::size_t>(c);
    a.inside[channel] = share(a.scale, star.x, star.y, c);
    a.seen[channel] = (sum - weights * static_cast<double>(median_in_place(around))) /
                      share(0, star.x, star.y, c);
    a.gained[channel] = gained;
    // changes of what lies around are alike over an area of the PSF's size
    a.error[channel] = static_cast<double>(sigma_per_mad * median_in_place(changes) * fwhm_px) *
                       std::sqrt(squares);
  }
}

/// The light of each star, then what it must be given so that all apertures agree.
void settle(std::vector<Account>& accounts, int channels) {
  for (std::size_t c = 0; c < static_cast<std::size_t>(channels); ++c) {
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      for (Account& a : accounts) {
        double others = 0;
        for (const auto& n : a.neighbours) others += n.seen * accounts[n.index].light[c];
        a.light[c] = std::max(0.0, a.seen[c] - others);
      }
    }
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      for (Account& a : accounts) {
        double missing = a.light[c] * (a.own - a.inside[c]) - a.gained[c];
        for (const auto& n : a.neighbours) {
          const Account& other = accounts[n.index];
          missing += other.light[c] * (n.wanted - n.recorded) - other.given[c] * n.wanted;
        }
        const double prior = prior_share * a.light[c] * a.own, most = most_share * a.light[c];
        const double trusted =
            prior > 0 ? prior * prior / (prior * prior + a.error[c] * a.error[c]) : 0;
        a.given[c] = std::clamp(trusted * missing / a.own, -most, most);
      }
    }
  }
}

/// What a star's aperture holds of each other star's light.
void find_neighbours(std::vector<Account>& accounts, Size frame, int reach, float fwhm_px,
                     int threads) {
  // squares as wide as two stars' lights meet
  const int pitch = 2 * reach, columns = frame.width / pitch + 1, rows = frame.height / pitch + 1;
  std::vector<std::vector<std::size_t>> squares(static_cast<std::size_t>(columns * rows));
  const auto square_of = [&](const Account& a) {
    return std::pair{static_cast<int>(a.star->x) / pitch, static_cast<int>(a.star->y) / pitch};
  };
  for (std::size_t i = 0; i < accounts.size(); ++i) {
    const auto [column, row] = square_of(accounts[i]);
    squares[static_cast<std::size_t>(row * columns + column)].push_back(i);
  }
  parallel_for(static_cast<int>(accounts.size()), threads, [&](int index) {
    Account& a = accounts[static_cast<std::size_t>(index)];
    const auto [column, row] = square_of(a);
    const float own_px = fwhm_px * scales[a.scale];
    for (int j = std::max(0, row - 1); j <= std::min(rows - 1, row + 1); ++j) {
      for (int i = std::max(0, column - 1); i <= std::min(columns - 1, column + 1); ++i) {
        for (const std::size_t other : squares[static_cast<std::size_t>(j * columns + i)]) {
          if (other == static_cast<std::size_t>(index)) continue;
          const Account::Neighbour found{
              other, light_inside(accounts[other].shape, a.star->x, a.star->y, own_px),
              light_inside(accounts[other].recorded, a.star->x, a.star->y, own_px),
              light_inside(accounts[other].recorded, a.star->x, a.star->y, fwhm_px * scales[0])};
          if (found.recorded > 1e-3) a.neighbours.push_back(found);
        }
      }
    }
  });
}

}  // namespace

BalancedLight balance_light(const RestoredPart& known, const PsfField& field,
                            const std::function<Psf(float x, float y)>& wanted, MutableView after) {
  const Size frame = known.before.size();
  const Psf typical =
      field.mean_at(static_cast<float>(frame.width) / 2, static_cast<float>(frame.height) / 2);
  if (typical.beta < least_beta) return {};
  const float fwhm_px = typical.fwhm_px;
  const int reach = static_cast<int>(std::ceil(light_reach_fwhm * fwhm_px)) + 1;
  const Neighbourhood neighbourhood(known.catalogue, std::max(16, 2 * reach), known.part);
  std::vector<Account> accounts;
  for (const Star& star : known.catalogue.stars) {
    const int x = static_cast<int>(std::lround(star.x)) - known.part.x,
              y = static_cast<int>(std::lround(star.y)) - known.part.y;
    if (star.saturated || star.artefact || star.on_edge || star.snr < least_snr || x < reach ||
        y < reach || x + reach >= known.part.width || y + reach >= known.part.height)
      continue;
    // a star that was put back as recorded has its light
    if (after(0, y, x) == known.before(0, y + known.part.y, x + known.part.x)) continue;
    const auto scale = aperture_of(star, neighbourhood, fwhm_px);
    if (!scale) continue;
    Account& account = accounts.emplace_back();
    account.star = &star;
    account.scale = *scale;
  }
  const ShareInside share(known, field, fwhm_px, reach, known.threads);
  parallel_for(static_cast<int>(accounts.size()), known.threads, [&](int index) {
    Account& a = accounts[static_cast<std::size_t>(index)];
    a.shape = star_shape(a.star->x, a.star->y, wanted(a.star->x, a.star->y), reach);
    a.recorded = star_shape(a.star->x, a.star->y, field.mean_at(a.star->x, a.star->y), reach);
    a.own = light_inside(a.shape, a.star->x, a.star->y, fwhm_px * scales[a.scale]);
    open_account(a, known, after, fwhm_px, share);
  });
  find_neighbours(accounts, frame, reach, fwhm_px, known.threads);
  settle(accounts, after.channels());

  BalancedLight result;
  std::vector<float> shares;
  for (const Account& a : accounts) {
    double given = 0, light = 0;
    for (int c = 0; c < after.channels(); ++c) {
      const auto amount = static_cast<float>(a.given[static_cast<std::size_t>(c)]);
      given += a.given[static_cast<std::size_t>(c)];
      light += a.light[static_cast<std::size_t>(c)];
      for (int j = 0; j < a.shape.side; ++j) {
        const auto row = after.row(c, a.shape.y + j - known.part.y);
        const float* shape = &a.shape.values[static_cast<std::size_t>(j * a.shape.side)];
        for (int i = 0; i < a.shape.side; ++i)
          row[static_cast<std::size_t>(a.shape.x + i - known.part.x)] += amount * shape[i];
      }
    }
    if (light > 0) shares.push_back(static_cast<float>(given / light));
  }
  result.stars = static_cast<int>(shares.size());
  if (shares.empty()) return result;
  result.median = median(shares);
  result.scatter = (quantile(shares, 0.84) - quantile(shares, 0.16)) / 2;
  return result;
}

}  // namespace limpid
