// softmax.cc: exponentials of differences to the largest logit, so that nothing overflows and the largest weight is
// 2^31.
#include "text/softmax.h"

#include <algorithm>
#include <limits>

#include "fixed/functions.h"

namespace tern {
namespace {

constexpr uint32_t kLog2E_q31 = Fixed<uint32_t, 31>::from_real(1.4426950408889634).raw;  // log2(e), 32 bits

uint32_t distance(int32_t largest, int32_t logit) {
  return static_cast<uint32_t>(largest) - static_cast<uint32_t>(logit);
}

}  // namespace

void softmax_weights(std::span<const int32_t> logits_q16, uint32_t temperature_q16, std::span<uint32_t> weights) {
  TERN_CHECK(!logits_q16.empty() && weights.size() == logits_q16.size() && temperature_q16 != 0);
  const int32_t largest = *std::max_element(logits_q16.begin(), logits_q16.end());
  const Scale factor = Scale::from_integer(kLog2E_q31, -31) / Scale::from_integer(temperature_q16, -16);
  const Rescale to_octaves_q24(factor, 24 - 16);  // saturates at 128 octaves, where the weight is 0
  for (size_t i = 0; i < weights.size(); ++i) {
    const uint32_t below = std::min<uint32_t>(distance(largest, logits_q16[i]), std::numeric_limits<int32_t>::max());
    weights[i] = exp2_negative(static_cast<uint32_t>(to_octaves_q24(static_cast<int32_t>(below))));
  }
}

Bits surprisal(std::span<const int32_t> logits_q16, uint8_t byte) {
  TERN_CHECK(logits_q16.size() == 256);
  constexpr uint32_t kOne = 1 << 16;
  uint32_t weights[256];
  softmax_weights(logits_q16, kOne, weights);
  uint64_t sum = 0;
  for (const uint32_t weight : weights) sum += weight;
  // log2(sum / 2^31) + (largest - logit) * log2(e); the sum is at least 2^31, the weight of the largest.
  const int32_t largest = *std::max_element(logits_q16.begin(), logits_q16.end());
  const uint64_t octaves_q47 = uint64_t{distance(largest, logits_q16[byte])} * kLog2E_q31;
  return {log2_of(sum).raw - (uint64_t{31} << 32) + (((octaves_q47 >> 14) + 1) >> 1)};
}

}  // namespace tern
