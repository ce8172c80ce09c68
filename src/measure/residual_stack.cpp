#include "measure/residual_stack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include <Eigen/Dense>

#include "core/box_mean.h"
#include "core/lanes.h"
#include "core/parallel.h"
#include "measure/moffat.h"
#include "measure/neighbours.h"

namespace limpid {
namespace {

/// Stars are found again with what the stack before told.
constexpr int more_rounds = 2;

/// How far a sample is off a plane; without one, off nothing.
double miss_of(const Sample& s, const std::vector<float>& plane, int side) {
  const auto value = static_cast<double>(s.value);
  if (plane.empty()) return value;
  return value -
         interpolate(plane, side, static_cast<double>(s.column), static_cast<double>(s.row));
}

/// Accumulates weighted normal equations, cell by cell, and solves them.
class Grid {
 public:
  Grid(int side, int terms)
      : side_(side),
        terms_(terms),
        lanes_((static_cast<std::size_t>(terms + terms * (terms + 1) / 2) + lane_count - 1) /
               lane_count),
        sums_(cell_of(0, side, side) * lanes_),
        priors_(cell_of(0, side, side)) {}
  /// Samples that miss `clip_against` by far are left out; nullptr: none are.
  void add(const StarSamples& star, const Planes* clip_against) {
    add_times(star, clip_against, 1, 0);
  }
  /// Of stars that were added, those samples go out again that miss `clip_against` by far: a
  /// fraction of the time that it takes to add the others. Begins with forget_priors().
  void clip(const StarSamples& star, const Planes& clip_against) {
    add_times(star, &clip_against, 0, -1);
  }
  void forget_priors() { std::ranges::fill(priors_, 0.0F); }
  /// Coefficients, one plane per term.
  [[nodiscard]] Planes solve(double prior_weight = 1) const {
    Planes planes(static_cast<std::size_t>(terms_), std::vector<float>(priors_.size()));
    Eigen::MatrixXd normal(terms_, terms_);
    Eigen::VectorXd right(terms_);
    for (std::size_t cell = 0; cell < priors_.size(); ++cell) {
      std::size_t place = 0;
      const auto next = [&] {
        const double sum = sums_[cell * lanes_ + place / lane_count][place % lane_count];
        ++place;
        return sum;
      };
      for (int a = 0; a < terms_; ++a) right[a] = next();
      for (int a = 0; a < terms_; ++a) {
        for (int b = a; b < terms_; ++b) normal(a, b) = normal(b, a) = next();
      }
      const double prior = prior_of(cell);
      if (normal(0, 0) <= 0 || prior <= 0) continue;
      for (int a = 0; a < terms_; ++a) normal(a, a) += prior_weight / (prior * prior);
      const Eigen::VectorXd solution = normal.ldlt().solve(right);
      for (int a = 0; a < terms_; ++a)
        planes[static_cast<std::size_t>(a)][cell] = static_cast<float>(solution[a]);
    }
    return planes;
  }

