// rules.h: what an output must be and where it ends, as finite automata over its bytes.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/vocabulary.h"

namespace tern {

/// Two deterministic automata that walk along the output of one generation: the constraint, which says the tokens that
/// may come next, and the stop, which says when it is over.  Either may be missing.
///
/// Both are in one table, made elsewhere (web/src/constraints), with the bytes that each token stands for:
///   constraint    its states come first and begin with its first one; 0: there is none
///   stop          states, which follow
///   classes       of bytes that no state tells apart
///   class         [256] of each byte
///   distance      [states] the fewest bytes to an accepting state, 0 there
///   next          [states][classes] a state of the same automaton, or kNone
///   offsets       [size of the vocabulary + 1] where each token's bytes begin
///   bytes         four in a word, the first the lowest
/// From each state of the constraint there is a way to accept by tokens of one byte each, one byte nearer with each;
/// the stop never comes to kNone.
class Rules {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};

  /// kBadOption if the table is not of that form.
  static Result<Rules> read(std::span<const uint32_t> table, const Vocabulary& vocabulary);

  Rules(Rules&&) = default;  // the spans go on looking at the same table
  Rules& operator=(Rules&&) = default;

  bool has_constraint() const { return constraint_ != kNone; }

  /// The fewest tokens that end the output as the constraint wants it, if each is a byte.
  uint32_t distance() const { return has_constraint() ? distance_[constraint_] : 0; }

  /// The tokens that may come next, if the output can be ended within `tokens_left` bytes, this one among them; the end
  /// of the text where the constraint accepts.  As Sampler::next() takes them; empty if there is none.
  std::span<const uint64_t> allowed(uint64_t tokens_left);

  /// Walks on; true if the stop has accepted, at the end of the token or inside it.
  bool push(Token token);

 private:
  Rules() = default;
  uint32_t step(uint32_t state, uint8_t byte) const { return next_[state * classes_ + class_[byte]]; }
  uint32_t walk(uint32_t state, Token token) const;
  uint8_t byte(uint32_t at) const { return static_cast<uint8_t>(bytes_[at / 4] >> (8 * (at % 4))); }

  Vocabulary vocabulary_{};
  std::vector<uint32_t> table_;
  size_t classes_ = 0;
  std::span<const uint32_t> class_, distance_, next_, offsets_, bytes_;  // parts of the table
  uint32_t constraint_ = kNone, stop_ = kNone;                           // the states
  std::vector<uint64_t> allowed_;                                        // [size of the vocabulary / 64]
};

}  // namespace tern
