// softmax.cc: exponentials of differences to the largest logit, so that nothing overflows and the largest weight is
// 2^31.
#include "text/softmax.h"

#include <algorithm>
#include <limits>

#include "base/parallel.h"
#include "fixed/functions.h"

namespace tern {
namespace {

constexpr uint32_t kLog2E_q31 = Fixed<uint32_t, 31>::from_real(1.4426950408889634).raw;  // log2(e), 32 bits

uint32_t distance(int32_t largest, int32_t logit) {
  return static_cast<uint32_t>(largest) - static_cast<uint32_t>(logit);
}

/// weight(distance to the largest logit), as softmax_weights() has it.
class Weight {
 public:
  explicit Weight(uint32_t temperature_q16) {
    const Rescale to_octaves_q24(Scale::from_integer(kLog2E_q31, -31) / Scale::from_integer(temperature_q16, -16),
                                 24 - 16);
    mantissa_ = static_cast<uint64_t>(to_octaves_q24.mantissa);
    shift_ = to_octaves_q24.shift;
    // The least distance of 33 octaves, where the weight is 0: at most there, nothing has to saturate.
    constexpr uint64_t kNothing = uint64_t{33} << 24;
    if (shift_ < 34) most_ = static_cast<uint32_t>(std::min<uint64_t>((kNothing << shift_) / mantissa_ + 1, most_));
  }

  uint32_t operator()(uint32_t below) const {
    const uint64_t octaves = std::min(below, most_) * mantissa_ + (uint64_t{1} << shift_ >> 1);
    return exp2_negative(static_cast<uint32_t>(octaves >> shift_));
  }

 private:
  uint64_t mantissa_;
  int shift_;
  uint32_t most_ = std::numeric_limits<int32_t>::max();
};

constexpr uint64_t kLeast = uint64_t{1} << 13;  // weights that are worth a thread of their own

}  // namespace

void softmax_weights(std::span<const int32_t> logits_q16, uint32_t temperature_q16, std::span<uint32_t> weights) {
  TERN_CHECK(!logits_q16.empty() && weights.size() == logits_q16.size() && temperature_q16 != 0);
  const int32_t largest = *std::max_element(logits_q16.begin(), logits_q16.end());
  const Weight weight(temperature_q16);
  const auto count = static_cast<uint32_t>(weights.size());
  const uint32_t parts = parts_for(count, kLeast);
  parallel(parts, [&](uint32_t part) {
    const uint32_t end = part_begin(count, part + 1, parts);
    for (uint32_t i = part_begin(count, part, parts); i < end; ++i)
      weights[i] = weight(distance(largest, logits_q16[i]));
  });
}

Bits surprisal(std::span<const int32_t> logits_q16, Token token) { return {score_token(logits_q16, token).bits_q32}; }

TokenScore score_token(std::span<const int32_t> logits_q16, Token token, std::span<Likely> top) {
  TERN_CHECK(token < logits_q16.size() && top.size() <= logits_q16.size());
  const int32_t largest = *std::max_element(logits_q16.begin(), logits_q16.end());
  const Weight weight(1 << 16);
  TokenScore score;
  uint64_t sum = 0;
  uint64_t moment_q47 = 0;  // of weight and distance: x exp(-x) < 0.37, so 2^18 tokens fit
  size_t found = 0;         // in top, with weights in place of probabilities
  for (Token k = 0; k < logits_q16.size(); ++k) {
    const int32_t logit = logits_q16[k];
    const uint32_t below = distance(largest, logit);
    const uint32_t of_k = weight(below);
    sum += of_k;
    moment_q47 += uint64_t{of_k} * below;
    score.rank += logit > logits_q16[token] || (logit == logits_q16[token] && k < token);
    size_t at = found;
    for (; at > 0 && logit > logits_q16[top[at - 1].token]; --at) {
      if (at < top.size()) top[at] = top[at - 1];
    }
    if (at == top.size()) continue;
    top[at] = {k, of_k};
    found = std::min(found + 1, top.size());
  }
  for (Likely& each : top) {
    each.probability_q31 = static_cast<uint32_t>(((uint64_t{each.probability_q31} << 31) + sum / 2) / sum);
  }
  // log2(sum / 2^31) + (largest - logit) * log2(e); the sum is at least 2^31, the weight of the largest.
  const uint64_t octaves_q32 = log2_of(sum).raw - (uint64_t{31} << 32);
  const uint64_t above_q47 = uint64_t{distance(largest, logits_q16[token])} * kLog2E_q31;
  score.bits_q32 = octaves_q32 + (((above_q47 >> 14) + 1) >> 1);
  const uint64_t mean_q24 = (moment_q47 / sum << 8) + (moment_q47 % sum << 8) / sum;
  score.entropy_q24 = static_cast<uint32_t>(round_shift(static_cast<int64_t>(octaves_q32), 8) +
                                            round_shift(static_cast<int64_t>(mean_q24 * kLog2E_q31), 31));
  return score;
}

}  // namespace tern
