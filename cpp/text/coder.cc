// coder.cc: shares of 2^32 from softmax weights, and the interval that they narrow.
// SPDX-License-Identifier: MIT
#include "text/coder.h"

#include <algorithm>

#include "base/check.h"
#include "text/softmax.h"

namespace tern {
namespace {

constexpr uint64_t kShares = uint64_t{1} << 32;
constexpr uint64_t kLeast = uint64_t{1} << 40;  // of the range before a token: its 2^32 shares have 8 bits or more each
constexpr uint64_t kTop = uint64_t{1} << 56;
constexpr Token kNoToken = ~Token{0};

}  // namespace

std::optional<Token> Interval::narrow(std::span<const int32_t> logits_q16, Token token, uint64_t target) {
  weights_.resize(logits_q16.size());
  softmax_weights(logits_q16, 1 << 16, weights_);
  uint64_t sum = 0;
  for (const uint32_t weight : weights_) sum += weight;
  const uint64_t unit = range_ / kShares;
  uint64_t first = 0;
  for (Token k = 0; k < weights_.size(); ++k) {
    const uint64_t share = 1 + weights_[k] * (kShares - weights_.size()) / sum;
    if (k == token || first + share > target) {
      low_ += unit * first;
      range_ = unit * share;
      return k;
    }
    first += share;
  }
  return std::nullopt;
}

std::optional<uint8_t> Interval::take_byte() {
  if ((low_ ^ (low_ + (range_ - 1))) >= kTop) {
    if (range_ >= kLeast) return std::nullopt;
    range_ = -low_ & (kLeast - 1);  // up to where the first byte changes
  }
  const auto byte = static_cast<uint8_t>(low_ / kTop);
  low_ <<= 8;
  range_ <<= 8;
  return byte;
}

void Encoder::push(std::span<const int32_t> logits_q16, Token token) {
  TERN_CHECK(token < logits_q16.size());
  narrow(logits_q16, token, kShares);
  while (const std::optional<uint8_t> byte = take_byte()) code_.push_back(*byte);
}

std::vector<uint8_t> Encoder::finish() {
  // The number in the interval with the fewest bytes.
  for (int bits = 64; bits >= 0; bits -= 8) {
    const uint64_t below = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
    const uint64_t value = (low_ + below) & ~below;
    if (value < low_ || value - low_ >= range_) continue;
    for (int at = 56; at >= bits; at -= 8) code_.push_back(static_cast<uint8_t>(value >> at));
    break;
  }
  while (!code_.empty() && code_.back() == 0) code_.pop_back();
  return std::exchange(*this, Encoder()).code_;
}

Decoder::Decoder(std::vector<uint8_t> code) : code_(std::move(code)) {
  for (int n = 0; n < 8; ++n) read_byte();
}

void Decoder::read_byte() { value_ = value_ << 8 | (at_ < code_.size() ? code_[at_++] : 0); }

std::optional<Token> Decoder::next(std::span<const int32_t> logits_q16) {
  const uint64_t target = (value_ - low_) / (range_ / kShares);
  const std::optional<Token> token = narrow(logits_q16, kNoToken, target);
  while (token && take_byte()) read_byte();
  return token;
}

}  // namespace tern
