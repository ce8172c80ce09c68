#include "nn/winograd.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "arithmetic_kinds.h"

namespace limpid {
namespace {

constexpr std::int64_t inputs = 48, outputs = 32;

/// Numbers of unit size, which bfloat16s hold if `narrow`.
std::vector<float> some(std::int64_t count, bool narrow) {
  static std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& number : numbers)
    number = narrow ? rounded_to_bfloat16(normal(random)) : normal(random);
  return numbers;
}

template <typename Value>
void fill(Activations<Value>& grid, bool narrow) {
  const std::int64_t row = grid.width() * grid.channels();
  for (std::int64_t y = 0; y < grid.height(); ++y) {
    const auto numbers = some(row, narrow);
    std::ranges::transform(numbers, grid.at(y, 0), [](float number) { return Value(number); });
  }
}

/// One value of the convolution, without its bias.
template <typename Value>
double slow(const Activations<Value>& in, const Parameter& weight, std::int64_t y, std::int64_t x,
            std::int64_t output) {
  double sum = 0;
  for (std::int64_t input = 0; input < inputs; ++input) {
    for (std::int64_t tap = 0; tap < 9; ++tap) {
      const float* const g =
          &weight.values[static_cast<std::size_t>((output * inputs + input) * 9 + tap)];
      sum += static_cast<double>(in.at(y + tap / 3 - 1, x + tap % 3 - 1)[input]) *
             static_cast<double>(*g);
    }
  }
  return sum;
}

template <typename Of>
class WinogradOf : public testing::Test {
 protected:
  using Value = typename Of::Type;
  void SetUp() override {
    if (!has_convolutions(Of::by)) GTEST_SKIP() << "not on this processor";
  }
  Parameter weight{{outputs, inputs, 3, 3}, some(outputs* inputs * 9, Of::narrow)};
  Parameter bias{{outputs}, some(outputs, Of::narrow)};
  [[nodiscard]] Winograd<Value> convolution() const { return {weight, bias, Of::narrow, Of::by}; }

  template <typename In, typename Out>
  void apply(const Activations<In>& in, Places wanted, Activations<Out>& out, Then then) const {
    const Winograd<Value> by = convolution();
    const auto scratch = allocate_aligned<std::byte>(by.scratch_bytes());
    for (std::int64_t y = wanted.y.begin / 2 * 2; y < wanted.y.end; y += 2)
      by.two_rows(in, y, wanted, out, then, scratch.get());
  }
};
TYPED_TEST_SUITE(WinogradOf, Kinds);

TYPED_TEST(WinogradOf, AgreesWithTheSumsForEverySize) {
  for (const auto& [height, width] : {std::pair{1, 1}, {2, 2}, {3, 5}, {4, 26}, {5, 51}}) {
    Activations<typename TypeParam::Type> in(height, width, inputs);
    fill(in, TypeParam::narrow);
    Activations<float> out(height, width, outputs);
    this->apply(in, {{0, height}, {0, width}}, out, {});
    double squares = 0, largest = 0;
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        for (std::int64_t output = 0; output < outputs; ++output) {
          const float by = this->bias.values[static_cast<std::size_t>(output)];
          const double miss =
              static_cast<double>(out.at(y, x)[output] - by) - slow(in, this->weight, y, x, output);
          squares += miss * miss;
          largest = std::max(largest, std::abs(miss));
        }
      }
    }
    // 432 products of unit size make 20. Rounded to 2^-9 at most, two roundings in each of them and
    // a sum of up to nine such terms: .1; floats are 2^16 times as fine
    const double rms = std::sqrt(squares / static_cast<double>(height * width * outputs));
    EXPECT_LT(rms, TypeParam::narrow ? 0.12 : 5e-6) << height << " x " << width;
    EXPECT_LT(largest, TypeParam::narrow ? 0.6 : 5e-5) << height << " x " << width;
  }
}

TYPED_TEST(WinogradOf, APartComesOutTheSameAndNothingElseIsTouched) {
  using Number = typename TypeParam::Type;
  constexpr std::int64_t height = 9, width = 31;
  Activations<Number> in(height, width, inputs);
  fill(in, TypeParam::narrow);
  Activations<float> whole(height, width, outputs);
  this->apply(in, {{0, height}, {0, width}}, whole, {.rectified = true});
  for (const Places part : {Places{{3, 4}, {7, 8}}, Places{{0, 9}, {5, 30}}, Places{{1, 6}, {0, 1}},
                            Places{{2, 8}, {24, 31}}}) {
    // what is seen of the part, and nothing that is no number, is all that the convolution needs
    Activations<Number> seen(height, width, inputs);
    Activations<float> out(height, width, outputs);
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const bool is_seen =
            y >= part.y.begin - 1 && y <= part.y.end && x >= part.x.begin - 1 && x <= part.x.end;
        for (std::int64_t c = 0; c < inputs; ++c)
          seen.at(y, x)[c] = is_seen ? in.at(y, x)[c] : Number(std::nanf(""));
        std::fill_n(out.at(y, x), outputs, -7.0F);
      }
    }
    this->apply(seen, part, out, {.rectified = true});
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x) {
        const bool wanted =
            y >= part.y.begin && y < part.y.end && x >= part.x.begin && x < part.x.end;
        for (std::int64_t c = 0; c < outputs; ++c)
          ASSERT_EQ(out.at(y, x)[c], wanted ? whole.at(y, x)[c] : -7.0F) << y << ' ' << x;
      }
    }
  }
}

TYPED_TEST(WinogradOf, AddsThenRectifiesAndRoundsEachStep) {
  using Number = typename TypeParam::Type;
  constexpr std::int64_t height = 4, width = 6;
  const auto step = [](float x) { return TypeParam::narrow ? rounded_to_bfloat16(x) : x; };
  Activations<Number> in(height, width, inputs), out(height, width, outputs);
  fill(in, TypeParam::narrow);
  fill(out, TypeParam::narrow);
  Activations<float> sums(height, width, outputs), wanted(height, width, outputs);
  const Places all{{0, height}, {0, width}};
  this->apply(in, all, sums, {});
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t i = 0; i < width * outputs; ++i)
      wanted.at(y, 0)[i] =
          std::max(0.0F, step(step(sums.at(y, 0)[i]) + static_cast<float>(out.at(y, 0)[i])));
  }
  this->apply(in, all, out, {.rounded = TypeParam::narrow, .added = true, .rectified = true});
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t i = 0; i < width * outputs; ++i)
      ASSERT_EQ(static_cast<float>(out.at(y, 0)[i]), wanted.at(y, 0)[i]);
  }
}

}  // namespace
}  // namespace limpid
