// decimal.cc: scales a number to six digits before the point, then places the point.
// SPDX-License-Identifier: MIT
#include "fixed/decimal.h"

#include <optional>

#include "fixed/fixed.h"

namespace tern {

std::string f32_text(uint32_t bits) {
  constexpr uint32_t kSign = 0x80000000;
  const std::string sign = (bits & kSign) != 0 ? "-" : "";
  const std::optional<Scale> magnitude = Scale::from_f32_bits(bits & ~kSign);
  if (!magnitude) return (bits & 0x007fffff) != 0 ? "not a number" : sign + "infinity";
  if (magnitude->is_zero()) return "0";

  const Scale ten = Scale::from_integer(10);
  Scale scaled = *magnitude;
  int exponent = 0;  // value = digits * 10^exponent
  for (; scaled.to_fixed(0) >= 1000000; ++exponent) scaled = scaled / ten;
  for (; scaled.to_fixed(0) < 100000; --exponent) scaled = scaled * ten;
  std::string digits = std::to_string(scaled.to_fixed(0));
  for (; digits.size() > 1 && digits.back() == '0'; ++exponent) digits.pop_back();

  const int before_point = static_cast<int>(digits.size()) + exponent;
  if (before_point < -3 || before_point > 9) return sign + digits + "e" + std::to_string(exponent);
  if (exponent >= 0) return sign + digits + std::string(static_cast<size_t>(exponent), '0');
  if (before_point <= 0) return sign + "0." + std::string(static_cast<size_t>(-before_point), '0') + digits;
  return sign + digits.insert(static_cast<size_t>(before_point), 1, '.');
}

std::string f16_text(uint16_t bits) { return f32_text(f32_bits_from_f16(bits)); }

}  // namespace tern
