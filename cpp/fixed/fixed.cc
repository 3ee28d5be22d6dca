// fixed.cc: decoding of IEEE bits and the arithmetic of Scale, in integers only.
#include "fixed/fixed.h"

namespace tern {
namespace {

struct FloatFields {
  bool negative;
  uint32_t exponent;  // biased by 127
  uint32_t fraction;  // 23 bits
};

FloatFields fields_of(uint32_t bits) { return {(bits >> 31) != 0, (bits >> 23) & 0xFF, bits & 0x7FFFFF}; }

constexpr uint32_t kFloatNotFinite = 255;

// The magnitude of a finite float is significand * 2^exponent.
struct Magnitude {
  uint32_t significand;
  int exponent;
};

Magnitude magnitude_of(const FloatFields& f) {
  if (f.exponent == 0) return {f.fraction, -149};  // zero and subnormals have no hidden bit
  return {f.fraction | 0x800000, static_cast<int>(f.exponent) - 150};
}

}  // namespace

uint32_t f32_bits_from_f16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t fraction = bits & 0x3FFu;
  if (exponent == 31) return sign | 0x7F800000u | (fraction << 13);
  if (exponent != 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction == 0) return sign;
  // fraction * 2^-24: its highest bit becomes the hidden one.
  const int top = 31 - std::countl_zero(fraction);
  return sign | (static_cast<uint32_t>(top + 103) << 23) | ((fraction << (23 - top)) & 0x7FFFFFu);
}

std::optional<int32_t> fixed_from_f32_bits(uint32_t bits, int fraction_bits) {
  const FloatFields f = fields_of(bits);
  if (f.exponent == kFloatNotFinite) return std::nullopt;
  const Magnitude m = magnitude_of(f);
  const int64_t value = f.negative ? -int64_t{m.significand} : int64_t{m.significand};
  const int shift = m.exponent + fraction_bits;
  if (value == 0 || shift < -25) return 0;  // |value| < 2^24, so less than a half
  if (shift > 31) return std::nullopt;
  const int64_t result = shift < 0 ? round_shift(value, -shift) : value * (int64_t{1} << shift);
  if (result != saturate<int32_t>(result)) return std::nullopt;
  return static_cast<int32_t>(result);
}

Scale Scale::from_integer(uint64_t value, int exponent) {
  if (value == 0) return {};
  const int shift = 32 - std::countl_zero(value);  // of the highest bit above bit 31
  if (shift <= 0) return {static_cast<uint32_t>(value << -shift), exponent + shift};
  // floor(value / 2^(shift-1)) + 1, halved: adds the half without overflowing 64 bits.
  const uint64_t rounded = ((value >> (shift - 1)) + 1) >> 1;
  if (rounded >> 32 != 0) return {0x80000000u, exponent + shift + 1};
  return {static_cast<uint32_t>(rounded), exponent + shift};
}

std::optional<Scale> Scale::from_f32_bits(uint32_t bits) {
  const FloatFields f = fields_of(bits);
  const Magnitude m = magnitude_of(f);
  if (f.exponent == kFloatNotFinite || (f.negative && m.significand != 0)) return std::nullopt;
  return from_integer(m.significand, m.exponent);
}

int64_t Scale::to_fixed(int fraction_bits) const {
  constexpr int64_t kMax = int64_t{1} << 62;
  const int shift = exponent + fraction_bits;
  if (mantissa == 0 || shift < -32) return 0;
  if (shift < 0) return round_shift(mantissa, -shift);
  if (shift > 30) return kMax;
  return static_cast<int64_t>(mantissa) << shift;
}

Scale Scale::sqrt() const {
  if (is_zero()) return {};
  // An even exponent below a 63 or 64 bit mantissa, whose root then has 32 bits.
  const int shift = 32 - (exponent & 1);
  const uint64_t square = static_cast<uint64_t>(mantissa) << shift;
  const uint64_t root = isqrt64(square);
  const bool up = square - root * root > root;  // beyond (root + 1/2)^2
  return from_integer(root + (up ? 1 : 0), (exponent - shift) / 2);
}

Scale operator+(Scale a, Scale b) {
  if (a.is_zero()) return b;
  if (b.is_zero()) return a;
  if (a.exponent < b.exponent) {
    const Scale larger = b;
    b = a;
    a = larger;
  }
  const int distance = a.exponent - b.exponent;
  if (distance > 31) return a;
  // Both in units of 2^(a.exponent - 31): 63 bits, and no bit of b is lost.
  const uint64_t sum =
      (static_cast<uint64_t>(a.mantissa) << 31) + (static_cast<uint64_t>(b.mantissa) << (31 - distance));
  return Scale::from_integer(sum, a.exponent - 31);
}

Scale operator*(Scale a, Scale b) {
  return Scale::from_integer(uint64_t{a.mantissa} * b.mantissa, a.exponent + b.exponent);
}

Scale operator/(Scale a, Scale b) {
  TERN_CHECK(!b.is_zero());
  const uint64_t dividend = static_cast<uint64_t>(a.mantissa) << 32;
  // dividend <= 2^64 - 2^32, so adding half the divisor cannot overflow.
  return Scale::from_integer((dividend + b.mantissa / 2) / b.mantissa, a.exponent - b.exponent - 32);
}

bool operator<(Scale a, Scale b) {
  if (a.is_zero() || b.is_zero()) return a.is_zero() && !b.is_zero();
  return a.exponent != b.exponent ? a.exponent < b.exponent : a.mantissa < b.mantissa;
}

Rescale::Rescale(Scale scale, int fraction_bits) {
  if (scale.is_zero()) return;
  const int64_t halved = round_shift(scale.mantissa, 1);
  const bool carried = halved >> 31 != 0;
  mantissa = static_cast<int32_t>(carried ? halved >> 1 : halved);
  shift = -(scale.exponent + 1 + (carried ? 1 : 0) + fraction_bits);
  if (shift > 62) {  // |x| * mantissa < 2^62: every product rounds to 0
    mantissa = 0;
    shift = 0;
  } else if (shift < 0) {  // every product but 0 is at least 2^31
    mantissa = std::numeric_limits<int32_t>::max();
    shift = 0;
  }
}

}  // namespace tern
