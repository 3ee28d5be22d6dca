// sampler.h: draws the next token from logits, in integers, the same tokens everywhere for the same seed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/vocabulary.h"

namespace tern {

inline constexpr uint32_t kAllTokens = ~uint32_t{0};

/// All reals are Q16.16 integers (65536 = 1.0).  The defaults change nothing: temperature 1, nothing cut.
struct SampleOptions {
  bool greedy = false;                      ///< the most likely token, no drawing
  uint32_t temperature_q16 = 65536;         ///< 1/65536 .. 100.0
  uint32_t top_k = kAllTokens;              ///< 1 .. size of the vocabulary: only the k most likely tokens; or all
  uint32_t top_p_q16 = 65536;               ///< (0, 1.0]: the fewest most likely tokens that reach this probability
  uint32_t min_p_q16 = 0;                   ///< [0, 1.0): only tokens at least this share as likely as the likeliest
  uint32_t repetition_penalty_q16 = 65536;  ///< 1.0 .. 10.0, for tokens among the last 256
  uint64_t seed = 0;
  bool raw = false;  ///< also bytes that do not continue well-formed UTF-8

  bool operator==(const SampleOptions&) const = default;
};

/// kBadOption with the range that was expected and the value found.
Result<void> validate(const SampleOptions& options, const Vocabulary& vocabulary);

/// PCG-XSH-RR 64/32 (O'Neill 2014, pcg-random.org): 64-bit state, 32-bit output, stream constant 54.
class Pcg32 {
 public:
  explicit Pcg32(uint64_t seed, uint64_t stream = 54);
  uint32_t next();

 private:
  uint64_t state_ = 0;
  uint64_t increment_;
};

/// One generation's sampler.  Copyable: a copy continues with the same tokens.  Its arrays are made once.
class Sampler {
 public:
  /// The options must be valid (see validate).
  Sampler(const Vocabulary& vocabulary, const SampleOptions& options);

  /// Draws a token.  Order: repetition penalty, mask, temperature, top-k, softmax, top-p, min-p, draw.  Ties go to the
  /// lower token; the one that begins a text is never drawn, unless it ends one, too.  Does not observe it: the caller
  /// observes every token it feeds to the model.
  ///   logits_q16  [size of the vocabulary]
  ///   allowed     the mask, [size / 64]: bit t % 64 of word t / 64 is set if token t may be drawn, which must be so of
  ///               one that does not begin a text; empty: all may be
  Token next(std::span<const int32_t> logits_q16, std::span<const uint64_t> allowed = {});

  /// As if so many tokens had been drawn.
  void skip(uint64_t tokens);

  /// Adds a token to the window of the repetition penalty: the last 256 tokens of prompt and output.
  void observe(Token token);

 private:
  static constexpr size_t kWindow = 256;

  Token likeliest(std::span<const uint64_t> allowed) const;
  size_t keep_top_k(std::span<const uint64_t> allowed);
  void keep_top_p(std::span<uint32_t> weights);
  size_t draw(std::span<const uint32_t> weights);
  uint64_t key(size_t i) const;
  bool may_draw(Token token, std::span<const uint64_t> allowed) const {
    return token != never_ && (allowed.empty() || (allowed[token / 64] >> (token % 64) & 1) != 0);
  }

  Vocabulary vocabulary_;
  Token never_;  // the one that begins a text; none where it also ends one
  SampleOptions options_;
  Pcg32 random_;
  std::vector<Token> window_;  // [observed, at most kWindow], a ring when full
  size_t oldest_ = 0;          // position in the ring that is overwritten next
  // Of the tokens that top-k left: all of the vocabulary, or those in tokens_, rising.
  std::vector<Token> tokens_;      // [top-k]; empty where all are left
  std::vector<int32_t> logits_;    // [size] after the penalty; those that are left come first
  std::vector<uint32_t> weights_;  // [top-k or size]
  std::vector<uint64_t> keys_;     // ascending keys are falling logits, and rising tokens where logits are equal
};

}  // namespace tern
