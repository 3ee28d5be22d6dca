// sampler.cc: penalty, mask, temperature, top-k, softmax, top-p, min-p and the draw, in that order.
#include "text/sampler.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

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

Result<void> validate(const SampleOptions& options, const Vocabulary& vocabulary) {
  constexpr const char* kScaled = " (in units of 1/65536)";
  struct Range {
    const char* name;
    uint32_t value, low, high;
    bool scaled;
  };
  const Range ranges[] = {
      {"temperature", options.temperature_q16, 1, 100 * kOne, true},
      {"top-k", options.top_k == kAllTokens ? 1 : options.top_k, 1, vocabulary.size, false},
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

Sampler::Sampler(const Vocabulary& vocabulary, const SampleOptions& options)
    : vocabulary_(vocabulary),
      options_(options),
      random_(options.seed),
      logits_(vocabulary.size),
      weights_(options.greedy ? 0 : vocabulary.size) {
  TERN_CHECK(validate(options, vocabulary).ok());
  window_.reserve(kWindow);
  if (!options.greedy && (options.top_k < vocabulary.size || options.top_p_q16 < kOne))
    keys_.resize(vocabulary.size - 1);
}

void Sampler::observe(Token token) {
  TERN_CHECK(token < vocabulary_.size);
  if (window_.size() < kWindow) return window_.push_back(token);
  window_[oldest_] = token;
  oldest_ = (oldest_ + 1) % kWindow;
}

Token Sampler::next(std::span<const int32_t> logits_q16, std::span<const uint64_t> allowed) {
  TERN_CHECK(logits_q16.size() == vocabulary_.size);
  TERN_CHECK(allowed.empty() || allowed.size() == (size_t{vocabulary_.size} + 63) / 64);
  std::ranges::copy(logits_q16, logits_.begin());
  if (options_.repetition_penalty_q16 != kOne) {  // once for a token, however often it was observed
    for (const Token token : window_) logits_[token] = penalised(logits_q16[token], options_.repetition_penalty_q16);
  }
  Token likeliest = vocabulary_.size;
  for (Token token = 0; token < vocabulary_.size; ++token) {
    if (!may_draw(token, allowed)) {
      logits_[token] = std::numeric_limits<int32_t>::min();  // never above the largest, by which softmax scales
    } else if (likeliest == vocabulary_.size || logits_[token] > logits_[likeliest]) {
      likeliest = token;
    }
  }
  TERN_CHECK(likeliest < vocabulary_.size);
  if (options_.greedy) return likeliest;

  softmax_weights(logits_, options_.temperature_q16, weights_);
  for (Token token = 0; token < vocabulary_.size; ++token) {
    if (!may_draw(token, allowed)) weights_[token] = 0;
  }
  if (!keys_.empty()) keep_likeliest(allowed);
  const uint64_t least = uint64_t{weights_[likeliest]} * options_.min_p_q16;
  uint64_t total = 0;  // below 2^63: a vocabulary has fewer than 2^32 tokens
  for (uint32_t& weight : weights_) {
    if (uint64_t{weight} * kOne < least) weight = 0;
    total += weight;
  }

  // floor(random / 2^64 * total): no rejection, a bias below total / 2^64.  The tokens are walked in their own order,
  // so that the result cannot depend on how anything was sorted.
  const uint64_t high = random_.next();
  uint64_t draw = multiply_high(high << 32 | random_.next(), total);
  size_t chosen = 0;
  while (draw >= weights_[chosen]) draw -= weights_[chosen++];
  return static_cast<Token>(chosen);
}

void Sampler::keep_likeliest(std::span<const uint64_t> allowed) {
  // Ascending keys are falling logits, and rising tokens where logits are equal.
  size_t others = 0;  // what may be drawn
  for (Token token = 0; token < vocabulary_.size; ++token) {
    const auto rank = static_cast<uint64_t>(std::numeric_limits<int32_t>::max() - int64_t{logits_[token]});
    if (may_draw(token, allowed)) keys_[others++] = rank << 32 | token;
  }
  const auto weight_of = [&](size_t i) -> uint32_t& { return weights_[static_cast<Token>(keys_[i])]; };

  size_t kept = std::min<size_t>(options_.top_k, others);
  const auto last = keys_.begin() + static_cast<std::ptrdiff_t>(others);
  std::nth_element(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(kept - 1), last);
  if (options_.top_p_q16 < kOne) {
    std::sort(keys_.begin(), keys_.begin() + static_cast<std::ptrdiff_t>(kept));
    uint64_t total = 0;
    for (size_t i = 0; i < kept; ++i) total += weight_of(i);
    const auto product = [](uint64_t a, uint64_t b) { return std::pair(multiply_high(a, b), a * b); };  // 128 bits
    const auto wanted = product(total, options_.top_p_q16);
    uint64_t sum = 0;
    size_t reached = 0;
    while (reached < kept && product(sum, kOne) < wanted) sum += weight_of(reached++);
    kept = reached;
  }
  for (size_t i = kept; i < others; ++i) weight_of(i) = 0;
}

}  // namespace tern
