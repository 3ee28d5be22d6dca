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

namespace {
constexpr uint32_t kLog2E = Fixed<uint32_t, 31>::from_real(1.4426950408889634).raw;
constexpr uint32_t kLn2 = Fixed<uint32_t, 31>::from_real(tables::kLn2).raw;
}  // namespace

Gate exp_negative(Step x) {
  // In 2^-32 of an octave: x below 2^31 and log2(e) below 1.5 * 2^31, so no bit of 64 is missing.
  const uint64_t octaves = (static_cast<uint64_t>(x.raw) * kLog2E + (1u << 22)) >> 23;
  if (octaves >> 37 != 0) return {0};  // 32 and more
  // 2^-d = 1 - y + y^2 / 2 with y = d ln(2) < 2^-8, all in Q31: the next term is below 2^-27.
  const uint64_t y = ((octaves & 0xFFFFFF) * kLn2 + (uint64_t{1} << 31)) >> 32;
  const uint64_t series = (uint64_t{1} << 31) - y + ((y * y + (uint64_t{1} << 31)) >> 32);
  const auto product = static_cast<int64_t>(tables::kExp2Negative[octaves >> 24 & 0xFF] * series);
  const int64_t result = round_shift(product, 31 + static_cast<int>(octaves >> 32));
  return {static_cast<uint32_t>(std::min<int64_t>(result, std::numeric_limits<int32_t>::max()))};
}

Step softplus(Act x) {
  constexpr int kFiner = Step::kFractionBits - Act::kFractionBits;
  const int64_t magnitude = x.raw < 0 ? -int64_t{x.raw} : x.raw;
  const Gate e = exp_negative({saturate<int32_t>(magnitude << kFiner)});
  const uint64_t log2 = log2_of((uint64_t{1} << 31) + e.raw).raw - (uint64_t{31} << 32);  // of 1 + e: below 1, and even
  const int64_t log = round_shift(static_cast<int64_t>((log2 >> 1) * kLn2), 31 + 31 - Step::kFractionBits);
  return {saturate<int32_t>((x.raw < 0 ? 0 : magnitude << kFiner) + log)};
}

int32_t sine(uint32_t phase) {
  constexpr int kStepBits = 30 - 10;
  const uint32_t within = phase & ((1u << 30) - 1);
  const uint32_t at = (phase >> 30 & 1) != 0 ? (1u << 30) - within : within;
  const uint32_t index = std::min(at >> kStepBits, 1023u);
  const int64_t size = tables::interpolate(tables::kSine, index, at - (index << kStepBits), kStepBits);
  return static_cast<int32_t>(round_shift(phase >> 31 != 0 ? -size : size, 1));
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
