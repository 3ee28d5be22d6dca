// model.cc: which architectures there are, what they need, and one batch through one of them.
// SPDX-License-Identifier: MIT
#include "model/model.h"

#include <algorithm>

#include "base/check.h"
#include "base/memory.h"
#include "model/settings.h"

namespace tern {

#define TERN_ARCHITECTURE(name) std::unique_ptr<Network> make_##name();
#include "model/architectures.inc"
#undef TERN_ARCHITECTURE

namespace {

struct Architecture {
  const char* name;
  std::unique_ptr<Network> (*make)();
};

constexpr Architecture kArchitectures[] = {
#define TERN_ARCHITECTURE(name) {#name, make_##name},
#include "model/architectures.inc"
#undef TERN_ARCHITECTURE
};

Error too_large(const char* what, uint64_t bytes) {
  return error_f(ErrorCode::kOutOfMemory, "%s needs %llu bytes, which cannot be had here", what,
                 static_cast<unsigned long long>(bytes));
}

}  // namespace

// ---- Memory ---------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<State>> Model::new_state(uint64_t most_tokens) const {
  const uint64_t bytes = sizeof(int32_t) * layout_.fixed + State::page_bytes(layout_);
  if (!affords(bytes)) return too_large("a conversation", bytes);
  auto state = std::make_unique<State>(layout_, info_.context == 0 ? 0 : std::min(most_tokens, info_.context));
  if (!state->reserve(std::min<uint64_t>(1, state->capacity()))) return too_large("a conversation", bytes);
  return state;
}

uint64_t Model::workspace_bytes() const {
  const auto measured = network_->make_workspace();
  shape(*measured, Workspace::Mode::kMeasuring);
  return measured->bytes_;
}

Result<std::unique_ptr<Workspace>> Model::new_workspace() const {
  if (!affords(workspace_bytes())) return too_large("working with the model", workspace_bytes());
  std::unique_ptr<Workspace> workspace = network_->make_workspace();
  shape(*workspace, Workspace::Mode::kGrowing);
  return workspace;
}

void Model::shape(Workspace& workspace, Workspace::Mode mode) const {
  workspace.mode_ = mode;
  const Token tokens[kTile] = {};
  State* const states[] = {nullptr};
  workspace.logits.shape(kTile, info_.vocabulary.size);
  const Batch batch{.tokens = tokens, .states = states, .want = Want::kAll};
  workspace.texts = {states, workspace.token_indices_};
  network_->forward(batch, workspace);
  workspace.before_.reserve(mode == Workspace::Mode::kGrowing ? layout_.fixed : 0);
  workspace.bytes_ += sizeof(int32_t) * layout_.fixed;
  workspace.mode_ = Workspace::Mode::kReady;
}

// ---- A batch --------------------------------------------------------------------------------------------------------

bool Model::run(const Batch& batch, Workspace& workspace, uint64_t& budget, uint64_t piece) const {
  const size_t T = batch.tokens.size();
  TERN_CHECK(T >= 1 && T <= kTile && (batch.states.size() == 1 || batch.states.size() == T));
  TERN_CHECK(batch.logits.size() == batch.wanted() * info_.vocabulary.size);
  for (const Token token : batch.tokens) TERN_CHECK(token < info_.vocabulary.size);
  for (State* state : batch.states) TERN_CHECK(state->reserve(state->length() + T / batch.states.size()));
  if (budget == 0) return false;
  workspace.enter(batch, budget, piece);
  network_->forward(batch, workspace);
  budget = workspace.left_;
  return workspace.leave(batch.observer);
}

void Model::run(const Batch& batch, Workspace& workspace) const {
  uint64_t budget = kNoLimit;
  TERN_CHECK(run(batch, workspace, budget, kNoLimit));
}

// ---- File -----------------------------------------------------------------------------------------------------------

namespace {

/// The texts and whole numbers that describe the model, for a model card.
std::vector<KeyValue> describing_metadata(const GgufHeader& header) {
  std::vector<KeyValue> texts;
  for (const GgufValue& value : header.metadata) {
    if (!value.key.starts_with("general.") && !value.key.starts_with("tokenizer.")) continue;
    if (value.key == kTokenizerKey) continue;  // megabytes
    switch (value.type) {
      case GgufType::kString:
        texts.push_back({value.key, value.text});
        break;
      case GgufType::kBool:
        texts.push_back({value.key, value.bits != 0 ? "true" : "false"});
        break;
      case GgufType::kI8:
      case GgufType::kI16:
      case GgufType::kI32:
      case GgufType::kI64:
        texts.push_back({value.key, std::to_string(static_cast<int64_t>(value.bits))});
        break;
      case GgufType::kU8:
      case GgufType::kU16:
      case GgufType::kU32:
      case GgufType::kU64:
        texts.push_back({value.key, std::to_string(value.bits)});
        break;
      case GgufType::kF32:
      case GgufType::kF64:
      case GgufType::kArray:
        break;
    }
  }
  return texts;
}

/// Ternary transformers as llama.cpp and microsoft/BitNet write them, which scripts/convert.py reads.
bool is_of_others(const GgufHeader& header) {
  const GgufValue* found = header.find("general.architecture");
  if (found == nullptr || found->type != GgufType::kString) return false;
  const std::string& name = found->text;
  if (name == "bitnet") return header.find("bitnet.attention.head_count") != nullptr;
  return name == "bitnet-25" || name == "bitnet-b1.58" || name == "llama";
}

}  // namespace

