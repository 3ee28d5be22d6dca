// softmax.h: probabilities and information content from logits, in integers.
#pragma once

#include <cstdint>
#include <span>

#include "base/vocabulary.h"
#include "fixed/fixed.h"

namespace tern {

/// -log2 softmax(logits)[token] in bits: what it costs to code this token.  logits Q16.16, one per token.
Bits surprisal(std::span<const int32_t> logits_q16, Token token);

/// weights[i] = 2^31 * exp((logits[i] - max) / temperature), Q0.31; the largest is 2^31.  As many as logits, not
/// normalised.
void softmax_weights(std::span<const int32_t> logits_q16, uint32_t temperature_q16, std::span<uint32_t> weights);

}  // namespace tern
