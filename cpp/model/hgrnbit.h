// HGRN-bit, the MatMul-free language model: gated linear recurrence and gated MLP, all matrices ternary.
// SPDX-License-Identifier: MIT
//
// Source: Zhu et al., "Scalable MatMul-free Language Modeling", arXiv 2406.02528, and the published checkpoints' code
// (github.com/ridgerchu/matmulfreellm).  As there, and unlike the paper's text, the norm of the output gate is on the
// gate; a file can ask for the other order.  Different here: bytes instead of a tokenizer, everything in integers, and
// the convolution and lower bounds are optional.
//
// Glossary: H hidden, E recurrent, I feed-forward width; K convolution taps; L layers; T tokens of a tile.
//   h  [T][H] residual stream      i, z, g  [T][E] input, forget and output gates before their nonlinearities
//   a  [T][H] normed input         s  [E] recurrent state, Q12.20; everything else is Q16.16
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/result.h"
#include "fixed/functions.h"
#include "format/gguf.h"
#include "model/blocks.h"
#include "model/info.h"
#include "model/tensor_plan.h"

namespace tern::hgrnbit {

// ---- Config ---------------------------------------------------------------------------------------------------------

enum class GateNorm { kGate, kState };  // which operand of the output gate is normed; the other goes through silu

struct Config {
  uint32_t layers = 0;
  uint32_t hidden = 0;
  uint32_t recurrent = 0;
  uint32_t feed_forward = 0;
  uint32_t conv_kernel = 0;  // taps, 0 = no convolution
  GateNorm gate_norm = GateNorm::kGate;
  Sigmoid sigmoid = Sigmoid::kTable;
  bool lower_bounds = false;
  Scale epsilon;

  uint32_t window_rows() const { return conv_kernel > 0 ? conv_kernel - 1 : 0; }
};

// ---- Weights --------------------------------------------------------------------------------------------------------

struct Layer {
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

struct Weights {
  std::vector<Act> embedding;  // [kVocab][H]
  std::vector<Layer> layers;
  std::vector<NormWeight> output_norm;  // [H]
  BitLinear output;                     // H -> kVocab
};

// ---- State and scratch ----------------------------------------------------------------------------------------------

struct LayerState {
  std::span<tern::State> s;  // [E]
  MatrixView<Act> window;    // [K - 1][H] inputs of the convolution before the next token, oldest first
};

struct Scratch {
  std::span<Act> h;               // [kTile][H]
  std::span<Act> window;          // [K - 1 + kTile][H]: before the tile, then a
  std::span<Act> a;               // [kTile][H]
  std::span<Act> i, z, g, o;      // [kTile][E]
  std::span<tern::State> states;  // [kTile][E]
  std::span<Act> gate_up, mlp;    // [kTile][2I], [kTile][I]
  std::span<Act> out;             // [kTile][max(H, kVocab)]
  BitLinearScratch bit_linear;
};

/// One conversation's memory, one allocation.
struct Memory {
  explicit Memory(const Config& config);

  Arena arena;
  std::span<int32_t> state;  // all layers' state: what is saved
  std::vector<LayerState> layers;
  Scratch scratch;
};

// ---- The network ----------------------------------------------------------------------------------------------------

class Network {
 public:
  Config config;
  Weights weights;

  /// 1 to kTile tokens.  logits: none (empty), [kVocab] of the last token, or [T][kVocab].
  /// trace: empty, or for one token [L][H]: h after each block.
  void forward(std::span<const uint8_t> tokens, Memory& memory, std::span<int32_t> logits,
               std::span<int32_t> trace) const;

 private:
  void block(const Layer& layer, const LayerState& state, size_t tokens, Scratch& scratch) const;
  void head(MatrixView<const Act> h, Scratch& scratch, std::span<int32_t> logits) const;
};

/// Fills a Network while its file streams in.  The network must stay where it is until finish().
class Builder {
 public:
  explicit Builder(Network* network) : network_(network) {}
  Result<void> on_header(const GgufHeader& header);
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) {
    return plan_.on_row(tensor, row, bytes);
  }
  void finish(ModelInfo& info);

 private:
  void list_tensors();

  Network* network_;
  TensorPlan plan_;
  std::vector<KeyValue> config_texts_;
};

}  // namespace tern::hgrnbit
