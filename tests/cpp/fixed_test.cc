// fixed_test.cc: the integer functions agree with real mathematics, within tolerances that say where they come from.
#include "fixed/fixed.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "fixed/decimal.h"
#include "fixed/functions.h"

namespace tern {
namespace {

constexpr double kQ16 = 65536.0;
constexpr double kQ31 = 2147483648.0;

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

double real(Scale s) { return std::ldexp(static_cast<double>(s.mantissa), s.exponent); }

// Scales over a wide range of exponents, with mantissas at the edges and in between.
std::vector<Scale> some_scales() {
  std::vector<Scale> scales;
  std::mt19937 random(1);
  for (int exponent : {-90, -63, -47, -32, -31, -1, 0, 1, 20}) {
    for (uint32_t mantissa : {0x80000000u, 0x80000001u, 0xFFFFFFFFu, 0xC0000000u})
      scales.push_back({mantissa, exponent});
    for (int i = 0; i < 20; ++i) scales.push_back({static_cast<uint32_t>(random()) | 0x80000000u, exponent});
  }
  return scales;
}

TEST(RoundShift, AddsHalfAndFloors) {
  for (int64_t x = -1000; x <= 1000; ++x) {
    for (int bits = 0; bits <= 12; ++bits) {
      EXPECT_EQ(round_shift(x, bits),
                static_cast<int64_t>(std::floor(std::ldexp(static_cast<double>(x), -bits) + 0.5)));
    }
  }
  EXPECT_EQ(round_shift(int64_t{1} << 62, 62), 1);
  EXPECT_EQ(round_shift(-(int64_t{1} << 62), 62), -1);
}

TEST(Saturate, StopsAtTheEnds) {
  EXPECT_EQ(saturate<int32_t>(int64_t{1} << 31), 2147483647);
  EXPECT_EQ(saturate<int32_t>(-(int64_t{1} << 31) - 1), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(saturate<int8_t>(-128), -128);
  EXPECT_EQ(saturate<int8_t>(-129), -128);
  EXPECT_EQ(add(Act{2147483647}, Act{1}).raw, 2147483647);
  EXPECT_EQ(add(Act{-5}, Act{3}).raw, -2);
}

TEST(Fixed, ConstantsRoundLikeEverythingElse) {
  EXPECT_EQ(Act::from_real(1.0).raw, 65536);
  EXPECT_EQ(Act::from_real(-0.5 / 65536).raw, 0);
  EXPECT_EQ(Act::from_real(-1.5 / 65536).raw, -1);
  EXPECT_EQ(Gate::from_real(1.0).raw, 0x80000000u);
}

TEST(Isqrt64, IsTheFloorOfTheRoot) {
  for (uint64_t n = 0; n < 200000; ++n) {
    const uint64_t root = isqrt64(n);
    ASSERT_LE(root * root, n);
    ASSERT_GT((root + 1) * (root + 1), n);
  }
  for (uint64_t root = 0xFFFFFFFF; root > 0xFFFF0000; root -= 97) {  // around large perfect squares
    ASSERT_EQ(isqrt64(root * root), root);
    ASSERT_EQ(isqrt64(root * root - 1), root - 1);
    ASSERT_EQ(isqrt64(root * root + 2 * root), root);
  }
}

TEST(MultiplyHigh, IsTheUpperHalfOfTheProduct) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t a = random();
    const uint64_t b = random() >> (i % 64);
    EXPECT_EQ(multiply_high(a, b), static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64));
  }
  EXPECT_EQ(multiply_high(~uint64_t{0}, ~uint64_t{0}), ~uint64_t{0} - 1);
}

TEST(FloatBits, EveryHalfBecomesTheEqualFloat) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const bool negative = (h & 0x8000) != 0;
    const uint32_t exponent = (h >> 10) & 31;
    const uint32_t fraction = h & 1023;
    const uint32_t got = f32_bits_from_f16(static_cast<uint16_t>(h));
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(float_of(got)), fraction != 0);
      EXPECT_EQ(std::isinf(float_of(got)), fraction == 0);
      continue;
    }
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024.0, static_cast<int>(exponent) - 25);
    ASSERT_EQ(got, bits_of(static_cast<float>(negative ? -magnitude : magnitude))) << h;
  }
}

