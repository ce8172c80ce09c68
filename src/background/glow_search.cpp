// Where lights beyond the frame's edge may be: many guesses, of which the best are polished.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>
#include <utility>

#include "background/sky_terms.h"
#include "core/parallel.h"

namespace limpid::background {
namespace {

constexpr int directions = 16;
constexpr double walker = 2.5;

/// At the frame's edge times `beyond`, so that every fourth odd direction is near a corner.
Glow glow_towards(const Cells& cells, int direction, double beyond, double reach) {
  const double angle = 2 * std::numbers::pi * direction / directions;
  const double stretch = std::max(std::abs(std::cos(angle)), std::abs(std::sin(angle)));
  return {cells.aspect_x * beyond * std::cos(angle) / stretch,
          cells.aspect_y * beyond * std::sin(angle) / stretch, reach, walker};
}

/// Of a polynomial with each of the sets of glows; the few best go on.
Fit best_of(const Cells& cells, int order, const std::vector<std::vector<Glow>>& guesses,
            int threads) {
  constexpr std::ptrdiff_t go_on = 5;
  std::vector<Fit> fits(guesses.size());
  parallel_for(static_cast<int>(guesses.size()), threads, [&](int i) {
    const auto at = static_cast<std::size_t>(i);
    fits[at] = fit_shape(cells, {order, guesses[at]});
  });
  std::ranges::stable_sort(fits, {}, &Fit::score);
  fits.erase(fits.begin() + std::min(go_on, std::ssize(fits)), fits.end());
  parallel_for(static_cast<int>(fits.size()), threads, [&](int i) {
    Fit& fit = fits[static_cast<std::size_t>(i)];
    // wide at first, or the steepest part of a glow is taken for an object
    fit = polish(cells, polish(cells, std::move(fit), 4 * tolerance_sigma));
  });
  return std::move(*std::ranges::min_element(fits, {}, &Fit::score));
}

}  // namespace

Fit find_one_glow(const Cells& cells, const std::vector<Glow>& known, int threads) {
  std::vector<std::vector<Glow>> guesses;
  for (int direction = 0; direction < directions; ++direction) {
    for (const double beyond : {1.0, 1.6}) {
      for (const double reach : {0.5, 0.8, 1.6}) {
        guesses.push_back({glow_towards(cells, direction, beyond, reach)});
      }
    }
  }
  for (const Glow& glow : known) guesses.push_back({glow});
  return best_of(cells, 1, guesses, threads);
}

Fit find_two_glows(const Cells& cells, const Fit& one, const std::vector<Glow>& known,
                   int threads) {
  constexpr double beyond = 1.25, reach = 0.6;
  std::vector<std::vector<Glow>> guesses;
  for (int first = 0; first < directions; first += 2) {
    const Glow glow = glow_towards(cells, first, beyond, reach);
    for (int second = 0; second < first; second += 2) {
      guesses.push_back({glow, glow_towards(cells, second, beyond, reach)});
    }
    if (!one.shape.glows.empty()) guesses.push_back({one.shape.glows.front(), glow});
  }
  if (known.size() == 2) guesses.push_back(known);
  // objects attract the pairs beside a plane to other places than those beside a parabola
  Fit bent = best_of(cells, 2, guesses, threads);
  Fit plain = polish(cells, fit_shape(cells, {2, best_of(cells, 1, guesses, threads).shape.glows}));
  return bent.score < plain.score ? std::move(bent) : std::move(plain);
}

}  // namespace limpid::background