 private:
  /// Samples count so many times, those that miss `clip_against` by far another number of times.
  void add_times(const StarSamples& star, const Planes* clip_against, double times,
                 double times_far_off) {
    // right sides, which are times the sample's value, and matrices, one behind the other
    std::vector<Lanes> right(lanes_), matrix(lanes_), own(lanes_);
    int place = 0;
    const auto put = [&](std::vector<Lanes>& to, double value) {
      to[static_cast<std::size_t>(place) / lane_count][place % static_cast<int>(lane_count)] =
          value;
      ++place;
    };
    for (int a = 0; a < terms_; ++a) put(right, star.terms[a]);
    for (int a = 0; a < terms_; ++a) {
      for (int b = a; b < terms_; ++b) put(matrix, star.terms[a] * star.terms[b]);
    }
    const auto plane =
        clip_against != nullptr ? plane_at(*clip_against, star.terms) : std::vector<float>();
    for (const Sample& s : star.samples) {
      bool far_off = false;
      if (clip_against != nullptr) {
        const double miss = miss_of(s, plane, side_);
        far_off = miss * miss > 25 * static_cast<double>(s.variance + s.prior * s.prior);
      }
      const double count = far_off ? times_far_off : times;
      const int column = static_cast<int>(s.column), row = static_cast<int>(s.row);
      const std::size_t corner = cell_of(column, row, side_);
      if (!far_off) priors_[corner] = std::max(priors_[corner], s.prior);
      if (count == 0) continue;
      for (std::size_t i = 0; i < lanes_; ++i)
        own[i] = matrix[i] + static_cast<double>(s.value) * right[i];
      const double weight = count / static_cast<double>(s.variance),
                   fx = static_cast<double>(s.column) - column,
                   fy = static_cast<double>(s.row) - row;
      const auto share_out = [&](std::size_t cell, double share) {
        Lanes* sum = &sums_[cell * lanes_];
        for (std::size_t i = 0; i < lanes_; ++i) sum[i] += share * own[i];
      };
      const auto below = corner + static_cast<std::size_t>(side_);
      share_out(corner, weight * (1 - fx) * (1 - fy));
      share_out(corner + 1, weight * fx * (1 - fy));
      share_out(below, weight * (1 - fx) * fy);
      share_out(below + 1, weight * fx * fy);
    }
  }
  /// Largest of the samples that a cell has a share of.
  [[nodiscard]] double prior_of(std::size_t cell) const {
    const auto side = static_cast<std::size_t>(side_);
    float prior = priors_[cell];
    if (cell >= 1) prior = std::max(prior, priors_[cell - 1]);
    if (cell >= side) prior = std::max(prior, priors_[cell - side]);
    if (cell > side) prior = std::max(prior, priors_[cell - side - 1]);
    return static_cast<double>(prior);
  }

