// rows_test.cc: the SIMD versions of the operations along a row give the bits of the scalar definition.
#include "kernels/rows/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tern {
namespace {

#if TERN_SIMD >= 1

using Random = std::mt19937;

constexpr uint32_t kSeed = 20261121;
constexpr size_t kLengths[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 64, 67, 200};
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();

// Numbers of every size, often at the ends of what is representable, of a table or of a step of it.
int32_t any_number(Random& random) {
  constexpr int32_t kEnds[] = {0, 1, -1, kMost, kLeast, kMost - 1, -kMost, 16 << 16, -(16 << 16), 1 << 27, -(1 << 27)};
  const auto bits = static_cast<int32_t>(random());
  switch (random() % 6) {
    case 0:
      return kEnds[random() % std::size(kEnds)];
    case 1:
      return kEnds[random() % std::size(kEnds)] / 2 + static_cast<int32_t>(random() % 5) - 2;
    case 2:
      return bits >> 11 << 11 >> random() % 12;
    default:
      return bits >> random() % 32;
  }
}

int32_t number_of_bits(Random& random, int bits) { return static_cast<int32_t>(random()) >> (32 - bits); }

template <class Number>
std::vector<Number> row(size_t n, Random& random, int bits) {
  std::vector<Number> x(n);
  for (Number& v : x) v.raw = bits == 0 ? any_number(random) : number_of_bits(random, bits);
  return x;
}

// Calls check(n, bits, random) for every length many times: bits is the size of the numbers, 0 for a mixture.
template <class Check>
void for_many_rows(uint32_t seed, Check check) {
  Random random(kSeed + seed);
  for (const size_t n : kLengths) {
    for (const int bits : {0, 0, 0, 0, 4, 14, 18, 22, 27, 32}) {
      for (int again = 0; again < 8; ++again) {
        SCOPED_TRACE(testing::Message() << n << " numbers of " << bits << " bits, seed " << kSeed + seed);
        check(n, bits, random);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

TEST(Rows, SumOfSquaresEqualsScalar) {
  for_many_rows(1, [](size_t n, int bits, Random& random) {
    const auto x = row<Act>(n, random, bits);
    const SquareSum expected = scalar::sum_of_squares(x), got = simd128::sum_of_squares(x);
    EXPECT_EQ(got.sum, expected.sum);
    EXPECT_EQ(got.magnitudes, expected.magnitudes);
  });
}

TEST(Rows, QuantisationEqualsScalar) {
  for_many_rows(2, [](size_t n, int bits, Random& random) {
    const auto x = row<Act>(n, random, bits);
    const auto w = row<NormWeight>(n, random, random() % 2 ? 0 : 18);
    const uint64_t all = scalar::product_bits(x, w);
    ASSERT_EQ(simd128::product_bits(x, w), all);
    if (all == 0) return;
    const int shift = 33 - std::countl_zero(all), right = std::max(0, shift), left = std::max(0, -shift);
    const uint32_t largest = scalar::largest_product(x, w, right, left);
    ASSERT_EQ(simd128::largest_product(x, w, right, left), largest);
    const auto reciprocal = static_cast<uint32_t>((uint64_t{127} << 54) / largest);
    std::vector<int8_t> expected(n + 1, 77), got(n + 1, 77);
    const int32_t sum = scalar::quantize(x, w, right, left, reciprocal, std::span(expected).first(n));
    EXPECT_EQ(simd128::quantize(x, w, right, left, reciprocal, std::span(got).first(n)), sum);
    EXPECT_EQ(got, expected);
  });
}

TEST(Rows, QuantisationRoundsTiesUpAtBothSigns) {
  // 2 of 4 of the largest: codes of exactly 63.5 and -63.5.
  const std::vector<Act> x = {{4}, {2}, {-2}, {-4}, {2}, {-2}, {2}, {-2}, {4}, {2}, {-2}, {-4}, {2}, {-2}, {2}, {-2}};
  const std::vector<NormWeight> w(16, NormWeight{1 << 28});
  std::vector<int8_t> expected(16), got(16);
  for (const uint32_t reciprocal : {127u << 24, (127u << 24) - 1}) {
    scalar::quantize(x, w, 0, 0, reciprocal, expected);
    simd128::quantize(x, w, 0, 0, reciprocal, got);
    EXPECT_EQ(got, expected);
  }
  scalar::quantize(x, w, 0, 0, 127u << 24, expected);
  EXPECT_EQ(expected[1], 64);
  EXPECT_EQ(expected[2], -63);
}

Rescale any_rescale(Random& random) {
  return Rescale(Scale{static_cast<uint32_t>(random()) | 0x80000000u, static_cast<int32_t>(random() % 100) - 80}, 0);
}

TEST(Rows, RescaleEqualsScalarForEveryShift) {
  for_many_rows(3, [](size_t n, int bits, Random& random) {
    std::vector<int32_t> acc(n);
    for (int32_t& a : acc) a = bits == 0 ? any_number(random) : number_of_bits(random, bits);
    for (int shift = -3; shift <= 66; ++shift) {
      const Rescale scale(Scale{static_cast<uint32_t>(random()) | 0x80000000u, -shift - 1}, 0);
      std::vector<Act> expected(n), got(n);
      scalar::rescale(acc, scale, expected);
      simd128::rescale(acc, scale, got);
      ASSERT_EQ(got, expected) << shift;
    }
  });
}

TEST(Rows, NormalizeEqualsScalarAlsoInPlace) {
  for_many_rows(4, [](size_t n, int bits, Random& random) {
    auto x = row<Act>(n, random, bits);
    const auto w = row<NormWeight>(n, random, random() % 2 ? 0 : 18);
    const Rescale divide = any_rescale(random);
    const int shift = 1 + static_cast<int>(random() % 62);
    std::vector<Act> expected(n);
    scalar::normalize(x, divide, w, shift, expected);
    simd128::normalize(x, divide, w, shift, x);
    EXPECT_EQ(x, expected);
  });
}

TEST(Rows, AddSaturatesAsScalar) {
  for_many_rows(5, [](size_t n, int bits, Random& random) {
    const auto x = row<Act>(n, random, bits);
    auto expected = row<Act>(n, random, bits), got = expected;
    scalar::add(expected, x);
    simd128::add(got, x);
    EXPECT_EQ(got, expected);
  });
}

constexpr Sigmoid kKinds[] = {Sigmoid::kTable, Sigmoid::kPiecewiseLinear};

TEST(Rows, SiluProductEqualsScalarAlsoInPlace) {
  for_many_rows(6, [](size_t n, int bits, Random& random) {
    for (const Sigmoid kind : kKinds) {
      const auto gate = row<Act>(n, random, random() % 2 ? 0 : 20), x = row<Act>(n, random, bits);
      std::vector<Act> expected(n);
      scalar::silu_product(gate, x, kind, expected);
      auto in_gate = gate, in_x = x;
      simd128::silu_product(in_gate, x, kind, in_gate);
      simd128::silu_product(gate, in_x, kind, in_x);
      EXPECT_EQ(in_gate, expected);
      EXPECT_EQ(in_x, expected);
    }
  });
}

// Every entry of the table, every point between the steepest and between the last two entries, and beyond the ends.
TEST(Rows, SiluEqualsScalarAllAlongTheTable) {
  std::vector<Act> gate;
  for (int32_t entry = -513; entry <= 513; ++entry) {
    for (const int32_t near : {-1, 0, 1, 1024}) gate.push_back({entry * 2048 + near});
  }
  for (int32_t point = 0; point < 2048; ++point) {
    for (const int32_t start : {0, -2048, 511 * 2048, -512 * 2048}) gate.push_back({start + point});
  }
  const std::vector<Act> one(gate.size(), Act{1 << 16});
  std::vector<Act> expected(gate.size()), got(gate.size());
  scalar::silu_product(gate, one, Sigmoid::kTable, expected);
  simd128::silu_product(gate, one, Sigmoid::kTable, got);
  EXPECT_EQ(got, expected);
}

TEST(Rows, ConvolutionEqualsScalar) {
  for_many_rows(7, [](size_t n, int bits, Random& random) {
    for (const size_t taps : {2u, 4u, 8u}) {
      for (const Sigmoid kind : kKinds) {
        const size_t stride = n + random() % 3;
        const auto weights = row<NormWeight>(taps * n, random, random() % 2 ? 29 : 17);
        const auto window = row<Act>(taps * stride, random, bits);
        const auto bias = row<Act>(random() % 2 * n, random, random() % 2 ? 0 : 17);
        std::vector<Act> expected(n), got(n);
        scalar::convolution(weights, bias, window.data(), stride, kind, expected);
        simd128::convolution(weights, bias, window.data(), stride, kind, got);
        EXPECT_EQ(got, expected);
      }
    }
  });
}

TEST(Rows, RecurrenceEqualsScalar) {
  for_many_rows(8, [](size_t n, int bits, Random& random) {
    const auto i = row<Act>(n, random, bits), z = row<Act>(n, random, random() % 2 ? 0 : 20);
    std::vector<Gate> keep(n);
    for (Gate& k : keep) k.raw = random() % 4 == 0 ? 1u << 31 : static_cast<uint32_t>(random() >> 1);
    for (const Sigmoid kind : kKinds) {
      for (const std::span<const Gate> kept : {std::span<const Gate>(keep), std::span<const Gate>()}) {
        auto expected = row<Cell>(n, random, bits), got = expected;
        std::vector<Cell> expected_after(n), got_after(n);
        scalar::recurrence(i, z, kept, kind, expected, expected_after);
        simd128::recurrence(i, z, kept, kind, got, got_after);
        EXPECT_EQ(got, expected);
        EXPECT_EQ(got_after, expected);
        EXPECT_EQ(expected_after, expected);
      }
    }
  });
}

TEST(Rows, StateSpaceEqualsScalarAlsoInPlace) {
  for_many_rows(9, [](size_t n, int bits, Random& random) {
    StateSpaceHead head{{static_cast<uint32_t>(random()) >> 1}, any_rescale(random), {any_number(random)}};
    if (random() % 4 == 0) head.decay.raw = random() % 2 ? 0 : (1u << 31) - 1;
    if (random() % 2 != 0) head.input.mantissa = -head.input.mantissa;
    if (random() % 2 != 0) head.input.shift = 31;
    if (random() % 2 != 0) head.output.raw = number_of_bits(random, 18);
    const auto a = row<Act>(n, random, bits), z = row<Act>(n, random, random() % 2 ? 0 : 20);
    const auto skip = row<NormWeight>(n, random, random() % 2 ? 0 : 18);
    auto expected = row<Cell>(n, random, random() % 2 ? bits : 22), got = expected, again = expected;
    std::vector<Act> expected_y(n), got_y(n), in_z = z;
    scalar::state_space(a, z, skip, head, expected, expected_y);
    simd128::state_space(a, z, skip, head, got, got_y);
    simd128::state_space(a, in_z, skip, head, again, in_z);
    EXPECT_EQ(got, expected);
    EXPECT_EQ(got_y, expected_y);
    EXPECT_EQ(again, expected);
    EXPECT_EQ(in_z, expected_y);
  });
}

#endif  // TERN_SIMD >= 1

// What the definition computes, against the formula in double precision.
TEST(RowsDefinition, SiluProductAgreesWithDouble) {
  for (double gate = -12; gate <= 12; gate += 0.37) {
    for (double x = -50; x <= 50; x += 7.3) {
      std::vector<Act> y(1);
      const std::vector<Act> g = {{static_cast<int32_t>(gate * 65536)}}, v = {{static_cast<int32_t>(x * 65536)}};
      scalar::silu_product(g, v, Sigmoid::kTable, y);
      const double real_gate = g[0].raw / 65536.0, real_x = v[0].raw / 65536.0;
      // The error of silu() times |x|, and one rounding to Q16.16.
      EXPECT_NEAR(y[0].raw / 65536.0, real_gate / (1 + std::exp(-real_gate)) * real_x,
                  2.8e-5 * std::abs(real_x) + 1e-5);
    }
  }
}

TEST(RowsDefinition, RecurrenceMovesTheStateTowardsItsInput) {
  constexpr int32_t kOne = 1 << Cell::kFractionBits;
  const std::vector<Act> i = {{3 << 16}, {3 << 16}, {-(3 << 16)}}, z = {{0}, {20 << 16}, {-(20 << 16)}};
  std::vector<Cell> s(3, Cell{kOne}), after(3);
  scalar::recurrence(i, z, {}, Sigmoid::kTable, s, after);
  const double input = 3 / (1 + std::exp(-3.0)), other = -3 / (1 + std::exp(3.0));
  EXPECT_NEAR(s[0].raw, (1 + input) / 2 * kOne, 60) << "half way";
  EXPECT_NEAR(s[1].raw, kOne, 1) << "kept";
  EXPECT_NEAR(s[2].raw, other * kOne, 60) << "replaced";
}

TEST(RowsDefinition, StateSpaceAgreesWithDouble) {
  // Each step rounds the state twice to Q12.20; a read one and y three times to Q16.16, and silu has its own error.
  const StateSpaceHead head{Gate::from_real(0.9), Rescale(Scale::from_integer(3, -2), 4), Act::from_real(-1.5)};
  const std::vector<NormWeight> skip = {NormWeight::from_real(0.5)};
  std::vector<Cell> s(1);
  std::vector<Act> y(1);
  double real_s = 0;
  for (int t = 0; t < 200; ++t) {
    const double real_a = std::sin(t) + 0.5, real_z = 4 * std::cos(t);
    const std::vector<Act> a = {{static_cast<int32_t>(real_a * 65536)}}, z = {{static_cast<int32_t>(real_z * 65536)}};
    scalar::state_space(a, z, skip, head, s, y);
    real_s = 0.9 * real_s + 0.75 * (a[0].raw / 65536.0);
    EXPECT_NEAR(std::ldexp(s[0].raw, -20), real_s, 10 * std::ldexp(1, -20));
    const double gate = z[0].raw / 65536.0, sum = -1.5 * real_s + 0.5 * (a[0].raw / 65536.0);
    EXPECT_NEAR(std::ldexp(y[0].raw, -16), sum * gate / (1 + std::exp(-gate)), 3e-5 * std::abs(sum) + 2e-4);
  }
}

TEST(RowsDefinition, AStateSpaceThatIsFullStaysFullAndComesBack) {
  const StateSpaceHead grows{{(1u << 31) - 1}, Rescale(Scale::from_integer(1), 4), Act::from_real(1)};
  const StateSpaceHead forgets{Gate::from_real(0.5), Rescale(Scale{}, 4), Act::from_real(1)};
  const std::vector<NormWeight> none = {{0}};
  const std::vector<Act> a = {{1500 << 16}}, minus = {{-(1500 << 16)}}, open = {{16 << 16}};
  std::vector<Cell> s(1);
  std::vector<Act> y(1);
  for (int t = 0; t < 3; ++t) scalar::state_space(a, open, none, grows, s, y);
  EXPECT_EQ(s[0].raw, std::numeric_limits<int32_t>::max());
  EXPECT_NEAR(y[0].raw / 65536.0, 2048 * 16, 1);
  scalar::state_space(a, open, none, forgets, s, y);
  EXPECT_EQ(s[0].raw, 1 << 30);
  for (int t = 0; t < 3; ++t) scalar::state_space(minus, open, none, grows, s, y);
  EXPECT_EQ(s[0].raw, std::numeric_limits<int32_t>::min());
}

}  // namespace
}  // namespace tern
