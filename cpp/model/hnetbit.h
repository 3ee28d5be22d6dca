// HNet-bit, the hierarchical language model: stages of HGRN-bit blocks around an inner network that runs once per
// chunk. SPDX-License-Identifier: MIT
//
// Source: Hwang et al., "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling", arXiv 2507.07955, with the
// blocks of model/hgrn_block.h in place of attention and Mamba-2.  Different here: int8 matrices around the router, the
// router may be narrower than its stage, and everything in integers.
//
// Levels 0 .. S - 1 are stages; level S is the innermost stack.  Each level sees one row per chunk of the level before;
// level 0 sees one row per byte.
//
// Glossary: S stages; d width of a level, not decreasing; R router width; T rows of a tile; C chunks among them.
//   x  [T][d] a level's rows, Q16.16: what comes in, then e behind the encoder, then what goes out
//   q, k  [T][R] router      p  [T] probability of a chunk's begin, 0 = none      z  [d] average over chunks, Q12.20
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/result.h"
#include "format/gguf.h"
#include "model/chunking.h"
#include "model/hgrn_block.h"
#include "model/info.h"
#include "model/tensor_plan.h"

namespace tern::hnetbit {

inline constexpr size_t kMaxStages = 8;  // one bit each in a byte's boundary mask

// ---- Config ---------------------------------------------------------------------------------------------------------

struct StageConfig {
  hgrn::BlockConfig block;  // of encoder and decoder
  uint32_t encoder_blocks = 0;
  uint32_t decoder_blocks = 0;
  uint32_t router = 0;  // R

  uint64_t state_words() const;
};

struct Config {
  std::vector<StageConfig> stages;
  hgrn::BlockConfig inner;
  uint32_t inner_blocks = 0;

  const hgrn::BlockConfig& block(size_t level) const { return level < stages.size() ? stages[level].block : inner; }
  uint64_t state_words() const;
};

// ---- Weights --------------------------------------------------------------------------------------------------------

struct Stage {
  hgrn::Stack encoder;
  std::vector<NormWeight> encoder_norm;  // [d]
  DenseLinear router_q, router_k;        // d -> R
  std::vector<Act> pad;                  // [d of the next level - d]
  DenseLinear residual;                  // d -> d
  hgrn::Stack decoder;
  std::vector<NormWeight> decoder_norm;  // [d]
};

struct Weights {
  std::vector<Act> embedding;  // [kVocab][d of level 0]
  std::vector<Stage> stages;
  hgrn::Stack inner;
  std::vector<NormWeight> inner_norm;
  BitLinear output;              // d of level 0 -> kVocab
  std::vector<NormWeight> ones;  // [largest d]: the norm of layers that have none
};

// ---- State and scratch ----------------------------------------------------------------------------------------------

struct StageState {
  hgrn::StackState encoder, decoder;
  std::span<int32_t> started;  // [1] 0 before the first row
  std::span<Act> q;            // [R] of the last row
  std::span<State> z;          // [d]
};

struct StageScratch {
  std::span<Act> q, k;      // [kTile][R]
  std::span<Act> residual;  // [kTile][d]
  std::span<Gate> p;        // [kTile]
};

/// One conversation's memory, one allocation.
struct Memory {
  explicit Memory(const Config& config);

  Arena arena;
  std::span<int32_t> state;  // all levels' state: what is saved
  std::vector<StageState> stages;
  hgrn::StackState inner;

  std::vector<std::span<Act>> x;                     // per level [kTile][d]
  std::vector<std::array<uint8_t, kTile>> token_of;  // per level: which token of the tile each row belongs to
  std::vector<StageScratch> routed;                  // per stage
  hgrn::Scratch scratch;                             // for the widest level
  std::array<uint8_t, kTile> boundaries{};           // of the last tile's tokens: bit s = stage s begins a chunk
  size_t tokens = 0;                                 // of the last tile
};

// ---- The network ----------------------------------------------------------------------------------------------------

class Network {
 public:
  using Memory = hnetbit::Memory;

  Config config;
  Weights weights;

  /// 1 to kTile tokens, of one text or one of each of T texts.  logits: none (empty), [kVocab] of the last token, or
  /// [T][kVocab].  trace: empty, or for one token h after each block, with zeros for blocks that did not run.
  void forward(std::span<const uint8_t> tokens, std::span<Memory* const> texts, std::span<int32_t> logits,
               std::span<int32_t> trace) const;

  std::vector<uint32_t> trace_widths() const;

 private:
  /// The rows of a level, and whose they are: one text's, or each of the text of its token.
  struct Rows;
  void run_level(const Rows& rows, std::span<int32_t>& trace) const;
  void route(const Stage& stage, const Rows& rows, MatrixView<const Act> e) const;
  static size_t chunk(const Stage& stage, const Rows& rows, MatrixView<const Act> e);
  static void dechunk(const Rows& rows, MatrixView<const Act> chunks, MatrixView<Act> x);
  std::vector<uint32_t> trace_widths_from(size_t level) const;
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
  void list_tensors(const GgufHeader& header);

  Network* network_;
  TensorPlan plan_;
  std::vector<KeyValue> config_texts_;
};

}  // namespace tern::hnetbit
