// HGRN-bit: the forward pass, its memory, and what its file must contain.
// SPDX-License-Identifier: MIT
#include "model/hgrnbit.h"

#include <algorithm>

#include "base/check.h"
#include "model/settings.h"

namespace tern::hgrnbit {

// ---- Forward pass ---------------------------------------------------------------------------------------------------

namespace {

/// The first T rows of a [kTile][width] buffer.
template <class T>
MatrixView<T> rows_of(std::span<T> buffer, size_t rows, size_t width) {
  TERN_CHECK(rows * width <= buffer.size());
  return {buffer.data(), rows, width};
}

void copy(MatrixView<const Act> from, MatrixView<Act> to) {
  for (size_t r = 0; r < from.rows; ++r) std::copy_n(from.row(r).begin(), from.cols, to.row(r).begin());
}

/// o = RMSNorm(normed) * silu(other).  The state is normed in its own, finer format: RMSNorm(16 s) with 256 epsilon.
void output_gate(const Config& config, std::span<const NormWeight> norm, MatrixView<const Act> g,
                 MatrixView<const tern::State> states, MatrixView<Act> o) {
  constexpr int kFiner = tern::State::kFractionBits - Act::kFractionBits;
  const Scale state_epsilon{config.epsilon.mantissa, config.epsilon.exponent + 2 * kFiner};
  for (size_t t = 0; t < o.rows; ++t) {
    const std::span<const Act> gate = g.row(t);
    const std::span<const tern::State> s = states.row(t);
    const std::span<Act> out = o.row(t);
    if (config.gate_norm == GateNorm::kGate) {
      rms_norm(gate, norm, config.epsilon, out);
      for (size_t c = 0; c < out.size(); ++c) {
        const Act state{static_cast<int32_t>(round_shift(s[c].raw, kFiner))};
        out[c] = multiply(out[c], silu(state, config.sigmoid));
      }
    } else {
      for (size_t c = 0; c < out.size(); ++c) out[c].raw = s[c].raw;
      rms_norm(out, norm, state_epsilon, out);
      for (size_t c = 0; c < out.size(); ++c) out[c] = multiply(out[c], silu(gate[c], config.sigmoid));
    }
  }
}

}  // namespace

void Network::block(const Layer& layer, const LayerState& state, size_t tokens, Scratch& scratch) const {
  const size_t H = config.hidden, E = config.recurrent, I = config.feed_forward, before = config.window_rows();
  const auto h = rows_of(scratch.h, tokens, H), mixed = rows_of(scratch.out, tokens, H);
  const auto window = rows_of(scratch.window, before + tokens, H), normed = window.slice(before, tokens);
  const auto a = before > 0 ? rows_of(scratch.a, tokens, H) : normed;
  const auto i = rows_of(scratch.i, tokens, E), z = rows_of(scratch.z, tokens, E), g = rows_of(scratch.g, tokens, E);
  const auto o = rows_of(scratch.o, tokens, E);
  const auto states = rows_of(scratch.states, tokens, E);
  const auto gate_up = rows_of(scratch.gate_up, tokens, 2 * I), mlp = rows_of(scratch.mlp, tokens, I);
  const BitLinearScratch& linear = scratch.bit_linear;

  rms_norm(h, layer.attn_norm, config.epsilon, normed);
  if (before > 0) {
    copy(state.window, window.slice(0, before));
    short_convolution(layer.conv, window, config.sigmoid, a);
    copy(window.slice(tokens, before), state.window);
  }
  TileRms rms = tile_rms(a, config.epsilon);
  bit_linear(layer.attn_i, a, rms, linear, i);
  bit_linear(layer.attn_f, a, rms, linear, z);
  bit_linear(layer.attn_g, a, rms, linear, g);
  gated_recurrence(i, z, layer.keep, config.sigmoid, state.s, states);
  output_gate(config, layer.gate_norm, g, states, o);
  bit_linear(layer.attn_o, o, tile_rms(o, config.epsilon), linear, mixed);
  add_to(h, mixed);

  rms_norm(h, layer.ffn_norm, config.epsilon, normed);
  bit_linear(layer.ffn_gate_up, normed, tile_rms(normed, config.epsilon), linear, gate_up);
  gated_product(gate_up, config.sigmoid, mlp);
  bit_linear(layer.ffn_down, mlp, tile_rms(mlp, config.epsilon), linear, mixed);
  add_to(h, mixed);
}

void Network::forward(std::span<const uint8_t> tokens, Memory& memory, std::span<int32_t> logits,
                      std::span<int32_t> trace) const {
  TERN_CHECK(!tokens.empty() && tokens.size() <= kTile);
  TERN_CHECK(trace.empty() || (tokens.size() == 1 && trace.size() == weights.layers.size() * config.hidden));
  const auto h = rows_of(memory.scratch.h, tokens.size(), config.hidden);
  const MatrixView<const Act> embedding(weights.embedding.data(), kVocab, config.hidden);

  for (size_t t = 0; t < tokens.size(); ++t) copy(embedding.slice(tokens[t], 1), h.slice(t, 1));
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    block(weights.layers[l], memory.layers[l], tokens.size(), memory.scratch);
    if (!trace.empty()) {
      for (size_t c = 0; c < config.hidden; ++c) trace[l * config.hidden + c] = h.data[c].raw;
    }
  }
  const size_t predictions = logits.size() / kVocab;
  TERN_CHECK(predictions * kVocab == logits.size() && (predictions <= 1 || predictions == tokens.size()));
  if (predictions > 0) head(h.slice(tokens.size() - predictions, predictions), memory.scratch, logits);
}

