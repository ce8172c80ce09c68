#include "background/loss.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/parallel.h"

namespace limpid::background {
namespace {

constexpr std::size_t lanes = 8;
constexpr std::size_t tile = 16;          // vectors whose phi stays in the first-level cache
constexpr std::size_t block = 32 * tile;  // vectors per task
using Doubles = double __attribute__((vector_size(lanes * sizeof(double))));
using Vector = float __attribute__((vector_size(lanes * sizeof(float))));
using Integers = std::int32_t __attribute__((vector_size(lanes * sizeof(float))));

Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename V>
V maximum(V a, V b) {
  return a > b ? a : b;
}
Vector absolute(Vector v) { return v < 0 ? -v : v; }

template <typename To, typename From>
To as(From v) {
  return __builtin_convertvector(v, To);
}

template <typename V>
double sum(const V& v) {
  double total = 0;
  for (std::size_t i = 0; i < lanes; ++i) total += static_cast<double>(v[i]);
  return total;
}

/// Natural logarithm of positive normal numbers, relative error 2e-7: mantissa in
/// [sqrt(1/2), sqrt(2)), polynomial of Cephes' logf (Moshier 1992).
Vector logarithm(Vector value) {
  const auto bits = reinterpret_cast<Integers>(value);
  const Integers exponent = (bits - 0x3f3504f3) >> 23;
  const auto mantissa = reinterpret_cast<Vector>(bits - (exponent << 23));
  const Vector t = mantissa - 1.0F, e = __builtin_convertvector(exponent, Vector), z = t * t;
  Vector p = t * 7.0376836292e-2F - 1.1514610310e-1F;
  p = p * t + 1.1676998740e-1F;
  p = p * t - 1.2420140846e-1F;
  p = p * t + 1.4249322787e-1F;
  p = p * t - 1.6668057665e-1F;
  p = p * t + 2.0000714765e-1F;
  p = p * t - 2.4999993993e-1F;
  p = p * t + 3.3333331174e-1F;
  // ln 2 in two parts, the first exact in single precision
  return (p * t * z + (e * -2.12194440e-4F - 0.5F * z)) + t + e * 0.693359375F;
}

template <typename V>
V square_root(V value) {
  for (std::size_t i = 0; i < lanes; ++i) value[i] = std::sqrt(value[i]);
  return value;
}

/// By the squared distance: phi' = factor * slope, phi = square (slope - offset). No constant that
/// single precision rounds: that error, too, would be common to all pixels. Real is what places,
/// phi and surface are computed in: the weights of r^3 are large and cancel, so that single
/// precision is not enough there.
template <int Order>
struct Basis;
template <>
struct Basis<2> {
  using Real = Vector;
  static constexpr float factor = 1.0F;
  static Vector slope(Vector square) { return 0.5F * logarithm(square) + 0.5F; }
  static Vector value(Vector square, Vector slope) { return square * (slope - 0.5F); }
};
template <>
struct Basis<3> {
  using Real = Doubles;
  static constexpr float factor = 1.5F;
  static Doubles slope(Doubles square) { return square_root(square); }
  static Doubles value(Doubles square, Doubles slope) { return square * slope; }
};

/// The surface in single precision, one row per point: x, y, w of each channel, and what rounding
/// took from each w. That is common to all pixels, and 1 / (0.001 + |r|) magnifies it.
struct Coefficients {
  std::vector<std::array<float, 2 + 2 * most_channels>> points;
  std::array<std::array<float, most_channels>, 3> affine{}, affine_rest{};
};

/// Of one block: what the loss and each coefficient of the surface receive.
struct Sums {
  double loss = 0;
  std::vector<std::array<Doubles, 2 + most_channels>> points;
  std::array<std::array<double, most_channels>, 3> affine{};
};

template <int Order, std::size_t Surfaces>
class Kernel {
  using Real = typename Basis<Order>::Real;

