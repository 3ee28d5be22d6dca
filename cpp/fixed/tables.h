// tables.h: lookup tables, computed by the compiler from the formula beside each; no floating point at run time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace tern::tables {

/// exp(x) by halving the argument below 1/64, a Taylor series, and squaring back.  Relative error about 1e-14.
consteval double exp_of(double x) {
  int halvings = 0;
  while (x > 1.0 / 64 || x < -1.0 / 64) {
    x /= 2;
    ++halvings;
  }
  double sum = 1;
  double term = 1;
  for (int n = 1; n <= 8; ++n) {
    term *= x / n;
    sum += term;
  }
  for (; halvings > 0; --halvings) sum *= sum;
  return sum;
}

/// ln(x) for 1 <= x <= 2 by the series of 2 artanh((x-1)/(x+1)), whose argument is at most 1/3.
consteval double ln_of(double x) {
  const double t = (x - 1) / (x + 1);
  double sum = 0;
  double power = t;
  for (int n = 1; n <= 33; n += 2) {
    sum += power / n;
    power *= t * t;
  }
  return 2 * sum;
}

inline constexpr double kLn2 = 0.69314718055994530942;

/// sin(x) for 0 <= x <= pi / 2 by its series.
consteval double sin_of(double x) {
  double sum = 0, term = x;
  for (int n = 1; n <= 23; n += 2) {
    sum += term;
    term *= -x * x / ((n + 1) * (n + 2));
  }
  return sum;
}

/// round(x * 2^bits) for x >= 0.
consteval uint32_t to_fixed(double x, int bits) {
  return static_cast<uint32_t>(x * static_cast<double>(uint64_t{1} << bits) + 0.5);
}

/// entry i = formula(i), for i = 0 .. kSteps.
template <size_t kSteps, class Formula>
consteval std::array<uint32_t, kSteps + 1> table_of(Formula formula) {
  std::array<uint32_t, kSteps + 1> table{};
  for (size_t i = 0; i <= kSteps; ++i) table[i] = formula(static_cast<double>(i));
  return table;
}

/// 1 / (1 + exp(-x)) in Q0.31 for x = -16 + i/32.
inline constexpr auto kSigmoid =
    table_of<1024>([](double i) consteval { return to_fixed(1 / (1 + exp_of(16 - i / 32)), 31); });

/// 2^(-i/256) in Q0.31.
inline constexpr auto kExp2Negative =
    table_of<256>([](double i) consteval { return to_fixed(exp_of(-i / 256 * kLn2), 31); });

/// log2(1 + i/1024) in Q0.31 (its last entry is 1 = 2^31).
inline constexpr auto kLog2 =
    table_of<1024>([](double i) consteval { return to_fixed(ln_of(1 + i / 1024) / kLn2, 31); });

/// sin(pi / 2 * i/1024) in Q0.31: a quarter of a turn (its last entry is 1 = 2^31).
inline constexpr auto kSine =
    table_of<1024>([](double i) consteval { return to_fixed(sin_of(i / 2048 * 3.14159265358979323846), 31); });

/// The straight line between entries `index` and `index + 1` at fraction / 2^bits.
constexpr int64_t interpolate(const auto& table, size_t index, int64_t fraction, int bits) {
  const int64_t low = table[index];
  const int64_t rise = static_cast<int64_t>(table[index + 1]) - low;
  return low + ((rise * fraction + ((int64_t{1} << bits) >> 1)) >> bits);
}

}  // namespace tern::tables
