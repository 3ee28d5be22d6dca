// The closed set of architectures behind one type: the only place that knows which ones exist.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "base/result.h"
#include "format/gguf.h"
#include "model/hgrnbit.h"
#include "model/hnetbit.h"
#include "model/info.h"

namespace tern {

class Model;

/// What one conversation owns: recurrent state, and scratch memory that means nothing between calls.
class Context {
 public:
  explicit Context(const Model& model);

  /// The whole recurrent state, as the words save() stores and restore() puts back.
  std::span<int32_t> state();
  std::span<const int32_t> state() const;

  /// Of the last step() or prefill(), per token: bit s is set if a chunk of stage s begins there.
  /// Empty for a flat model.
  std::span<const uint8_t> boundaries() const;

 private:
  friend class Model;
  std::variant<hgrnbit::Memory, hnetbit::Memory> memory_;
};

/// A loaded model: constant, shared by any number of conversations and threads.
class Model {
 public:
  const ModelInfo& info() const { return info_; }

  /// State to zero.  The begin-of-text byte is the caller's to feed.
  void reset(Context& context) const;

  /// One token.  logits [kVocab] Q16.16: prediction of the next token.
  /// trace: empty, or room for trace_widths(): receives the residual stream h, Q16.16, after each block.
  void step(uint8_t token, Context& context, std::span<int32_t> logits, std::span<int32_t> trace = {}) const;

  /// 1 to kTile tokens at once; state and logits come out bit-identical to step() on each.
  /// logits: empty for no prediction, [kVocab] for the last token's only, or [tokens][kVocab] for every token's.
  void prefill(std::span<const uint8_t> tokens, Context& context, std::span<int32_t> logits) const;

  /// One token of each of 1 to kTile texts of this model, with the weights read once for all of them; states and logits
  /// [tokens][kVocab] come out bit-identical to step() on each.  No context may occur twice.
  void step_each(std::span<const uint8_t> tokens, std::span<Context* const> contexts, std::span<int32_t> logits) const;

  /// Width of h after each block, in the order in which the blocks run; those that a token skips leave zeros.
  std::vector<uint32_t> trace_widths() const;

 private:
  friend class Context;
  friend class ModelBuilder;
  void forward(std::span<const uint8_t> tokens, std::span<Context* const> contexts, std::span<int32_t> logits,
               std::span<int32_t> trace) const;

  ModelInfo info_;
  std::variant<hgrnbit::Network, hnetbit::Network> network_;
};

/// Makes a Model from what the GGUF reader delivers.
class ModelBuilder : public GgufSink {
 public:
  Result<void> on_header(const GgufHeader& header) override;
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) override;

  /// Memory that the weights take once they are here; 0 before the header.
  uint64_t memory_bytes() const;

  /// After the last row: the model, ready to run.  Call once.
  std::shared_ptr<const Model> finish(uint64_t fingerprint, uint64_t file_bytes);

 private:
  std::shared_ptr<Model> model_ = std::make_shared<Model>();
  std::variant<std::monostate, hgrnbit::Builder, hnetbit::Builder> builder_;
};

}  // namespace tern
