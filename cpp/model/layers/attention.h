// attention.h: grouped-query attention over the positions of a text so far, with rotated queries and keys.
// SPDX-License-Identifier: MIT
//
// Source: Vaswani et al., arXiv 1706.03762; Su et al. (rotation), arXiv 2104.09864; Ainslie et al. (groups), arXiv
// 2305.13245; pairs of a head are c and c + W/2, as huggingface/transformers has them.  Different here: a text
// remembers keys and values as int8 codes, and everything is integers.
//
// Glossary: N query heads, G key/value heads, each for N / G query heads, W width of a head; T tokens of a tile.
#pragma once

#include <vector>

#include "model/layers/ternary_linear.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

inline constexpr uint32_t kMaxHeadWidth = 256;

/// How far a pair is turned: cosine and sine in Q1.30.
struct Turn {
  int32_t cos, sin;
};

/// What a position remembers of a key or value head: integers of 31 bits or less as codes, largest magnitude 127.
/// In its words: codes [W] int8 of key and value, then both scales.
struct Attention {
  uint32_t heads = 0, kv_heads = 0, width = 0;
  size_t memory = 0;  // where [G] such heads are in the words of a position

  static size_t words(uint32_t kv_heads, uint32_t width) { return size_t{kv_heads} * (width / 2 + 4); }
  void list(TensorPlan& plan) { memory = plan.state_per_position(words(kv_heads, width)); }
};

/// A query head's mean of values, as integers that are worth `factor` each.
struct HeadMean {
  Scale factor, largest;  // what the largest of them is worth
};

/// What attention needs between its steps.
struct AttentionRoom {
  explicit AttentionRoom(Workspace& w) : turns(w), weights(w), means(w) {}
  Buffer<Turn> turns;       // [T][W/2] of each token's position
  Buffer<int32_t> weights;  // [threads that can take part][positions of a text]
  Buffer<HeadMean> means;   // [1][N]
};

/// The turns of the tokens' positions: position * frequency, in 2^-32 of a turn, wraps by itself.  A frequency is
/// rounded by 2^-33 of a turn, so the angle at position 4,095 is off by 3e-6, sine and cosine by less than 4e-6.
void find_turns(Workspace& w, AttentionRoom& room, size_t tokens, std::span<const uint32_t> frequencies);

/// Writes keys (which are turned) and values [T][G W] into the texts.
void remember(Workspace& w, const AttentionRoom& room, const ScaledRows& keys, const ScaledRows& values,
              const Attention& attention);

/// y [T][N W]: for each query head (which is turned) of queries [T][N W] the mean of the values up to its position,
/// with weights exp(q k / sqrt(W)).  context: most positions of a text.  Heads are shared out among the threads.
void attend(Workspace& w, AttentionRoom& room, ScaledRows& y, const ScaledRows& queries, const Attention& attention,
            uint32_t context);

// ---- Its parts, for tests -------------------------------------------------------------------------------------------

/// What a pair of this frequency is turned by at a position.
Turn turn_of(uint32_t position, uint32_t frequency);

/// x [W] turned, with 8 more fraction bits; |x| <= 2^21, so products and sums stay below 2^53.  turns [W/2]
void rotate(std::span<const int32_t> x, std::span<const Turn> turns, std::span<int32_t> y);

/// Where a query head finds keys and values: of the position p of a page (see State) they begin at its word
/// p * stride + memory.
struct Remembered {
  std::span<int32_t* const> pages;
  size_t memory, stride;
  size_t count;  // positions
};

/// sums [W] = sum over positions of a_p times the value's codes, exact, with a_p below or equal 2^24: each position's
/// share (the largest 2^31) times its value's scale, of which the largest exponent keeps 24 bits.  Returns what the
/// sums have to be multiplied by.  query [W]: codes, each worth `scale`; weights: room for `count` numbers.
Scale attend_to(std::span<const int16_t> query, Scale scale, const Remembered& remembered, std::span<int32_t> weights,
                std::span<int64_t> sums);

}  // namespace tern
