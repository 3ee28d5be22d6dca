// sampler.cc: penalty, mask, temperature, top-k, softmax, top-p, min-p and the draw, in that order.
#include "text/sampler.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
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
      never_(vocabulary.bos == vocabulary.eos ? vocabulary.size : vocabulary.bos),
      options_(options),
      random_(options.seed),
      logits_(vocabulary.size) {
  TERN_CHECK(validate(options, vocabulary).ok());
  window_.reserve(kWindow);
  if (options.greedy) return;
  const bool all = options.top_k >= vocabulary.size;
  weights_.resize(all ? vocabulary.size : options.top_k);
  tokens_.resize(all ? 0 : options.top_k);
  if (!all || options.top_p_q16 < kOne) keys_.reserve(std::min(2 * size_t{options.top_k}, size_t{vocabulary.size}));
}

void Sampler::skip(uint64_t tokens) {
  for (uint64_t n = 0; n < 2 * tokens; ++n) random_.next();  // two numbers a draw; those of a greedy one do not matter
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
  const auto exclude = [&](auto value, auto from) {
    if (never_ < vocabulary_.size) from[never_] = value;
    for (Token token = 0; token < vocabulary_.size && !allowed.empty(); ++token) {
      if (!may_draw(token, allowed)) from[token] = value;
    }
  };
  exclude(std::numeric_limits<int32_t>::min(), std::span(logits_));  // never above the largest, by which softmax scales
  if (options_.greedy) return likeliest(allowed);

  const bool all = tokens_.empty();
  const size_t count = all ? vocabulary_.size : keep_top_k(allowed);
  const std::span<uint32_t> weights = std::span(weights_).first(count);
  softmax_weights(std::span(logits_).first(count), options_.temperature_q16, weights);
  if (all) exclude(0u, weights);
  if (options_.top_p_q16 < kOne) keep_top_p(weights);
  const uint32_t least = options_.min_p_q16 << (Gate::kFractionBits - 16);  // of the likeliest, which is 1
  for (uint32_t& weight : weights) weight = weight < least ? 0 : weight;
  const size_t drawn = draw(weights);
  return all ? static_cast<Token>(drawn) : tokens_[drawn];
}

Token Sampler::likeliest(std::span<const uint64_t> allowed) const {
  int32_t largest = std::numeric_limits<int32_t>::min();
  for (const int32_t logit : logits_) largest = std::max(largest, logit);  // a loop that compilers vectorise
  for (Token token = 0; token < vocabulary_.size; ++token) {
    if (logits_[token] == largest && may_draw(token, allowed)) return token;
  }
  TERN_CHECK(false);  // nothing may be drawn
}

uint64_t Sampler::key(size_t i) const {
  const auto rank = static_cast<uint64_t>(std::numeric_limits<int32_t>::max() - int64_t{logits_[i]});
  return rank << 32 | i;
}

size_t Sampler::keep_top_k(std::span<const uint64_t> allowed) {
  // The best k of the tokens so far, and up to k candidates: each time that it is full, only logits above the k-th, of
  // lower tokens all, are worth a look.  So each key is moved a few times at most, whatever the order of the logits.
  const size_t most = tokens_.size(), full = 2 * most;
  int64_t least = std::numeric_limits<int64_t>::min();
  const auto cut = [&] {
    if (keys_.size() <= most) return;
    const auto last = keys_.begin() + static_cast<std::ptrdiff_t>(most - 1);
    std::nth_element(keys_.begin(), last, keys_.end());
    least = logits_[static_cast<Token>(*last)];
    keys_.resize(most);
  };
  keys_.clear();
  for (Token token = 0; token < vocabulary_.size; ++token) {
    if (logits_[token] <= least || !may_draw(token, allowed)) continue;
    if (keys_.size() == full) cut();
    keys_.push_back(key(token));
  }
  cut();
  for (size_t i = 0; i < keys_.size(); ++i) tokens_[i] = static_cast<Token>(keys_[i]);
  std::sort(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(keys_.size()));
  for (size_t i = 0; i < keys_.size(); ++i) logits_[i] = logits_[tokens_[i]];
  return keys_.size();
}

void Sampler::keep_top_p(std::span<uint32_t> weights) {
  // Classes of weights, 32 to an octave, that fall as the logits do: only in the class where the probability is reached
  // does the order of its logits matter.
  const auto class_of = [](uint32_t weight) {
    const int octave = 26 - std::countl_zero(weight | 32);
    return static_cast<size_t>(octave) * 32 + (weight >> octave);
  };
  constexpr size_t kClasses = 26 * 32 + 32 + 1;  // that of 2^31 is the last
  std::array<uint64_t, kClasses> sums{};
  for (const uint32_t weight : weights) sums[class_of(weight)] += weight;

  uint64_t total = 0;
  for (const uint64_t sum : sums) total += sum;
  const auto product = [](uint64_t a, uint64_t b) { return std::pair(multiply_high(a, b), a * b); };  // 128 bits
  const auto wanted = product(total, options_.top_p_q16);
  uint64_t sum = 0;
  size_t last = kClasses - 1;
  while (product(sum + sums[last], kOne) < wanted) sum += sums[last--];

  // The weights of that class are low .. high - 1.
  const auto first_of = [](uint64_t c) { return c < 64 ? c : (c % 32 + 32) << (c / 32 - 1); };
  const uint64_t low = first_of(last), high = first_of(last + 1);
  keys_.clear();
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] - low < high - low) keys_.push_back(key(i));
  }
  for (uint32_t& weight : weights) weight = weight < low ? 0 : weight;
  std::sort(keys_.begin(), keys_.end());
  for (const uint64_t key : keys_) {
    uint32_t& weight = weights[static_cast<uint32_t>(key)];
    if (product(sum, kOne) >= wanted) weight = 0;
    sum += weight;
  }
}

size_t Sampler::draw(std::span<const uint32_t> weights) {
  const auto sum_of = [](std::span<const uint32_t> some) {
    uint64_t sum = 0;
    for (const uint32_t weight : some) sum += weight;
    return sum;
  };
  const uint64_t total = sum_of(weights);  // below 2^63: a vocabulary has fewer than 2^32 tokens
  TERN_CHECK(total != 0);
  // floor(random / 2^64 * total): no rejection, a bias below total / 2^64.  The tokens are walked in their own order,
  // so that the result cannot depend on how anything was sorted.
  const uint64_t high = random_.next();
  uint64_t left = multiply_high(high << 32 | random_.next(), total);
  constexpr size_t kStep = 256;
  size_t i = 0;
  for (uint64_t sum; left >= (sum = sum_of(weights.subspan(i, std::min(kStep, weights.size() - i)))); i += kStep)
    left -= sum;
  while (left >= weights[i]) left -= weights[i++];
  return i;
}

}  // namespace tern
