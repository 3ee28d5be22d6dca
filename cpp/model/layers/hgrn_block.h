// hgrn_block.h: the HGRN-bit block, and stacks of it: what flat and hierarchical models are both made of.
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

#include <string>
#include <vector>

#include "model/layers/bit_linear.h"
#include "model/layers/recurrence.h"
#include "model/layers/row_operations.h"
#include "model/settings.h"

namespace tern::hgrn {

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

  /// The settings that do not depend on a width.
  void read_common(Settings& settings);
};

inline constexpr uint32_t kMaxBlocks = 256;
inline constexpr uint32_t kMaxHidden = 16384;
inline constexpr uint32_t kMaxInner = 65536;  // recurrent and feed-forward width

struct Workspace : tern::Workspace {
  Buffer<Act> a{*this}, i{*this}, z{*this}, g{*this}, o{*this}, mixed{*this}, gate_up{*this}, mlp{*this};
  Buffer<Cell> s{*this};
};

struct Block {
  std::string part;  // its name where it is watched
  RmsNorm attn_norm;
  ShortConvolution conv;
  BitLinear attn_i, attn_f, attn_g;  // H -> E
  Recurrence recurrence;
  OutputGate gate;
  BitLinear attn_o;  // E -> H
  RmsNorm ffn_norm;
  BitLinear ffn_gate_up;  // H -> 2I, gate rows first
  BitLinear ffn_down;     // I -> H

  void list(TensorPlan& plan, const std::string& blk, const BlockConfig& config);
  void run(Workspace& w, MatrixView<Act> h) const;
};

struct Stack {
  std::vector<Block> blocks;

  /// The tensors PREFIX0.*, PREFIX1.*, ...; `part` in place of PREFIX where the blocks are watched.
  void list(TensorPlan& plan, const std::string& prefix, const std::string& part, uint32_t count,
            const BlockConfig& config);
  void run(Workspace& w, MatrixView<Act> h) const;
};

}  // namespace tern::hgrn