void Network::head(MatrixView<const Act> h, Scratch& scratch, std::span<int32_t> logits) const {
  const auto normed = rows_of(scratch.a, h.rows, config.hidden);
  const auto out = rows_of(scratch.out, h.rows, kVocab);
  rms_norm(h, weights.output_norm, config.epsilon, normed);
  bit_linear(weights.output, normed, tile_rms(normed, config.epsilon), scratch.bit_linear, out);
  for (size_t k = 0; k < logits.size(); ++k) logits[k] = out.data[k].raw;
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

namespace {

void lay_out(const Config& config, Arena& arena, Memory& memory) {
  const size_t H = config.hidden, E = config.recurrent, I = config.feed_forward, before = config.window_rows();
  const uint32_t widest = std::max({config.hidden, config.recurrent, config.feed_forward});
  memory.state = arena.take<int32_t>(config.layers * (E + before * H));
  Scratch& scratch = memory.scratch;
  scratch.h = arena.take<Act>(kTile * H);
  scratch.window = arena.take<Act>((before + kTile) * H);
  scratch.a = arena.take<Act>(kTile * H);
  scratch.i = arena.take<Act>(kTile * E);
  scratch.z = arena.take<Act>(kTile * E);
  scratch.g = arena.take<Act>(kTile * E);
  scratch.o = arena.take<Act>(kTile * E);
  scratch.states = arena.take<tern::State>(kTile * E);
  scratch.gate_up = arena.take<Act>(kTile * 2 * I);
  scratch.mlp = arena.take<Act>(kTile * I);
  scratch.out = arena.take<Act>(kTile * std::max<size_t>(H, kVocab));
  scratch.bit_linear.codes = arena.take<int8_t>(kTile * padded_cols(widest));
  scratch.bit_linear.acc = arena.take<int32_t>(kTile * std::max<size_t>({H, E, 2 * I, kVocab}));
}

}  // namespace

Memory::Memory(const Config& config) {
  Arena measure;
  lay_out(config, measure, *this);
  arena = Arena(measure.used());
  lay_out(config, arena, *this);

  // State words are raw fixed-point numbers; the typed views share them.
  const size_t E = config.recurrent, H = config.hidden, before = config.window_rows();
  int32_t* words = state.data();
  for (uint32_t l = 0; l < config.layers; ++l) {
    layers.push_back({{reinterpret_cast<tern::State*>(words), E}, {reinterpret_cast<Act*>(words + E), before, H}});
    words += E + before * H;
  }
}

// ---- File -----------------------------------------------------------------------------------------------------------

Result<void> Builder::on_header(const GgufHeader& header) {
  Config& c = network_->config;
  Settings settings(header, "hgrnbit.");
  c.layers = settings.integer("block_count", 1, 256);
  c.hidden = settings.integer("embedding_length", 1, 16384);
  c.recurrent = settings.integer("recurrent_length", 1, 65536);
  c.feed_forward = settings.integer("feed_forward_length", 1, 65536);
  settings.integer("vocab_size", kVocab, kVocab);
  c.epsilon = settings.real("norm_rms_epsilon");
  c.conv_kernel = settings.integer("conv_kernel", 0, kMaxTaps);
  c.gate_norm = settings.choice("gate_norm", {"gate", "state"}) == 0 ? GateNorm::kGate : GateNorm::kState;
  c.sigmoid =
      settings.choice("sigmoid", {"table", "piecewise_linear"}) == 0 ? Sigmoid::kTable : Sigmoid::kPiecewiseLinear;
  if (c.conv_kernel == 1) {
    settings.fail(error_f(ErrorCode::kBadFile,
                          "metadata \"hgrnbit.conv_kernel\": expected 0 (none) or 2 to %u, found 1", kMaxTaps));
  }
  if (!settings.result().ok()) return settings.result();
  config_texts_ = settings.texts();

  c.lower_bounds = std::any_of(header.tensors.begin(), header.tensors.end(),
                               [](const GgufTensor& t) { return t.name.ends_with(".lower_bound"); });
  config_texts_.push_back({"lower_bounds", c.lower_bounds ? "true" : "false"});
  list_tensors();
  return plan_.match(header);
}

void Builder::list_tensors() {
  const Config& c = network_->config;
  Weights& w = network_->weights;
  w.layers.resize(c.layers);
  plan_.embedding("token_embd", kVocab, c.hidden, &w.embedding);
  for (uint32_t l = 0; l < c.layers; ++l) {
    const std::string blk = "blk." + std::to_string(l) + ".";
    Layer& layer = w.layers[l];
    plan_.vector(blk + "attn_norm.weight", c.hidden, &layer.attn_norm);
    if (c.conv_kernel > 0) plan_.taps(blk + "conv.weight", c.conv_kernel, c.hidden, &layer.conv);
    if (c.lower_bounds) plan_.lower_bound(blk + "lower_bound", c.recurrent, &layer.keep);
    plan_.bit_linear(blk + "attn_i", c.recurrent, c.hidden, &layer.attn_i);
    plan_.bit_linear(blk + "attn_f", c.recurrent, c.hidden, &layer.attn_f);
    plan_.bit_linear(blk + "attn_g", c.recurrent, c.hidden, &layer.attn_g);
    plan_.vector(blk + "gate_norm.weight", c.recurrent, &layer.gate_norm);
    plan_.bit_linear(blk + "attn_o", c.hidden, c.recurrent, &layer.attn_o);
    plan_.vector(blk + "ffn_norm.weight", c.hidden, &layer.ffn_norm);
    plan_.bit_linear(blk + "ffn_gate_up", 2 * c.feed_forward, c.hidden, &layer.ffn_gate_up);
    plan_.bit_linear(blk + "ffn_down", c.hidden, c.feed_forward, &layer.ffn_down);
  }
  plan_.vector("output_norm.weight", c.hidden, &w.output_norm);
  plan_.bit_linear("output", kVocab, c.hidden, &w.output);
}

void Builder::finish(ModelInfo& info) {
  const Config& c = network_->config;
  plan_.finish(info);
  info.state_bytes = sizeof(int32_t) * uint64_t{c.layers} * (c.recurrent + uint64_t{c.window_rows()} * c.hidden);
  info.config = std::move(config_texts_);
}

}  // namespace tern::hgrnbit