 public:
  Kernel(const Coefficients& surface, float alpha, std::size_t channels)
      : surface_(surface),
        alpha_(alpha),
        channels_(channels),
        slopes_(surface.points.size() * tile) {
    sums_.points.resize(surface.points.size());
  }

  /// Vectors first .. last - 1 of the pixels, at most a tile.
  void add(const float* x, const float* y, const float* mask, const float* share,
           const std::array<const float*, most_channels>& values, std::size_t count) {
    for (std::size_t v = 0; v < count; ++v) {
      const std::size_t at = v * lanes;
      std::array<Vector, most_channels> pixel;
      for (std::size_t c = 0; c < channels_; ++c) pixel[c] = load(values[c] + at);
      judge(surface_at(load(x + at), load(y + at), slopes_.data() + v), pixel, load(mask + at),
            load(share + at), v);
      for (std::size_t s = 0; s < Surfaces; ++s) {
        const Vector g = by_surface_[s][v];
        sums_.affine[0][s] += sum(g);
        sums_.affine[1][s] += sum(g * load(x + at));
        sums_.affine[2][s] += sum(g * load(y + at));
      }
    }
    const Real* slope = slopes_.data();
    for (std::size_t k = 0; k < surface_.points.size(); ++k, slope += tile) {
      const auto& point = surface_.points[k];
      std::array<Real, 2 + Surfaces> total{};
      for (std::size_t v = 0; v < count; ++v) {
        const Real dx = as<Real>(load(x + v * lanes)) - point[0];
        const Real dy = as<Real>(load(y + v * lanes)) - point[1];
        const Real phi = Basis<Order>::value(squared(dx, dy), slope[v]);
        Real pull{};
        for (std::size_t s = 0; s < Surfaces; ++s) {
          const Real g = as<Real>(by_surface_[s][v]);
          total[2 + s] += g * phi;
          pull += g * point[2 + s];
          if constexpr (Order == 3) pull += g * point[2 + most_channels + s];
        }
        pull *= Basis<Order>::factor * slope[v];
        total[0] -= pull * dx;
        total[1] -= pull * dy;
      }
      for (std::size_t i = 0; i < 2 + Surfaces; ++i) {
        sums_.points[k][i] += as<Doubles>(total[i]);
      }
    }
  }

  [[nodiscard]] Sums finish() && { return std::move(sums_); }

 private:
  static Real squared(Real dx, Real dy) {
    using Element = std::remove_reference_t<decltype(dx[0])>;
    return maximum(dx * dx + dy * dy, Real{} + static_cast<Element>(smallest_square));
  }

  /// At a vector of places; keeps the slope of each point's phi, `tile` vectors apart.
  std::array<Real, Surfaces> surface_at(Vector x, Vector y, Real* slope) const {
    const Real px = as<Real>(x), py = as<Real>(y);
    std::array<Real, Surfaces> b, rest;
    for (std::size_t s = 0; s < Surfaces; ++s) {
      b[s] = surface_.affine[0][s] + surface_.affine[1][s] * px + surface_.affine[2][s] * py;
      rest[s] = surface_.affine_rest[0][s] + surface_.affine_rest[1][s] * px +
                surface_.affine_rest[2][s] * py;
    }
    for (const auto& point : surface_.points) {
      const Real square = squared(px - point[0], py - point[1]);
      *slope = Basis<Order>::slope(square);
      const Real phi = Basis<Order>::value(square, *slope);
      for (std::size_t s = 0; s < Surfaces; ++s) {
        b[s] += point[2 + s] * phi;
        rest[s] += point[2 + most_channels + s] * phi;
      }
      slope += tile;
    }
    for (std::size_t s = 0; s < Surfaces; ++s) b[s] += rest[s];
    return b;
  }

