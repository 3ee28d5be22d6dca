// model.h: a loaded model, whatever its architecture.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "format/gguf.h"
#include "model/batch.h"
#include "model/info.h"
#include "model/network.h"
#include "model/state.h"
#include "model/workspace.h"

namespace tern {

inline constexpr std::string_view kTokenizerKey = "tokenizer.huggingface.json";
inline constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

/// Constant, shared by any number of conversations and threads.
class Model {
 public:
  const ModelInfo& info() const { return info_; }
  /// The text of the tokenizer.json in the file, which the package reads; empty if there is none.
  const std::string& tokenizer() const { return tokenizer_; }

  /// The state of a new conversation of at most `most_tokens`, the one that begins it among them, where that has a
  /// price (see ModelInfo::context).  kOutOfMemory if not even a short one fits; see State::reserve() for the rest.
  Result<std::unique_ptr<State>> new_state(uint64_t most_tokens) const;
  uint64_t workspace_bytes() const;
  /// Scratch memory for one thread of control.  kOutOfMemory if it does not fit.
  Result<std::unique_ptr<Workspace>> new_workspace() const;

  /// Reads a batch, whose states must be different ones with room and memory for it (see State::reserve()).  What comes
  /// out is the same bit for bit however the tokens are divided into batches, and wherever work stops.
  ///   budget  about how many multiply-adds may be done; what is left is there afterwards
  ///   piece   how many may lie between two places where it stops, see Workspace::piece()
  /// True: done.  False: the budget is used up; the same call goes on.  Until then the states belong to the workspace,
  /// and any other batch in it puts them back to where they were.
  bool run(const Batch& batch, Workspace& workspace, uint64_t& budget, uint64_t piece) const;
  /// All of it.
  void run(const Batch& batch, Workspace& workspace) const;

 private:
  friend class ModelBuilder;
  /// Goes through the forward pass without doing anything, so that every buffer gets its largest shape.
  void shape(Workspace& workspace, Workspace::Mode mode) const;

  ModelInfo info_;
  std::string tokenizer_;
  StateLayout layout_;
  std::unique_ptr<Network> network_;
};

/// Makes a Model from what the GGUF reader delivers.
class ModelBuilder : public GgufSink {
 public:
  bool keeps(std::string_view key) const override { return key == kTokenizerKey || key == kTemplateKey; }
  Result<void> on_header(const GgufHeader& header) override;
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) override {
    return plan_->on_row(tensor, row, bytes);
  }

  /// After the last row: the model, ready to run.  Call once.
  std::shared_ptr<const Model> finish(uint64_t fingerprint, uint64_t file_bytes, bool checked);

 private:
  std::shared_ptr<Model> model_ = std::make_shared<Model>();
  std::optional<TensorPlan> plan_;
};

}  // namespace tern
