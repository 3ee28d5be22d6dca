// HGRN-bit: the forward pass, its memory, and what its file must contain.
// SPDX-License-Identifier: MIT
#include "model/hgrnbit.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/vocabulary.h"
#include "model/settings.h"

namespace tern::hgrnbit {

// ---- Forward pass ---------------------------------------------------------------------------------------------------

void Network::forward(std::span<const uint8_t> tokens, std::span<Memory* const> texts, std::span<int32_t> logits,
                      std::span<int32_t> trace) const {
  const size_t T = tokens.size(), predictions = logits.size() / kVocab;
  TERN_CHECK(T >= 1 && T <= kTile && (texts.size() == 1 || texts.size() == T));
  TERN_CHECK(predictions <= 1 || predictions == T);
  TERN_CHECK(trace.empty() || (T == 1 && trace.size() == size_t{config.layers} * config.block.hidden));
  Memory& memory = *texts[0];  // its scratch serves all
  const auto h = hgrn::rows_of(memory.h, T, config.block.hidden);
  std::array<const hgrn::StackState*, kTile> layers;
  for (size_t n = 0; n < texts.size(); ++n) layers[n] = &texts[n]->layers;

  hgrn::embed(weights.embedding, tokens, h);
  hgrn::run_stack(config.block, weights.layers, std::span(layers).first(texts.size()), h, memory.scratch, trace);
  if (predictions == 0) return;
  const auto last = h.slice(T - predictions, predictions);
  rms_norm(last, weights.output_norm, config.block.epsilon, last);
  hgrn::predict(weights.output, last, config.block.epsilon, memory.scratch, logits);
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

namespace {

void lay_out(const Config& config, Arena& arena, Memory& memory) {
  memory.state = arena.take<int32_t>(static_cast<size_t>(config.layers * config.block.state_words()));
  memory.h = arena.take<Act>(kTile * config.block.hidden);
  memory.scratch = hgrn::take_scratch(config.block, arena);
}

}  // namespace

Memory::Memory(const Config& config) {
  Arena measure;
  lay_out(config, measure, *this);
  arena = Arena(measure.used());
  lay_out(config, arena, *this);
  std::span<int32_t> words = state;
  layers = hgrn::take_state(config.block, config.layers, words);
}

// ---- File -----------------------------------------------------------------------------------------------------------

Result<void> Builder::on_header(const GgufHeader& header) {
  Config& c = network_->config;
  Settings settings(header, "hgrnbit.");
  c.layers = settings.integer("block_count", 1, hgrn::kMaxBlocks);
  const uint32_t hidden = settings.integer("embedding_length", 1, hgrn::kMaxHidden);
  const uint32_t recurrent = settings.integer("recurrent_length", 1, hgrn::kMaxInner);
  const uint32_t feed_forward = settings.integer("feed_forward_length", 1, hgrn::kMaxInner);
  settings.integer("vocab_size", kVocab, kVocab);
  c.block = hgrn::read_common(settings, header);
  c.block.hidden = hidden;
  c.block.recurrent = recurrent;
  c.block.feed_forward = feed_forward;
  if (!settings.result().ok()) return settings.result();
  config_texts_ = settings.texts();
  list_tensors();
  return plan_.match(header);
}

void Builder::list_tensors() {
  const uint32_t hidden = network_->config.block.hidden;
  Weights& w = network_->weights;
  w.layers.resize(network_->config.layers);
  plan_.embedding("token_embd", kVocab, hidden, &w.embedding);
  hgrn::list_tensors(plan_, "blk.", network_->config.block, w.layers);
  plan_.vector("output_norm.weight", hidden, &w.output_norm);
  plan_.bit_linear("output", kVocab, hidden, &w.output);
}

void Builder::finish(ModelInfo& info) {
  plan_.finish(info);
  info.state_bytes = sizeof(int32_t) * network_->config.layers * network_->config.block.state_words();
  info.config = std::move(config_texts_);
}

}  // namespace tern::hgrnbit