  /// Adds the loss of one vector of pixels and keeps its derivative by the surface.
  void judge(const std::array<Real, Surfaces>& b, const std::array<Vector, most_channels>& pixel,
             Vector mask, Vector share, std::size_t v) {
    const float mean = 1.0F / static_cast<float>(channels_);
    std::array<Vector, most_channels> r;
    Vector deviation{}, centre{}, overshoot{}, negative{}, squares{};
    for (std::size_t c = 0; c < channels_; ++c) {
      const Real exact = b[Surfaces == 1 ? 0 : c];
      const auto surface = as<Vector>(exact);
      r[c] = mask * as<Vector>(as<Real>(pixel[c]) - exact);
      deviation += absolute(r[c]);
      overshoot += absolute(r[c]) - r[c];
      negative += absolute(surface) - surface;
      centre += r[c];
    }
    centre *= mean;
    for (std::size_t c = 0; c < channels_; ++c) squares += (r[c] - centre) * (r[c] - centre);
    const Vector inside = 0.001F + mean * (deviation + squares + alpha_ * (overshoot + negative));
    sums_.loss += sum(share * logarithm(inside));
    const Vector outer = share * mean / inside;
    for (std::size_t s = 0; s < Surfaces; ++s) by_surface_[s][v] = Vector{};
    const Vector one = Vector{} + 1.0F, none{};
    for (std::size_t c = 0; c < channels_; ++c) {
      const std::size_t s = Surfaces == 1 ? 0 : c;
      // derivatives of |r| and |r| - r by r, and of |b| - b by b
      const Vector sign = r[c] > 0 ? one : (r[c] < 0 ? -one : none);
      const Vector by_r = sign + alpha_ * (sign - 1.0F) + 2.0F * (r[c] - centre);
      const Vector by_b = as<Vector>(b[s]) < 0 ? none - 2.0F * alpha_ : none;
      by_surface_[s][v] += outer * (by_b - mask * by_r);
    }
  }