TEST(FloatBits, ToFixedRoundsHalvesUpAndRefusesWhatDoesNotFit) {
  EXPECT_EQ(fixed_from_f32_bits(bits_of(1.0f), 16), 65536);
  EXPECT_EQ(fixed_from_f32_bits(bits_of(-1.0f), 16), -65536);
  EXPECT_EQ(fixed_from_f32_bits(bits_of(0.5f / 65536), 16), 1);
  EXPECT_EQ(fixed_from_f32_bits(bits_of(-0.5f / 65536), 16), 0);
  EXPECT_EQ(fixed_from_f32_bits(bits_of(-0.0f), 16), 0);
  EXPECT_EQ(fixed_from_f32_bits(1, 16), 0);  // the smallest subnormal
  EXPECT_EQ(fixed_from_f32_bits(bits_of(-32768.0f), 16), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(fixed_from_f32_bits(bits_of(32768.0f), 16), std::nullopt);
  EXPECT_EQ(fixed_from_f32_bits(bits_of(1e30f), 16), std::nullopt);
  EXPECT_EQ(fixed_from_f32_bits(0x7F800000, 16), std::nullopt);  // infinity
  EXPECT_EQ(fixed_from_f32_bits(0x7FC00000, 16), std::nullopt);  // NaN
  std::mt19937 random(3);
  for (int i = 0; i < 200000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    const double expected = std::floor(static_cast<double>(float_of(bits)) * kQ16 + 0.5);
    const auto got = fixed_from_f32_bits(bits, 16);
    if (std::isfinite(expected) && expected >= -kQ31 && expected < kQ31) {
      ASSERT_EQ(got, static_cast<int32_t>(expected)) << bits;
    } else {
      ASSERT_EQ(got, std::nullopt) << bits;
    }
  }
}

TEST(Scale, ComesFromFloatsExactlyAndRefusesNegativeAndNotFiniteOnes) {
  for (float x : {1.0f, 0.1f, 1e-30f, 3e38f, 1e-42f}) {
    const auto s = Scale::from_f32_bits(bits_of(x));
    ASSERT_TRUE(s.has_value());
    EXPECT_EQ(real(*s), static_cast<double>(x));
    EXPECT_TRUE(s->mantissa >> 31);
  }
  EXPECT_TRUE(Scale::from_f32_bits(bits_of(0.0f))->is_zero());
  EXPECT_TRUE(Scale::from_f32_bits(bits_of(-0.0f))->is_zero());
  EXPECT_EQ(Scale::from_f32_bits(bits_of(-1e-42f)), std::nullopt);
  EXPECT_EQ(Scale::from_f32_bits(0x7F800000), std::nullopt);
  EXPECT_EQ(Scale::from_f32_bits(0xFFC00000), std::nullopt);
  EXPECT_EQ(real(*Scale::from_f16_bits(0x0001)), std::ldexp(1.0, -24));
}

TEST(Scale, FromIntegerRoundsToThirtyTwoBits) {
  EXPECT_EQ(Scale::from_integer(1), (Scale{0x80000000u, -31}));
  EXPECT_EQ(Scale::from_integer(0x1FFFFFFFF), (Scale{0x80000000u, 2}));    // the carry moves the exponent
  EXPECT_EQ(Scale::from_integer(~uint64_t{0}), (Scale{0x80000000u, 33}));  // where adding the half would overflow
  EXPECT_EQ(Scale::from_integer(0x100000001), (Scale{0x80000001u, 1}));    // a tie goes up
  std::mt19937_64 random(4);
  for (int i = 0; i < 10000; ++i) {
    const uint64_t n = random() >> (i % 64);
    if (n == 0) continue;
    EXPECT_NEAR(real(Scale::from_integer(n, 5)) / (std::ldexp(static_cast<double>(n), 5)), 1, 0x1p-32 * 1.001);
  }
}

TEST(Scale, ArithmeticIsExactToItsLastBit) {
  // One rounding to 32 bits is a relative 2^-32; a quotient may round twice.  2^-52 is the noise of the reference.
  constexpr double kOne = 0x1p-32 * 1.001;
  for (const Scale a : some_scales()) {
    EXPECT_NEAR(real(a.sqrt()) / std::sqrt(real(a)), 1, kOne);
    for (const Scale b : some_scales()) {
      ASSERT_NEAR(real(a * b) / (real(a) * real(b)), 1, kOne);
      ASSERT_NEAR(real(a / b) / (real(a) / real(b)), 1, 2 * kOne);
      ASSERT_NEAR(real(a + b) / (real(a) + real(b)), 1, 2 * kOne);
      ASSERT_EQ(a < b, real(a) < real(b));
      ASSERT_EQ(a + b, b + a);
    }
    EXPECT_EQ(a + Scale{}, a);
    EXPECT_TRUE((a * Scale{}).is_zero());
    EXPECT_TRUE((Scale{} / a).is_zero());
    EXPECT_TRUE(Scale{} < a);
    EXPECT_FALSE(a < Scale{});
  }
  EXPECT_EQ(Scale::from_integer(49).sqrt(), Scale::from_integer(7));
  EXPECT_TRUE(Scale{}.sqrt().is_zero());
}

TEST(ScaleDeathTest, DividingByZeroTraps) { EXPECT_DEATH((void)(Scale::from_integer(1) / Scale{}), ""); }

TEST(Scale, ToFixedRoundsAndSaturates) {
  EXPECT_EQ(Scale::from_integer(3).to_fixed(16), 3 * 65536);
  EXPECT_EQ(Scale::from_integer(1, -17).to_fixed(16), 1);
  EXPECT_EQ(Scale::from_integer(1, -18).to_fixed(16), 0);
  EXPECT_EQ((Scale{0x80000000u, -48}).to_fixed(16), 1);  // a half goes up
  EXPECT_EQ((Scale{0xFFFFFFFFu, -49}).to_fixed(16), 0);
  EXPECT_EQ(Scale::from_integer(1, 60).to_fixed(16), int64_t{1} << 62);
  EXPECT_EQ(Scale{}.to_fixed(16), 0);
}

TEST(Rescale, IsTheRoundedProduct) {
  for (const Scale s : some_scales()) {
    const Rescale rescale(s, 16);
    for (int32_t x : {0, 1, -1, 127, -12345, 1 << 20, -(1 << 24), 2147483647, std::numeric_limits<int32_t>::min()}) {
      const double exact = x * real(s) * kQ16;
      if (std::abs(exact) >= kQ31 - 1) {
        ASSERT_GE(std::abs(static_cast<double>(rescale(x))), kQ31 - 4) << x << " " << exact;
        ASSERT_EQ(rescale(x) < 0, exact < 0);
      } else {
        // The mantissa has 31 bits, so the product is off by a relative 2^-31 before it is rounded.
        ASSERT_NEAR(rescale(x), exact, 0.5 + std::abs(exact) * 0x1p-30) << real(s);
      }
    }
  }
  EXPECT_EQ(Rescale(Scale{}, 16)(12345), 0);
  EXPECT_EQ(Rescale(Scale::from_integer(1), 0)(-12345), -12345);
}

TEST(Sigmoid, IsWithinTheErrorOfLinearInterpolation) {
  // h^2/8 * max|f''| = (1/32)^2/8 * 0.0962 = 1.18e-5, and half a unit of Q0.31; exhaustive over the domain.
  double worst = 0;
  uint32_t before = 0;
  for (int32_t raw = -(17 << 16); raw <= 17 << 16; ++raw) {
    const uint32_t got = sigmoid(Act{raw}).raw;
    ASSERT_GE(got, before) << "must not fall, at " << raw;
    before = got;
    worst = std::max(worst, std::abs(got / kQ31 - 1 / (1 + std::exp(-raw / kQ16))));
  }
  EXPECT_LT(worst, 1.2e-5);
  EXPECT_GT(worst, 1e-6);
}

TEST(Sigmoid, NeverReachesZeroOrOne) {
  EXPECT_GT(sigmoid(Act{std::numeric_limits<int32_t>::min()}).raw, 0u);
  EXPECT_LT(sigmoid(Act{std::numeric_limits<int32_t>::max()}).raw, 1u << 31);
  EXPECT_EQ(sigmoid(Act{0}).raw, 1u << 30);
}

TEST(Sigmoid, OfMinusXKeepsTheDigitsOfOneMinusSigmoid) {
  for (int32_t raw = 0; raw <= 16 << 16; raw += 7) {
    const double exact = 1 / (1 + std::exp(raw / kQ16));
    ASSERT_NEAR(sigmoid(Act{-raw}).raw / kQ31 / exact, 1, 3.6e-3) << raw;
  }
}

TEST(SigmoidPiecewiseLinear, IsExactlyTheRoundedLine) {
  for (int64_t raw = -200000; raw <= 200000; ++raw) {
    const int64_t tenths =
        std::clamp<int64_t>(raw + 163840, 0, 327680) * 65536;  // twice (x + 2.5) / 5 in Q0.31, times 5
    ASSERT_EQ(sigmoid_piecewise_linear(Act{static_cast<int32_t>(raw)}).raw, (tenths + 5) / 10);
    ASSERT_NEAR(sigmoid_piecewise_linear(Act{static_cast<int32_t>(raw)}).raw / kQ31,
                std::clamp(0.2 * static_cast<double>(raw) / kQ16 + 0.5, 0.0, 1.0), 0.51 / kQ31);
  }
  EXPECT_EQ(sigmoid_piecewise_linear(Act{std::numeric_limits<int32_t>::max()}).raw, 1u << 31);
  EXPECT_EQ(sigmoid_piecewise_linear(Act{std::numeric_limits<int32_t>::min()}).raw, 0u);
}

TEST(Silu, IsWithinTheErrorOfItsSigmoid) {
  for (int32_t raw = -(16 << 16); raw <= 16 << 16; ++raw) {
    const double x = raw / kQ16;
    ASSERT_NEAR(silu(Act{raw}).raw / kQ16, x / (1 + std::exp(-x)), 2.8e-5) << raw;
  }
  for (double x = -32767; x < 32767; x += 13.37) {
    const Act a{static_cast<int32_t>(x * kQ16)};
    ASSERT_NEAR(silu(a).raw / kQ16, x / (1 + std::exp(-x)), 1.2e-7 * std::abs(x) + 2.8e-5);
  }
}

TEST(Exp2Negative, IsWithinTheErrorOfLinearInterpolation) {
  // (ln 2 / 256)^2 / 8 = 9.2e-7 of the result, and half a unit of Q0.31 before and after the shift.
  uint32_t before = 1u << 31;
  for (uint64_t x = 0; x < uint64_t{1} << 32; x += 601) {
    const uint32_t got = exp2_negative(static_cast<uint32_t>(x));
    const double exact = std::exp2(-static_cast<double>(x) / 16777216.0);
    ASSERT_LE(got, before);
    before = got;
    ASSERT_NEAR(got / kQ31, exact, 9.3e-7 * exact + 1.0 / kQ31) << x;
  }
  EXPECT_EQ(exp2_negative(0), 1u << 31);
  EXPECT_EQ(exp2_negative(1u << 24), 1u << 30);
  EXPECT_EQ(exp2_negative(31u << 24), 1u);
  EXPECT_EQ(exp2_negative(0xFFFFFFFFu), 0u);
}

TEST(ExpNegative, HasTheDigitsOfWhatIsForgotten) {
  // (2^-8 ln 2)^3 / 6 = 3.3e-9 of the result from the series, 2^-32 twice from its products, and half a unit of Q0.31.
  uint32_t before = 1u << 31;
  const auto check = [&](int32_t raw) {
    const uint32_t got = exp_negative(Step{raw}).raw;
    const double exact = std::exp(-raw / 16777216.0);
    ASSERT_LE(got, before) << "must not rise, at " << raw;
    before = got;
    ASSERT_NEAR(got / kQ31, exact, 5e-9 * exact + 1.0 / kQ31) << raw;
    const double forgotten = -std::expm1(-raw / 16777216.0);  // (2^-8 ln 2)^2 / 6 = 1.2e-6 of it within the first step
    ASSERT_NEAR(1 - got / kQ31, forgotten, 1.3e-6 * forgotten + 1.0 / kQ31) << raw;
  };
  for (int32_t raw = 0; raw < 200000; ++raw) check(raw);
  for (int64_t raw = 200000; raw <= std::numeric_limits<int32_t>::max(); raw += 601) check(static_cast<int32_t>(raw));
  EXPECT_EQ(exp_negative(Step{0}).raw, (1u << 31) - 1) << "always forgets";
  EXPECT_EQ(exp_negative(Step{std::numeric_limits<int32_t>::max()}).raw, 0u);
}

TEST(Sine, IsWithinTheErrorOfItsTableAndExactAtEighths) {
  double worst = 0;
  for (uint64_t phase = 0; phase < uint64_t{1} << 32; phase += 104729) {
    const double expected = std::sin(static_cast<double>(phase) / 4294967296.0 * 2 * 3.14159265358979323846);
    worst = std::max(worst, std::abs(sine(static_cast<uint32_t>(phase)) / 1073741824.0 - expected));
  }
  EXPECT_LT(worst, 3e-7);
  EXPECT_GT(worst, 2.5e-7);
  for (uint32_t quarter = 0; quarter < 4; ++quarter) {
    constexpr int32_t kExpected[] = {0, 1 << 30, 0, -(1 << 30)};
    EXPECT_EQ(sine(quarter << 30), kExpected[quarter]);
  }
}

TEST(Softplus, IsWithinTheErrorOfItsTables) {
  // log2 of one step of 1/1024: 1.72e-7 ln(2), of a small number up to 1/2048 of it, and half a unit of Q7.24.
  int32_t before = 0;
  for (int32_t raw = -(20 << 16); raw <= 20 << 16; ++raw) {
    const int32_t got = softplus(Act{raw}).raw;
    const double exact = std::log1p(std::exp(raw / kQ16));
    ASSERT_GE(got, before) << "must not fall, at " << raw;
    before = got;
    ASSERT_NEAR(got / 16777216.0, exact, 2e-7) << raw;
    ASSERT_NEAR(got / 16777216.0, exact, 6e-4 * exact + 1 / 16777216.0) << raw;
  }
  EXPECT_EQ(softplus(Act{std::numeric_limits<int32_t>::min()}).raw, 0);
  EXPECT_EQ(softplus(Act{100 << 16}).raw, 100 << 24);
  EXPECT_EQ(softplus(Act{128 << 16}).raw, std::numeric_limits<int32_t>::max());
  EXPECT_EQ(softplus(Act{std::numeric_limits<int32_t>::max()}).raw, std::numeric_limits<int32_t>::max());
}

TEST(Log2, IsWithinTheErrorOfLinearInterpolation) {
  // (1/1024)^2 / 8 / ln 2 = 1.72e-7.
  const auto check = [](uint64_t n) {
    ASSERT_NEAR(static_cast<double>(log2_of(n).raw) / 4294967296.0,
                static_cast<double>(std::log2l(static_cast<long double>(n))), 1.8e-7)
        << n;
  };
  for (uint64_t n = 1; n < 300000; ++n) check(n);
  std::mt19937_64 random(5);
  for (int i = 0; i < 300000; ++i) check((random() >> (i % 64)) | 1);
  check(~uint64_t{0});
  for (int i = 0; i < 64; ++i) EXPECT_EQ(log2_of(uint64_t{1} << i).raw, static_cast<uint64_t>(i) << 32);
}

// Every platform computes the same tables: a compiler that folded the formulas differently would show here.
TEST(Tables, HaveTheSameEntriesEverywhere) {
  uint64_t hash = 14695981039346656037u;
  const auto mix = [&hash](uint64_t x) { hash = (hash ^ x) * 1099511628211u; };
  for (int32_t x = -(16 << 16); x <= 16 << 16; x += 2048) mix(sigmoid(Act{x}).raw);
  for (uint32_t x = 0; x <= 1u << 24; x += 65536) mix(exp2_negative(x));
  for (uint64_t n = 1024; n <= 2048; ++n) mix(log2_of(n).raw);
  EXPECT_EQ(hash, 1503363295217005661u);
}

TEST(F32Text, IsTheNumberToSixDigits) {
  for (const float value : {1e-6f, 1e-5f, 1.5f, 3.5f, 4.0f, 65504.0f, 0.1f, -0.02f, 123456.0f, 1e30f, 5.9604645e-8f}) {
    const std::string text = f32_text(bits_of(value));
    EXPECT_NEAR(std::strtod(text.c_str(), nullptr), static_cast<double>(value), std::fabs(value) * 1e-5) << text;
  }
  EXPECT_EQ(f32_text(bits_of(1e-6f)), "1e-6");
  EXPECT_EQ(f32_text(bits_of(1.5f)), "1.5");
  EXPECT_EQ(f32_text(bits_of(-0.02f)), "-0.02");
  EXPECT_EQ(f32_text(bits_of(1200000.0f)), "1200000");
  EXPECT_EQ(f32_text(1), "14013e-49");  // the smallest subnormal, 1.4013e-45
  EXPECT_EQ(f32_text(0x80000000), "0");
  EXPECT_EQ(f16_text(0x7c00), "infinity");
}

}  // namespace
}  // namespace tern