  int side_, terms_;
  std::size_t lanes_;          ///< of a cell
  std::vector<Lanes> sums_;    ///< weighted right sides and matrices
  std::vector<float> priors_;  ///< largest of the samples whose first cell it is
};

/// Star `i` is left out of a trial fit, and judges it.
bool is_left_out(std::size_t i) { return i % 4 == 0; }

/// A second pass leaves out what the first cannot explain. `trial`: without the stars left out.
Planes fit_order(const std::vector<StarSamples>& stars, int side, int order, bool trial) {
  Grid grid(side, term_count(order));
  const auto each = [&](const auto& work) {
    for (std::size_t i = 0; i < stars.size(); ++i) {
      if (!trial || !is_left_out(i)) work(stars[i]);
    }
  };
  each([&](const StarSamples& star) { grid.add(star, nullptr); });
  const Planes planes = grid.solve();
  grid.forget_priors();
  each([&](const StarSamples& star) { grid.clip(star, planes); });
  return grid.solve();
}

/// What both halves of the stars show is the PSF's; what one of them shows is noise, a nebula's or
/// a neighbour's. Around each cell the share of the planes' squares that the halves have in common
/// stays: Wiener's filter, the signal told by the halves.
void keep_what_halves_share(Planes& planes, const std::vector<StarSamples>& stars, int side,
                            int order) {
  constexpr int half_window = 12;  // cells
  std::array<Planes, 2> halves;
  for (std::size_t half = 0; half < 2; ++half) {
    Grid grid(side, term_count(order));
    for (std::size_t i = half; i < stars.size(); i += 2) grid.add(stars[i], &planes);
    // a weight of the prior by which half the stars are held back as all of them are
    halves[half] = grid.solve(0.5);
  }
  Image common = Image::unset(1, {side, side}), all = Image::unset(1, {side, side});
  for (std::size_t a = 0; a < planes.size(); ++a) {
    for (std::size_t i = 0; i < planes[a].size(); ++i) {
      common.pixels()[i] = halves[0][a][i] * halves[1][a][i];
      all.pixels()[i] = planes[a][i] * planes[a][i];
    }
    const Image signal = box_mean(common.view(), half_window),
                power = box_mean(all.view(), half_window);
    for (std::size_t i = 0; i < planes[a].size(); ++i) {
      planes[a][i] *= power.pixels()[i] > 0
                          ? std::clamp(signal.pixels()[i] / power.pixels()[i], 0.0F, 1.0F)
                          : 0.0F;
    }
  }
}

/// Sum of the clipped squares of what the planes leave in the stars left out, in units of their
/// noise.
double left_over(const std::vector<StarSamples>& stars, int side, const Planes& planes) {
  double sum = 0;
  for (std::size_t i = 0; i < stars.size(); ++i) {
    if (!is_left_out(i)) continue;
    const auto plane = plane_at(planes, stars[i].terms);
    for (const Sample& s : stars[i].samples) {
      const double miss = miss_of(s, plane, side);
      sum += std::min(miss * miss / static_cast<double>(s.variance), 25.0);
    }
  }
  return sum;
}

/// How far each cell is from the middle.
std::vector<double> distances_px(int side) {
  const double centre = (side - 1) / 2.0;
  std::vector<double> away;
  away.reserve(cell_of(0, side, side));
  for (int row = 0; row < side; ++row) {
    for (int column = 0; column < side; ++column)
      away.push_back(std::hypot(column - centre, row - centre) / oversampling);
  }
  return away;
}

/// Takes the level at its end from a residual. Where samples are averaged, faint stars and knots of
/// nebulae that were not detected count; in the median that is the level about a star they do not.
/// Over the area of the whole stack that difference is some per cent of a star's light.
void end_at_zero(Planes& planes, int reach) {
  const auto away = distances_px(grid_side(reach));
  for (auto& plane : planes) {
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < plane.size(); ++i) {
      if (away[i] < outermost_share * reach || away[i] > reach) continue;
      sum += static_cast<double>(plane[i]);
      count += 1;
    }
    const auto level = static_cast<float>(sum / count);
    for (float& cell : plane) cell -= level;
  }
}

/// What stars of all channels show beside the Moffat and the planes that are now known.
void sample(std::vector<StackedChannel>& channels, int threads) {
  std::vector<std::pair<StackedChannel*, std::size_t>> all;
  for (StackedChannel& channel : channels) {
    channel.samples.assign(channel.found.size(), {});
    for (std::size_t i = 0; i < channel.found.size(); ++i) all.emplace_back(&channel, i);
  }
  parallel_for(static_cast<int>(all.size()), threads, [&](int i) {
    const auto [channel, star] = all[static_cast<std::size_t>(i)];
    channel->samples[star] = channel->found[star].samples(channel->planes);
  });
  for (StackedChannel& channel : channels)
    std::erase_if(channel.samples, [](const StarSamples& s) { return s.samples.empty(); });
}

/// The order with which stars left out are predicted best; -1 where none does better than nothing.
void choose_orders(std::vector<StackedChannel>& channels, int side, int threads) {
  constexpr std::size_t fewest_linear = 24, fewest_quadratic = 80;
  // without an order first, what is left over when nothing is taken from the stars
  constexpr std::size_t trials = highest_order + 2;
  const auto highest_for = [](std::size_t count) {
    return count < fewest_stacked     ? -1
           : count < fewest_linear    ? 0
           : count < fewest_quadratic ? 1
                                      : highest_order;
  };
  std::vector<std::array<double, trials>> left(channels.size());
  parallel_for(static_cast<int>(channels.size() * trials), threads, [&](int i) {
    // those that take longest first
    const std::size_t c = static_cast<std::size_t>(i) % channels.size(),
                      trial = trials - 1 - static_cast<std::size_t>(i) / channels.size();
    const auto& stars = channels[c].samples;
    const int order = static_cast<int>(trial) - 1;
    if (order <= highest_for(stars.size())) {
      left[c][trial] =
          left_over(stars, side, order < 0 ? Planes() : fit_order(stars, side, order, true));
    }
  });
  for (std::size_t c = 0; c < channels.size(); ++c) {
    double best = left[c][0];
    for (int order = 0; order <= highest_for(channels[c].samples.size()); ++order) {
      const double own = left[c][static_cast<std::size_t>(order) + 1];
      if (own >= 0.999 * best) continue;
      best = own;
      channels[c].order = order;
    }
  }
}

}  // namespace

