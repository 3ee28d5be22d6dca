// Dispatch to the architecture in the file; the only switch over architectures.
// SPDX-License-Identifier: MIT
#include "model/model.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "base/check.h"
#include "model/settings.h"

namespace tern {

// ---- Context --------------------------------------------------------------------------------------------------------

template <class Network>
using MemoryOf = typename std::remove_cvref_t<Network>::Memory;

Context::Context(const Model& model)
    : memory_(std::visit(
          [](const auto& network) -> decltype(memory_) { return MemoryOf<decltype(network)>(network.config); },
          model.network_)) {}

std::span<int32_t> Context::state() {
  return std::visit([](auto& memory) { return memory.state; }, memory_);
}

std::span<const int32_t> Context::state() const {
  return std::visit([](const auto& memory) { return std::span<const int32_t>(memory.state); }, memory_);
}

std::span<const uint8_t> Context::boundaries() const {
  const auto* memory = std::get_if<hnetbit::Memory>(&memory_);
  if (memory == nullptr) return {};
  return std::span(memory->boundaries).first(memory->tokens);
}

// ---- Model ----------------------------------------------------------------------------------------------------------

void Model::reset(Context& context) const { std::ranges::fill(context.state(), 0); }

void Model::step(uint8_t token, Context& context, std::span<int32_t> logits, std::span<int32_t> trace) const {
  Context* const contexts[] = {&context};
  forward({&token, 1}, contexts, logits, trace);
}

void Model::prefill(std::span<const uint8_t> tokens, Context& context, std::span<int32_t> logits) const {
  Context* const contexts[] = {&context};
  forward(tokens, contexts, logits, {});
}

void Model::step_each(std::span<const uint8_t> tokens, std::span<Context* const> contexts,
                      std::span<int32_t> logits) const {
  TERN_CHECK(contexts.size() == tokens.size() && logits.size() == tokens.size() * kVocab);
  forward(tokens, contexts, logits, {});
}

void Model::forward(std::span<const uint8_t> tokens, std::span<Context* const> contexts, std::span<int32_t> logits,
                    std::span<int32_t> trace) const {
  TERN_CHECK(contexts.size() <= kTile);
  std::visit(
      [&](const auto& network) {
        using Memory = MemoryOf<decltype(network)>;
        std::array<Memory*, kTile> texts;
        for (size_t n = 0; n < contexts.size(); ++n) texts[n] = &std::get<Memory>(contexts[n]->memory_);
        network.forward(tokens, std::span(texts).first(contexts.size()), logits, trace);
      },
      network_);
}

std::vector<uint32_t> Model::trace_widths() const {
  return std::visit([](const auto& network) { return network.trace_widths(); }, network_);
}

// ---- ModelBuilder ---------------------------------------------------------------------------------------------------

namespace {

/// What can be asked for: WebAssembly has 2 GB, of which a conversation and the rest need some.
constexpr uint64_t kMostMemory = sizeof(void*) == 4 ? (uint64_t{1} << 31) - (uint64_t{1} << 26) : ~uint64_t{0};

/// The texts and whole numbers that describe the model, for a model card.
std::vector<KeyValue> describing_metadata(const GgufHeader& header) {
  std::vector<KeyValue> texts;
  for (const GgufValue& value : header.metadata) {
    if (!value.key.starts_with("general.") && !value.key.starts_with("tokenizer.")) continue;
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

}  // namespace

Result<void> ModelBuilder::on_header(const GgufHeader& header) {
  Settings tokenizer(header, "tokenizer.ggml.");
  Settings general(header, "general.");
  const size_t architecture = general.choice("architecture", {"hgrnbit", "hnetbit"});
  if (!general.result().ok()) return general.result();
  tokenizer.choice("model", {"byte"});
  tokenizer.integer("bos_token_id", kBos, kBos);
  tokenizer.integer("eos_token_id", kEos, kEos);
  if (!tokenizer.result().ok()) return tokenizer.result();

  ModelInfo& info = model_->info_;
  info.architecture = header.find("general.architecture")->text;
  const GgufValue* name = header.find("general.name");
  info.name = name != nullptr && name->type == GgufType::kString ? name->text : info.architecture;
  info.metadata = describing_metadata(header);
  auto& network = model_->network_;
  const Result<void> accepted =
      architecture == 0 ? builder_.emplace<hgrnbit::Builder>(&network.emplace<hgrnbit::Network>()).on_header(header)
                        : builder_.emplace<hnetbit::Builder>(&network.emplace<hnetbit::Network>()).on_header(header);
  if (!accepted.ok()) return accepted;
  if (memory_bytes() > kMostMemory) {
    return error_f(ErrorCode::kOutOfMemory,
                   "the model needs %llu bytes, here the engine can have %llu: expected a smaller model",
                   static_cast<unsigned long long>(memory_bytes()), static_cast<unsigned long long>(kMostMemory));
  }
  return {};
}

Result<void> ModelBuilder::on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) {
  if (auto* flat = std::get_if<hgrnbit::Builder>(&builder_)) return flat->on_row(tensor, row, bytes);
  return std::get<hnetbit::Builder>(builder_).on_row(tensor, row, bytes);
}

uint64_t ModelBuilder::memory_bytes() const {
  if (const auto* flat = std::get_if<hgrnbit::Builder>(&builder_)) return flat->memory_bytes();
  const auto* levels = std::get_if<hnetbit::Builder>(&builder_);
  return levels != nullptr ? levels->memory_bytes() : 0;
}

std::shared_ptr<const Model> ModelBuilder::finish(uint64_t fingerprint, uint64_t file_bytes) {
  if (auto* flat = std::get_if<hgrnbit::Builder>(&builder_)) {
    flat->finish(model_->info_);
  } else {
    std::get<hnetbit::Builder>(builder_).finish(model_->info_);
  }
  model_->info_.fingerprint = fingerprint;
  model_->info_.file_bytes = file_bytes;
  return std::move(model_);
}

}  // namespace tern