  const Coefficients& surface_;
  float alpha_;
  std::size_t channels_;
  std::vector<Real> slopes_;  // (points, tile)
  std::array<std::array<Vector, tile>, Surfaces> by_surface_;
  Sums sums_;
};

}  // namespace

Pixels::Pixels(ConstView frame, ConstView mask, int step)
    : channels_(static_cast<std::size_t>(frame.channels())) {
  const int channels = frame.channels();
  const auto push = [&](float x, float y, float m, float share) {
    x_.push_back(x);
    y_.push_back(y);
    mask_.push_back(m);
    share_.push_back(share);
  };
  for (int v = 0; v * step + step / 2 < frame.height(); ++v) {
    for (int u = 0; u * step + step / 2 < frame.width(); ++u) {
      const int y = v * step + step / 2, x = u * step + step / 2;
      const float m = mask(0, y, x);
      bool usable = m > 0;
      for (int c = 0; c < channels; ++c) usable = usable && !std::isnan(frame(c, y, x));
      if (!usable) continue;
      push(static_cast<float>(x) / static_cast<float>(frame.width()),
           static_cast<float>(y) / static_cast<float>(frame.height()), m, 1);
      for (int c = 0; c < channels; ++c) {
        values_[static_cast<std::size_t>(c)].push_back(frame(c, y, x));
      }
    }
  }
  count_ = x_.size();
  while (x_.size() % lanes != 0) {
    push(0, 0, 0, 0);
    for (std::size_t c = 0; c < channels_; ++c) values_[c].push_back(0);
  }
}

namespace {

template <int Order, std::size_t Surfaces>
Sums run_kernel(const Coefficients& surface, float alpha, std::size_t channels, const float* x,
                const float* y, const float* mask, const float* share,
                std::array<const float*, most_channels> values, std::size_t vectors) {
  Kernel<Order, Surfaces> kernel(surface, alpha, channels);
  for (std::size_t v = 0; v < vectors; v += tile) {
    const std::size_t at = v * lanes;
    std::array<const float*, most_channels> here{};
    for (std::size_t c = 0; c < channels; ++c) here[c] = values[c] + at;
    kernel.add(x + at, y + at, mask + at, share + at, here, std::min(tile, vectors - v));
  }
  return std::move(kernel).finish();
}

}  // namespace

LossValue Loss::operator()(const SplinePoints& points, const SplineWeights& weights) const {
  const auto n = static_cast<std::size_t>(points.count());
  const auto surfaces = static_cast<std::size_t>(points.channels());
  Coefficients surface;
  surface.points.resize(n);
  for (std::size_t k = 0; k < n; ++k) {
    const auto row = static_cast<Eigen::Index>(k);
    surface.points[k] = {static_cast<float>(points.x[row]), static_cast<float>(points.y[row])};
    for (std::size_t s = 0; s < surfaces; ++s) {
      const double w = weights.w(row, static_cast<Eigen::Index>(s));
      surface.points[k][2 + s] = static_cast<float>(w);
      surface.points[k][2 + most_channels + s] =
          static_cast<float>(w - static_cast<double>(surface.points[k][2 + s]));
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t s = 0; s < surfaces; ++s) {
      const double v = weights.v(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(s));
      surface.affine[i][s] = static_cast<float>(v);
      surface.affine_rest[i][s] = static_cast<float>(v - static_cast<double>(surface.affine[i][s]));
    }
  }
  const auto kernel = surfaces == 3 ? (points.order == 2 ? run_kernel<2, 3> : run_kernel<3, 3>)
                                    : (points.order == 2 ? run_kernel<2, 1> : run_kernel<3, 1>);
  const std::size_t vectors = pixels_.x_.size() / lanes;
  const auto blocks = (vectors + block - 1) / block;
  std::vector<Sums> sums(blocks);
  parallel_for(static_cast<int>(blocks), threads_, [&](int index) {
    const std::size_t first = static_cast<std::size_t>(index) * block, at = first * lanes;
    std::array<const float*, most_channels> values{};
    for (std::size_t c = 0; c < pixels_.channels_; ++c) values[c] = pixels_.values_[c].data() + at;
    sums[static_cast<std::size_t>(index)] =
        kernel(surface, alpha_, pixels_.channels_, pixels_.x_.data() + at, pixels_.y_.data() + at,
               pixels_.mask_.data() + at, pixels_.share_.data() + at, values,
               std::min(block, vectors - first));
  });
  // Always in the same order, whichever thread made them.
  const auto rows = static_cast<Eigen::Index>(n), columns = static_cast<Eigen::Index>(surfaces);
  LossValue value{0,
                  {Eigen::MatrixXd::Zero(rows, columns), Eigen::MatrixXd::Zero(3, columns),
                   Eigen::VectorXd::Zero(rows), Eigen::VectorXd::Zero(rows)}};
  WeightGradient& by = value.gradient;
  for (const Sums& part : sums) {
    value.loss += part.loss;
    for (Eigen::Index k = 0; k < rows; ++k) {
      const auto& point = part.points[static_cast<std::size_t>(k)];
      // the derivative of the squared distance by the point is -2 (x - x_k)
      by.x[k] += 2 * sum(point[0]);
      by.y[k] += 2 * sum(point[1]);
      for (Eigen::Index s = 0; s < columns; ++s)
        by.w(k, s) += sum(point[2 + static_cast<std::size_t>(s)]);
    }
    for (Eigen::Index i = 0; i < 3; ++i) {
      for (Eigen::Index s = 0; s < columns; ++s) {
        by.v(i, s) += part.affine[static_cast<std::size_t>(i)][static_cast<std::size_t>(s)];
      }
    }
  }
  const double share = 1.0 / static_cast<double>(std::max<std::size_t>(1, pixels_.count_));
  value.loss *= share;
  by.w *= share;
  by.v *= share;
  by.x *= share;
  by.y *= share;
  return value;
}

}  // namespace limpid::background