std::vector<StackedChannel> stack_stars(ConstView frame, const StarCatalogue& catalogue,
                                        const PsfField& field,
                                        const std::vector<const Star*>& chosen, int reach,
                                        int threads) {
  const Neighbourhood neighbourhood(catalogue, 4 * reach);
  std::vector<StackedChannel> channels(static_cast<std::size_t>(frame.channels()));
  parallel_for(frame.channels(), threads, [&](int channel) {
    const auto c = static_cast<std::size_t>(channel);
    const double sigma = std::max(1e-30, static_cast<double>(catalogue.sky[c].sigma));
    for (const Star* star : chosen) {
      if (star->fits[c].psf.fwhm_px <= 0 || star->fits[c].flux <= 0) continue;
      channels[c].found.emplace_back(frame, channel, *star, neighbourhood.around(*star),
                                     field.at(star->x, star->y, channel), sigma, reach);
    }
  });
  const int side = grid_side(reach);
  const auto fit = [&] {
    parallel_for(frame.channels(), threads, [&](int channel) {
      StackedChannel& of = channels[static_cast<std::size_t>(channel)];
      if (of.order < 0) return;
      of.planes = fit_order(of.samples, side, of.order, false);
      end_at_zero(of.planes, reach);
    });
  };
  sample(channels, threads);
  choose_orders(channels, side, threads);
  fit();
  for (int round = 0; round < more_rounds; ++round) {
    sample(channels, threads);
    fit();
  }
  parallel_for(frame.channels(), threads, [&](int channel) {
    StackedChannel& of = channels[static_cast<std::size_t>(channel)];
    if (of.order >= 0) keep_what_halves_share(of.planes, of.samples, side, of.order);
  });
  return channels;
}

bool ends_in_a_tail(const std::vector<StackedChannel>& channels, int reach, const Psf& psf) {
  constexpr int sectors = 8;
  constexpr double least_of_peak = 0.005, from = 0.6, to = 0.9;
  const double peak = MoffatProfile(psf.fwhm_px, psf.e1, psf.e2, psf.beta).pixel(0, 0);
  const int side = grid_side(reach);
  const double centre = (side - 1) / 2.0;
  for (const StackedChannel& channel : channels) {
    for (const auto& [u, v] :
         {std::pair{0.0, 0.0}, {-0.8, -0.8}, {0.8, -0.8}, {-0.8, 0.8}, {0.8, 0.8}}) {
      const Eigen::VectorXd terms = polynomial_terms(u, v, term_count(highest_order));
      const auto plane = plane_at(channel.planes, terms);
      if (plane.empty()) continue;
      std::array<double, sectors> sums{}, counts{};
      for (int y = -reach; y <= reach; ++y) {
        for (int x = -reach; x <= reach; ++x) {
          const double share = std::hypot(x, y) / reach;
          if (share < from || share > to) continue;
          const double turn = 0.5 + std::atan2(y, x) / (2 * std::numbers::pi);
          const auto sector = static_cast<std::size_t>(turn * sectors) % sectors;
          sums[sector] +=
              interpolate(plane, side, centre + oversampling * x, centre + oversampling * y);
          counts[sector] += 1;
        }
      }
      for (std::size_t i = 0; i < sectors; ++i) {
        if (sums[i] > least_of_peak * peak * counts[i]) return true;
      }
    }
  }
  return false;
}

bool tells_left_out_stars(const std::vector<StackedChannel>& channels, int reach, int near_px) {
  const int side = grid_side(reach);
  const auto away = distances_px(side);
  double with = 0, without = 0;
  for (const StackedChannel& channel : channels) {
    if (channel.order < 0) continue;
    Planes planes = fit_order(channel.samples, side, channel.order, true);
    end_at_zero(planes, reach);
    with += left_over(channel.samples, side, planes);
    for (Planes::value_type& plane : planes) {
      for (std::size_t i = 0; i < plane.size(); ++i) {
        if (away[i] > near_px) plane[i] = 0;
      }
    }
    without += left_over(channel.samples, side, planes);
  }
  return with < 0.995 * without;
}

}  // namespace limpid
