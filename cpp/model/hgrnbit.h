// HGRN-bit, the MatMul-free language model: one stack of gated linear recurrence and gated MLP, all matrices ternary.
// SPDX-License-Identifier: MIT
//
// The block, its source and its differences: model/hgrn_block.h.  Here bytes take the place of a tokenizer.
//
// Glossary: H hidden width; L layers; T tokens of a tile; h [T][H] residual stream, Q16.16.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/result.h"
#include "format/gguf.h"
#include "model/hgrn_block.h"
#include "model/info.h"
#include "model/tensor_plan.h"

namespace tern::hgrnbit {

// ---- Config ---------------------------------------------------------------------------------------------------------

struct Config {
  uint32_t layers = 0;
  hgrn::BlockConfig block;
};

// ---- Weights --------------------------------------------------------------------------------------------------------

struct Weights {
  std::vector<Act> embedding;  // [kVocab][H]
  hgrn::Stack layers;
  std::vector<NormWeight> output_norm;  // [H]
  BitLinear output;                     // H -> kVocab
};

// ---- State and scratch ----------------------------------------------------------------------------------------------

/// One conversation's memory, one allocation.
struct Memory {
  explicit Memory(const Config& config);

  Arena arena;
  std::span<int32_t> state;  // all layers' state: what is saved
  hgrn::StackState layers;
  std::span<Act> h;  // [kTile][H]
  hgrn::Scratch scratch;
};

// ---- The network ----------------------------------------------------------------------------------------------------

struct Network {
  using Memory = hgrnbit::Memory;

  Config config;
  Weights weights;

  /// 1 to kTile tokens, of one text or one of each of T texts.  logits: none (empty), [kVocab] of the last token, or
  /// [T][kVocab].  trace: empty, or for one token [L][H]: h after each block.
  void forward(std::span<const uint8_t> tokens, std::span<Memory* const> texts, std::span<int32_t> logits,
               std::span<int32_t> trace) const;

  std::vector<uint32_t> trace_widths() const { return std::vector(config.layers, config.block.hidden); }
};

/// Fills a Network while its file streams in.  The network must stay where it is until finish().
class Builder {
 public:
  explicit Builder(Network* network) : network_(network) {}
  Result<void> on_header(const GgufHeader& header);
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) {
    return plan_.on_row(tensor, row, bytes);
  }
  uint64_t memory_bytes() const { return plan_.memory_bytes(); }
  void finish(ModelInfo& info);

 private:
  void list_tensors();

  Network* network_;
  TensorPlan plan_;
  std::vector<KeyValue> config_texts_;
};

}  // namespace tern::hgrnbit
