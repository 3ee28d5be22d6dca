// coder.h: arithmetic coding in integers: tokens as one long number, each in about as many bits as it was unlikely.
// SPDX-License-Identifier: MIT
//
// A range coder without carries (Subbotin 1999) over 64 bits: an interval [low, low + range) of the numbers below 2^64
// is narrowed to the share of each token, and its first byte goes out as soon as all of it has that byte.
// models/SPEC.md says it in Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/vocabulary.h"

namespace tern {

/// What both directions do alike.
class Interval {
 protected:
  /// To the share of the first token that is `token`, or whose share goes beyond `target`, both in units of 2^-32.
  /// A token has 1, and of what the others leave its part of the softmax: none is impossible.  Nothing if there is
  /// none.
  std::optional<Token> narrow(std::span<const int32_t> logits_q16, Token token, uint64_t target);
  /// Whether a byte is known, which is then taken from the interval.
  std::optional<uint8_t> take_byte();

  uint64_t low_ = 0;
  uint64_t range_ = ~uint64_t{0};

 private:
  std::vector<uint32_t> weights_;  // [vocabulary]
};

class Encoder : Interval {
 public:
  /// logits: the prediction of the token
  void push(std::span<const int32_t> logits_q16, Token token);
  /// The whole code; zeros at its end count for nothing and are not there.
  std::vector<uint8_t> finish();

 private:
  std::vector<uint8_t> code_;
};

class Decoder : Interval {
 public:
  explicit Decoder(std::vector<uint8_t> code = {});
  /// Nothing: the code is of no encoder.
  std::optional<Token> next(std::span<const int32_t> logits_q16);

 private:
  void read_byte();

  std::vector<uint8_t> code_;
  size_t at_ = 0;
  uint64_t value_ = 0;  // the 64 bits of the code where the interval is
};

}  // namespace tern
