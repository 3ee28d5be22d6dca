// The HGRN-bit block, and stacks of it: what the flat and the hierarchical architecture are both made of.
// SPDX-License-Identifier: MIT
//
// Source: Zhu et al., "Scalable MatMul-free Language Modeling", arXiv 2406.02528, and the published checkpoints' code
// (github.com/ridgerchu/matmulfreellm).  As there, and unlike the paper's text, the norm of the output gate is on the
// gate; a file can ask for the other order.  Different here: everything in integers, and the convolution and lower
// bounds are optional.
//
// Glossary: H hidden, E recurrent, I feed-forward width; K convolution taps; T tokens of a tile.
//   h  [T][H] residual stream      i, z, g  [T][E] input, forget and output gates before their nonlinearities
//   a  [T][H] normed input         s  [E] recurrent state, Q12.20; everything else is Q16.16
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/arena.h"
#include "fixed/functions.h"
#include "format/gguf.h"
#include "model/blocks.h"
#include "model/settings.h"
#include "model/tensor_plan.h"

namespace tern::hgrn {

// ---- Config ---------------------------------------------------------------------------------------------------------

enum class GateNorm { kGate, kState };  // which operand of the output gate is normed; the other goes through silu

/// Of all blocks of a stack.
struct BlockConfig {
  uint32_t hidden = 0;
  uint32_t recurrent = 0;
  uint32_t feed_forward = 0;
  uint32_t conv_kernel = 0;  // taps, 0 = no convolution
  GateNorm gate_norm = GateNorm::kGate;
  Sigmoid sigmoid = Sigmoid::kTable;
  bool lower_bounds = false;
  Scale epsilon;

  uint32_t window_rows() const { return conv_kernel > 0 ? conv_kernel - 1 : 0; }
  uint64_t state_words() const { return recurrent + uint64_t{window_rows()} * hidden; }  // of one block
};

inline constexpr uint32_t kMaxBlocks = 256;
inline constexpr uint32_t kMaxHidden = 16384;
inline constexpr uint32_t kMaxInner = 65536;  // recurrent and feed-forward width

/// The settings that do not depend on a width: epsilon, convolution, order of the output gate, sigmoid, lower bounds.
BlockConfig read_common(Settings& settings, const GgufHeader& header);

// ---- Weights --------------------------------------------------------------------------------------------------------

struct Block {
  std::vector<NormWeight> attn_norm;  // [H]
  std::vector<NormWeight> conv;       // [K][H], or empty
  std::vector<Gate> keep;             // [E] 1 - lower bound of the forget gate, or empty
  BitLinear attn_i, attn_f, attn_g;   // H -> E
  std::vector<NormWeight> gate_norm;  // [E]
  BitLinear attn_o;                   // E -> H
  std::vector<NormWeight> ffn_norm;   // [H]
  BitLinear ffn_gate_up;              // H -> 2I, gate rows first
  BitLinear ffn_down;                 // I -> H
};

using Stack = std::vector<Block>;

/// Lists the tensors PREFIX0.*, PREFIX1.*, ... of a stack, which has its size already.
void list_tensors(TensorPlan& plan, const std::string& prefix, const BlockConfig& config, Stack& stack);

// ---- State and scratch ----------------------------------------------------------------------------------------------

struct BlockState {
  std::span<tern::State> s;  // [E]
  MatrixView<Act> window;    // [K - 1][H] inputs of the convolution before the next token, oldest first
};

using StackState = std::vector<BlockState>;

/// Typed views of the next blocks * state_words() words, which are taken off the front of `words`.
StackState take_state(const BlockConfig& config, size_t blocks, std::span<int32_t>& words);

struct Scratch {
  std::span<Act> window;          // [K - 1 + kTile][H]: before the tile, then a
  std::span<Act> a;               // [kTile][H]
  std::span<Act> i, z, g, o;      // [kTile][E]
  std::span<tern::State> states;  // [kTile][E]
  std::span<Act> gate_up, mlp;    // [kTile][2I], [kTile][I]
  std::span<Act> out;             // [kTile][max(H, kVocab)]
  BitLinearScratch bit_linear;
};

/// Enough for blocks of `widest` and narrower ones, and for the head.
Scratch take_scratch(const BlockConfig& widest, Arena& arena);

// ---- The forward pass -----------------------------------------------------------------------------------------------

/// Rows of a buffer that is as large as any tile needs: [rows][width].
template <class T>
MatrixView<T> rows_of(std::span<T> buffer, size_t rows, size_t width) {
  TERN_CHECK(rows * width <= buffer.size());
  return {buffer.data(), rows, width};
}

/// The tokens' rows of an embedding [kVocab][H] -> h [T][H].
void embed(std::span<const Act> embedding, std::span<const uint8_t> tokens, MatrixView<Act> h);

/// Whose rows a tile holds: one text's, one after the other ([1]), or one row of each of several texts ([T]).
using BlockStates = std::span<const BlockState* const>;
using StackStates = std::span<const StackState* const>;

/// h [T][H] through one block.
void run_block(const BlockConfig& config, const Block& block, BlockStates texts, MatrixView<Act> h, Scratch& scratch);

/// h [T][H] through a stack.  `trace`: empty, or for one token: h after each block goes to its front, which moves on.
void run_stack(const BlockConfig& config, const Stack& stack, StackStates texts, MatrixView<Act> h, Scratch& scratch,
               std::span<int32_t>& trace);

/// logits [T][kVocab] of h [T][H], which is normed already.
void predict(const BitLinear& head, MatrixView<const Act> h, Scale epsilon, Scratch& scratch,
             std::span<int32_t> logits);

}  // namespace tern::hgrn
