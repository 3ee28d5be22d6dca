// fixed.h: the number formats of the engine, the one rounding rule, saturation, and Scale (a real without floats).
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "base/check.h"

namespace tern {

// ---- Rounding and saturation ----------------------------------------------------------------------------------------

/// The project's only rounding rule: add half, floor.  Ties go up: -0.5 -> 0, 0.5 -> 1.
/// Chosen because wasm_i16x8_q15mulr_sat rounds this way, so SIMD and scalar agree for free.
/// 0 <= bits <= 62 and |x| <= 2^62, so that adding the half cannot overflow.
constexpr int64_t round_shift(int64_t x, int bits) { return (x + ((int64_t{1} << bits) >> 1)) >> bits; }
static_assert(round_shift(-1, 1) == 0 && round_shift(1, 1) == 1 && round_shift(-3, 1) == -1 &&
              round_shift(-7, 0) == -7);

/// round_shift() without a wider sum, so that compilers vectorise it.  1 <= bits <= 31.
constexpr int32_t round_shift_32(int32_t x, int bits) { return (x >> bits) + (x >> (bits - 1) & 1); }
static_assert(round_shift_32(-1, 1) == 0 && round_shift_32(0x7FFFFFFF, 4) == 0x8000000);

/// The nearest value an Integer can hold; nothing in the engine wraps.
template <class Integer>
constexpr Integer saturate(int64_t x) {
  constexpr int64_t kLow = std::numeric_limits<Integer>::min();
  constexpr int64_t kHigh = std::numeric_limits<Integer>::max();
  return static_cast<Integer>(x < kLow ? kLow : x > kHigh ? kHigh : x);
}

// ---- Formats --------------------------------------------------------------------------------------------------------

/// A number that is raw * 2^-F.  The format is in the type, so adding a Q16.16 to a Q12.20 does not compile.
template <class Raw, int F>
struct Fixed {
  using RawType = Raw;
  static constexpr int kFractionBits = F;

  Raw raw = 0;

  /// For constants, at compile time only: the engine has no floating-point instruction.
  static consteval Fixed from_real(double value) {
    const double scaled = value * static_cast<double>(uint64_t{1} << F) + 0.5;
    const auto truncated = static_cast<int64_t>(scaled);
    return {static_cast<Raw>(static_cast<double>(truncated) > scaled ? truncated - 1 : truncated)};
  }

  constexpr bool operator==(const Fixed&) const = default;
  constexpr auto operator<=>(const Fixed&) const = default;
};

// The format table.
using Act = Fixed<int32_t, 16>;         ///< Q16.16: everything between two operations: residual, norm output, logits
using NormWeight = Fixed<int32_t, 16>;  ///< Q16.16: weights of norms and convolutions
using Cell = Fixed<int32_t, 20>;  ///< Q12.20: recurrent state; finer than Act, since rounding errors accumulate in it
using Gate = Fixed<uint32_t,
                   31>;  ///< Q0.31 in [0, 1], 1 = 2^31: sigmoid and k = 1-f, kept directly so that a small k has digits
using Step = Fixed<int32_t, 24>;   ///< Q7.24: time steps of a state space, of which the small ones matter
using Bits = Fixed<uint64_t, 32>;  ///< Q32.32: information in bits

/// Saturating sum, the residual connection.
constexpr Act add(Act a, Act b) { return {saturate<int32_t>(int64_t{a.raw} + b.raw)}; }

/// Saturating product.
constexpr Act multiply(Act a, Act b) {
  return {saturate<int32_t>(round_shift(int64_t{a.raw} * b.raw, Act::kFractionBits))};
}

/// The same numbers as raw integers, for interfaces that do not know Fixed (logits, kernels).
template <class Raw, int F>
std::span<const Raw> raw_view(std::span<const Fixed<Raw, F>> values) {
  static_assert(sizeof(Fixed<Raw, F>) == sizeof(Raw));
  return {values.empty() ? nullptr : &values.data()->raw, values.size()};
}

/// The bits of the float32 that equals this float16 (exact, subnormals, infinities and NaN included).
uint32_t f32_bits_from_f16(uint16_t bits);

/// round(value * 2^fraction_bits) for a float32 given by its bits; nothing when it is not finite or needs more than
/// 32 bits.  -64 <= fraction_bits <= 64.
std::optional<int32_t> fixed_from_f32_bits(uint32_t bits, int fraction_bits);

/// Floor of the square root, exact for every argument.
constexpr uint32_t isqrt64(uint64_t n) {
  uint64_t root = 0;
  for (uint64_t bit = uint64_t{1} << 31; bit != 0; bit >>= 1) {
    const uint64_t candidate = root | bit;
    if (candidate * candidate <= n) root = candidate;  // candidate < 2^32
  }
  return static_cast<uint32_t>(root);
}
static_assert(isqrt64(0) == 0 && isqrt64(15) == 3 && isqrt64(16) == 4 && isqrt64(~uint64_t{0}) == 0xFFFFFFFFu);

/// Upper 64 bits of the 128-bit product.
constexpr uint64_t multiply_high(uint64_t a, uint64_t b) {
  const uint64_t a0 = a & 0xFFFFFFFFu;
  const uint64_t a1 = a >> 32;
  const uint64_t b0 = b & 0xFFFFFFFFu;
  const uint64_t b1 = b >> 32;
  const uint64_t middle = a1 * b0 + ((a0 * b0) >> 32);  // (2^32-1)^2 + 2^32-1 < 2^64
  const uint64_t middle2 = a0 * b1 + (middle & 0xFFFFFFFFu);
  return a1 * b1 + (middle >> 32) + (middle2 >> 32);
}

// ---- Scale ----------------------------------------------------------------------------------------------------------

/// A non-negative real, mantissa * 2^exponent.  The mantissa has bit 31 set, or is 0 for zero.
/// Each operation rounds once or twice to 32 bits: relative error below 2^-31.
struct Scale {
  uint32_t mantissa = 0;
  int32_t exponent = 0;

  /// value * 2^exponent, rounded to 32 bits.
  static Scale from_integer(uint64_t value, int exponent = 0);
  /// Nothing for negative numbers, infinities and NaN (-0 is 0).
  static std::optional<Scale> from_f32_bits(uint32_t bits);
  static std::optional<Scale> from_f16_bits(uint16_t bits) { return from_f32_bits(f32_bits_from_f16(bits)); }

  bool is_zero() const { return mantissa == 0; }
  /// round(value * 2^fraction_bits), saturated to [0, 2^62].
  int64_t to_fixed(int fraction_bits) const;
  Scale sqrt() const;

  bool operator==(const Scale&) const = default;
};

Scale operator+(Scale a, Scale b);
Scale operator*(Scale a, Scale b);
/// b must not be zero.
Scale operator/(Scale a, Scale b);
bool operator<(Scale a, Scale b);

/// A Scale prepared for many products with integers: (x) -> saturate(round(x * value)), value = mantissa * 2^-shift.
/// The mantissa has 31 bits, so the product of any int32 fits in 63 bits and SIMD can use a 32x32 -> 64 multiply.
struct Rescale {
  int32_t mantissa = 0;
  int shift = 0;  ///< 0 .. 62

  /// Multiplies by scale * 2^fraction_bits: for integers x, the result is x * scale with `fraction_bits` of fraction.
  /// A scale too large for any result saturates at +-(2^31 - 1).
  Rescale(Scale scale, int fraction_bits);

  int32_t operator()(int32_t x) const { return saturate<int32_t>(round_shift(int64_t{x} * mantissa, shift)); }
};

}  // namespace tern
