// softmax.h: probabilities and information content from logits, in integers.
#pragma once

#include <cstdint>
#include <span>

#include "base/vocabulary.h"
#include "fixed/fixed.h"

namespace tern {

/// -log2 softmax(logits)[token] in bits: what it costs to code this token.  logits Q16.16, one per token.
Bits surprisal(std::span<const int32_t> logits_q16, Token token);

/// What a token cost where it came, and what the model expected there.
struct TokenScore {
  uint64_t bits_q32 = 0;     ///< surprisal(), Q32.32
  uint32_t entropy_q24 = 0;  ///< the mean of surprisal() over the distribution in bits, Q8.24: error below 1e-5
  uint32_t rank = 0;         ///< tokens that were likelier; of equal ones the lower
};

struct Likely {
  Token token = 0;
  uint32_t probability_q31 = 0;  ///< Q1.31: 2^31 is certain
};

/// Scores `token` and fills `top` with the most likely tokens, falling; of equal ones the lower comes first.
///   top  at most as many as logits
TokenScore score_token(std::span<const int32_t> logits_q16, Token token, std::span<Likely> top = {});

/// weights[i] = 2^31 * exp((logits[i] - max) / temperature), Q0.31; the largest is 2^31.  As many as logits, not
/// normalised.
void softmax_weights(std::span<const int32_t> logits_q16, uint32_t temperature_q16, std::span<uint32_t> weights);

}  // namespace tern
