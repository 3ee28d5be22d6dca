// functions.cc: the nonlinear functions, from the tables of tables.h.
#include "fixed/functions.h"

#include <algorithm>

#include "fixed/tables.h"

namespace tern {

Gate sigmoid(Act x) {
  constexpr int32_t kEnd = 16 << Act::kFractionBits;
  constexpr int kStepBits = Act::kFractionBits - 5;  // step 1/32
  if (x.raw <= -kEnd) return {tables::kSigmoid.front()};
  if (x.raw >= kEnd) return {tables::kSigmoid.back()};
  const auto offset = static_cast<uint32_t>(x.raw + kEnd);
  const uint32_t fraction = offset & ((1u << kStepBits) - 1);
  return {static_cast<uint32_t>(tables::interpolate(tables::kSigmoid, offset >> kStepBits, fraction, kStepBits))};
}

Gate sigmoid_piecewise_linear(Act x) {
  constexpr int64_t kEnd = Act::from_real(2.5).raw;
  constexpr int kBits = Gate::kFractionBits - Act::kFractionBits;
  const int64_t from_end = std::clamp<int64_t>(int64_t{x.raw} + kEnd, 0, 2 * kEnd);
  // (x + 2.5) / 5, add half, floor: all in tenths.
  return {static_cast<uint32_t>(((from_end << (kBits + 1)) + 5) / 10)};
}

Act silu(Act x) { return silu(x, Sigmoid::kTable); }

Act silu(Act x, Sigmoid kind) {  // within |x|, so that it fits
  return {static_cast<int32_t>(round_shift(int64_t{x.raw} * sigmoid(x, kind).raw, Gate::kFractionBits))};
}

Bits log2_of(uint64_t n) {
  TERN_CHECK(n != 0);
  constexpr int kStepBits = 63 - 10;  // step 1/1024 of the octave
  const int leading = std::countl_zero(n);
  const uint64_t below_one = (n << leading) & ~(uint64_t{1} << 63);  // the mantissa without its 1, in Q0.63
  const size_t index = below_one >> kStepBits;
  // 30 of the 53 bits between two entries: the product with a rise below 2^22 fits in 64 bits with room.
  const auto fraction = static_cast<int64_t>((below_one & ((uint64_t{1} << kStepBits) - 1)) >> (kStepBits - 30));
  const int64_t log_q31 = tables::interpolate(tables::kLog2, index, fraction, 30);
  return {(static_cast<uint64_t>(63 - leading) << 32) + (static_cast<uint64_t>(log_q31) << 1)};
}

}  // namespace tern