Result<void> ModelBuilder::on_header(const GgufHeader& header) {
  ModelInfo& info = model_->info_;
  Settings general(header, "general."), tokenizer(header, "tokenizer.ggml.");
  const size_t choice = general.choice("architecture", {
#define TERN_ARCHITECTURE(name) #name,
#include "model/architectures.inc"
#undef TERN_ARCHITECTURE
                                                       });
  if (is_of_others(header)) {
    return error_f(ErrorCode::kUnsupported,
                   "a model file of llama.cpp (%s): convert it with scripts/convert.py; load() in a page, or "
                   "fromOtherGguf() of ternlm/gguf, does so while it arrives",
                   header.find("general.architecture")->text.c_str());
  }
  if (!general.result().ok()) return general.result();
  const Architecture& architecture = kArchitectures[choice];
  info.architecture = architecture.name;
  const GgufValue* name = header.find("general.name");
  info.name = name != nullptr && name->type == GgufType::kString ? name->text : info.architecture;
  info.metadata = describing_metadata(header);
  const GgufValue* text = header.find(kTokenizerKey);
  if (text != nullptr && text->type == GgufType::kString) model_->tokenizer_ = text->text;

  model_->network_ = architecture.make();
  Settings settings(header, info.architecture + ".");
  model_->network_->read(settings, info);
  if (!settings.result().ok()) return settings.result();
  info.config = settings.texts();
  // Only bytes are tokens that the engine knows the text of; others are numbers to it.
  const bool bytes = tokenizer.choice("model", {"byte", "gpt2", "llama"}) == 0;
  const uint32_t last = info.vocabulary.size - 1;
  info.vocabulary.bos = tokenizer.integer("bos_token_id", bytes ? kBytes.bos : 0, bytes ? kBytes.bos : last);
  info.vocabulary.eos = tokenizer.integer("eos_token_id", bytes ? kBytes.eos : 0, bytes ? kBytes.eos : last);
  if (bytes && info.vocabulary.size != kBytes.size) {
    settings.refuse("vocab_size", "256, one token for each byte", std::to_string(info.vocabulary.size));
  }
  if (!tokenizer.result().ok()) return tokenizer.result();
  if (!settings.result().ok()) return settings.result();

  plan_.emplace(header);
  model_->network_->list(*plan_, info.vocabulary);
  Result<void> matched = plan_->match();
  if (!matched.ok()) return matched;

  model_->layout_ = plan_->layout();
  if (model_->layout_.per_position == 0) info.context = 0;
  info.state_bytes = sizeof(int32_t) * model_->layout_.words(info.context);
  info.state_bytes_per_token = sizeof(int32_t) * model_->layout_.per_position;
  const uint64_t conversation = sizeof(int32_t) * model_->layout_.fixed + State::page_bytes(model_->layout_);
  const uint64_t needed = plan_->memory_bytes() + conversation + model_->workspace_bytes();
  const auto lacking = [&](const char* have) {
    return error_f(ErrorCode::kOutOfMemory,
                   "the model needs %llu bytes, %s: expected a smaller model (a short conversation takes %llu of them)",
                   static_cast<unsigned long long>(needed), have, static_cast<unsigned long long>(conversation));
  };
  if (needed > most_memory()) {
    return lacking(("here the engine can have " + std::to_string(most_memory())).c_str());
  }
  // Before its data comes: in WebAssembly the memory has that size from here on, of which nothing is touched yet.
  if (!affords(needed)) return lacking("which cannot be had here now");
  return {};
}

std::shared_ptr<const Model> ModelBuilder::finish(uint64_t fingerprint, uint64_t file_bytes, bool checked) {
  plan_->finish(model_->info_);
  model_->info_.fingerprint = fingerprint;
  model_->info_.file_bytes = file_bytes;
  model_->info_.checked = checked;
  return std::move(model_);
}

}  // namespace tern
