// sampler.cc: penalty, temperature, top-k, softmax, top-p, min-p and the draw, in that order.
#include "text/sampler.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "fixed/fixed.h"
#include "text/softmax.h"

namespace tern {
namespace {

constexpr uint32_t kOne = 65536;

// As in CTRL (Keskar et al. 2019): positive logits are divided, negative ones multiplied, so both fall.
int32_t penalised(int32_t logit, uint32_t penalty_q16) {
  if (logit <= 0) return saturate<int32_t>(round_shift(int64_t{logit} * penalty_q16, 16));
  return static_cast<int32_t>((int64_t{logit} * kOne + penalty_q16 / 2) / penalty_q16);
}

}  // namespace

Result<void> validate(const SampleOptions& options) {
  constexpr const char* kScaled = " (in units of 1/65536)";
  struct Range {
    const char* name;
    uint32_t value, low, high;
    bool scaled;
  };
  const Range ranges[] = {
      {"temperature", options.temperature_q16, 1, 100 * kOne, true},
      {"top-k", options.top_k, 1, 256, false},
      {"top-p", options.top_p_q16, 1, kOne, true},
      {"min-p", options.min_p_q16, 0, kOne - 1, true},
      {"repetition penalty", options.repetition_penalty_q16, kOne, 10 * kOne, true},
  };
  for (const Range& range : ranges) {
    if (range.value >= range.low && range.value <= range.high) continue;
    return error_f(ErrorCode::kBadOption, "%s: expected %u to %u, found %u%s", range.name, range.low, range.high,
                   range.value, range.scaled ? kScaled : "");
  }
  return {};
}

Pcg32::Pcg32(uint64_t seed, uint64_t stream) : increment_((stream << 1) | 1) {
  next();
  state_ += seed;
  next();
}

uint32_t Pcg32::next() {
  const uint64_t old = state_;
  state_ = old * 6364136223846793005u + increment_;
  return std::rotr(static_cast<uint32_t>(((old >> 18) ^ old) >> 27), static_cast<int>(old >> 59));
}

Sampler::Sampler(const SampleOptions& options) : options_(options), random_(options.seed) {
  TERN_CHECK(validate(options).ok());
}

void Sampler::observe(uint8_t byte) {
  if (observed_ == kWindow) {
    --in_window_[window_[oldest_]];
  } else {
    ++observed_;
  }
  window_[oldest_++] = byte;  // wraps at 256, the size of the window
  ++in_window_[byte];
}

uint8_t Sampler::next(std::span<const int32_t> logits_q16) {
  TERN_CHECK(logits_q16.size() == kVocab);
  std::array<int32_t, kVocab> logits;
  for (size_t i = 0; i < kVocab; ++i) {
    logits[i] = in_window_[i] == 0 ? logits_q16[i] : penalised(logits_q16[i], options_.repetition_penalty_q16);
  }
  logits[kBos] = std::numeric_limits<int32_t>::min();
  const auto likeliest = static_cast<size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (options_.greedy) return static_cast<uint8_t>(likeliest);

  std::array<uint32_t, kVocab> weights;
  softmax_weights(logits, options_.temperature_q16, weights);
  weights[kBos] = 0;
  if (options_.top_k < kVocab || options_.top_p_q16 < kOne) keep_likeliest(logits, weights);
  const uint64_t least = uint64_t{weights[likeliest]} * options_.min_p_q16;
  uint64_t total = 0;  // below 2^39
  for (uint32_t& weight : weights) {
    if (uint64_t{weight} * kOne < least) weight = 0;
    total += weight;
  }

  // floor(random / 2^64 * total): no rejection, a bias below 2^-24.  The bytes are walked in their own order, so that
  // the result cannot depend on how anything was sorted.
  const uint64_t high = random_.next();
  uint64_t draw = multiply_high(high << 32 | random_.next(), total);
  size_t chosen = 0;
  while (draw >= weights[chosen]) draw -= weights[chosen++];
  return static_cast<uint8_t>(chosen);
}

void Sampler::keep_likeliest(const std::array<int32_t, kVocab>& logits, std::array<uint32_t, kVocab>& weights) const {
  // Ascending keys are falling logits, and rising bytes where logits are equal; BOS comes last.
  std::array<uint64_t, kVocab> keys;
  for (size_t i = 0; i < kVocab; ++i) {
    const int64_t rank = i == kBos ? int64_t{1} << 32 : std::numeric_limits<int32_t>::max() - int64_t{logits[i]};
    keys[i] = static_cast<uint64_t>(rank) << 8 | i;
  }
  const auto byte_of = [&](size_t i) { return static_cast<uint8_t>(keys[i]); };

  size_t kept = options_.top_k;
  std::nth_element(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(kept - 1), keys.end());
  if (options_.top_p_q16 < kOne) {
    std::sort(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(kept));
    uint64_t total = 0;
    for (size_t i = 0; i < kept; ++i) total += weights[byte_of(i)];
    const uint64_t wanted = total * options_.top_p_q16;
    uint64_t sum = 0;
    size_t reached = 0;
    while (reached < kept && sum * kOne < wanted) sum += weights[byte_of(reached++)];
    kept = reached;
  }
  for (size_t i = kept; i < kVocab; ++i) weights[byte_of(i)] = 0;
}

}  // namespace tern
