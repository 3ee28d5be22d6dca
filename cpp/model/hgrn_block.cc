// The HGRN-bit block: its forward pass, its memory and its tensors.
// SPDX-License-Identifier: MIT
#include "model/hgrn_block.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/vocabulary.h"

namespace tern::hgrn {

// ---- Forward pass ---------------------------------------------------------------------------------------------------

namespace {

void copy(MatrixView<const Act> from, MatrixView<Act> to) {
  for (size_t r = 0; r < from.rows; ++r) std::copy_n(from.row(r).begin(), from.cols, to.row(r).begin());
}

/// a = the convolution of a text's rows, which lie in `window` behind room for those before, and what it remembers.
void convolve(const BlockConfig& config, const Block& block, const BlockState& text, MatrixView<Act> window,
              MatrixView<Act> a) {
  const size_t before = config.window_rows();
  copy(text.window, window.slice(0, before));
  short_convolution(block.conv, window, config.sigmoid, a);
  copy(window.slice(a.rows, before), text.window);
}

/// o = RMSNorm(normed) * silu(other).  The state is normed in its own, finer format: RMSNorm(16 s) with 256 epsilon.
/// g may be changed.
void output_gate(const BlockConfig& config, std::span<const NormWeight> norm, MatrixView<Act> g,
                 MatrixView<const tern::State> states, MatrixView<Act> o) {
  constexpr int kFiner = tern::State::kFractionBits - Act::kFractionBits;
  const Scale state_epsilon{config.epsilon.mantissa, config.epsilon.exponent + 2 * kFiner};
  const bool coarse = config.gate_norm == GateNorm::kGate;
  for (size_t t = 0; t < o.rows; ++t) {
    const std::span<const tern::State> s = states.row(t);
    const std::span<Act> out = o.row(t);
    for (size_t c = 0; c < out.size(); ++c) out[c].raw = coarse ? round_shift_32(s[c].raw, kFiner) : s[c].raw;
  }
  if (config.gate_norm == GateNorm::kGate) {
    rms_norm(g, norm, config.epsilon, g);
    silu_product(o, g, config.sigmoid, o);
  } else {
    rms_norm(o, norm, state_epsilon, o);
    silu_product(g, o, config.sigmoid, o);
  }
}

}  // namespace

void embed(std::span<const Act> embedding, std::span<const uint8_t> tokens, MatrixView<Act> h) {
  TERN_CHECK(embedding.size() == kVocab * h.cols && tokens.size() == h.rows);
  const MatrixView<const Act> rows(embedding.data(), kVocab, h.cols);
  for (size_t t = 0; t < tokens.size(); ++t) copy(rows.slice(tokens[t], 1), h.slice(t, 1));
}

void run_block(const BlockConfig& config, const Block& block, BlockStates texts, MatrixView<Act> h, Scratch& scratch) {
  TERN_CHECK(texts.size() == 1 || texts.size() == h.rows);
  const size_t T = h.rows, H = config.hidden, E = config.recurrent, I = config.feed_forward;
  const size_t before = config.window_rows();
  const auto mixed = rows_of(scratch.out, T, H);
  const auto window = rows_of(scratch.window, before + T, H), normed = window.slice(before, T);
  const auto a = before > 0 ? rows_of(scratch.a, T, H) : normed;
  const auto i = rows_of(scratch.i, T, E), z = rows_of(scratch.z, T, E), g = rows_of(scratch.g, T, E);
  const auto o = rows_of(scratch.o, T, E);
  const auto states = rows_of(scratch.states, T, E);
  const auto gate_up = rows_of(scratch.gate_up, T, 2 * I), mlp = rows_of(scratch.mlp, T, I);
  const BitLinearScratch& linear = scratch.bit_linear;

  rms_norm(h, block.attn_norm, config.epsilon, normed);
  if (before > 0 && texts.size() == 1) {
    convolve(config, block, *texts[0], window, a);
  } else if (before > 0) {
    const auto own = rows_of(scratch.out, before + 1, H);  // each text's window in turn
    for (size_t t = 0; t < T; ++t) {
      copy(normed.slice(t, 1), own.slice(before, 1));
      convolve(config, block, *texts[t], own, a.slice(t, 1));
    }
  }
  TileRms rms = tile_rms(a, config.epsilon);
  bit_linear(block.attn_i, a, rms, linear, i);
  bit_linear(block.attn_f, a, rms, linear, z);
  bit_linear(block.attn_g, a, rms, linear, g);
  for (size_t n = 0, each = T / texts.size(); n < texts.size(); ++n) {
    gated_recurrence(i.slice(n * each, each), z.slice(n * each, each), block.keep, config.sigmoid, texts[n]->s,
                     states.slice(n * each, each));
  }
  output_gate(config, block.gate_norm, g, states, o);
  bit_linear(block.attn_o, o, tile_rms(o, config.epsilon), linear, mixed);
  add_to(h, mixed);

  rms_norm(h, block.ffn_norm, config.epsilon, normed);
  bit_linear(block.ffn_gate_up, normed, tile_rms(normed, config.epsilon), linear, gate_up);
  gated_product(gate_up, config.sigmoid, mlp);
  bit_linear(block.ffn_down, mlp, tile_rms(mlp, config.epsilon), linear, mixed);
  add_to(h, mixed);
}

void run_stack(const BlockConfig& config, const Stack& stack, StackStates texts, MatrixView<Act> h, Scratch& scratch,
               std::span<int32_t>& trace) {
  TERN_CHECK(texts.size() <= kTile && h.cols == config.hidden);
  std::array<const BlockState*, kTile> states;
  for (size_t n = 0; n < stack.size(); ++n) {
    for (size_t text = 0; text < texts.size(); ++text) states[text] = &(*texts[text])[n];
    run_block(config, stack[n], std::span(states).first(texts.size()), h, scratch);
    if (trace.empty()) continue;
    TERN_CHECK(h.rows == 1 && trace.size() >= h.cols);
    std::ranges::copy(raw_view(std::span<const Act>(h.row(0))), trace.begin());
    trace = trace.subspan(h.cols);
  }
}

void predict(const BitLinear& head, MatrixView<const Act> h, Scale epsilon, Scratch& scratch,
             std::span<int32_t> logits) {
  TERN_CHECK(logits.size() == h.rows * kVocab);
  const auto out = rows_of(scratch.out, h.rows, kVocab);
  bit_linear(head, h, tile_rms(h, epsilon), scratch.bit_linear, out);
  for (size_t k = 0; k < logits.size(); ++k) logits[k] = out.data[k].raw;
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

StackState take_state(const BlockConfig& config, size_t blocks, std::span<int32_t>& words) {
  // State words are raw fixed-point numbers; the typed views share them.
  const size_t E = config.recurrent, H = config.hidden, before = config.window_rows();
  StackState states;
  for (size_t n = 0; n < blocks; ++n) {
    TERN_CHECK(words.size() >= config.state_words());
    int32_t* first = words.data();
    states.push_back({{reinterpret_cast<tern::State*>(first), E}, {reinterpret_cast<Act*>(first + E), before, H}});
    words = words.subspan(static_cast<size_t>(config.state_words()));
  }
  return states;
}

Scratch take_scratch(const BlockConfig& widest, Arena& arena) {
  const size_t H = widest.hidden, E = widest.recurrent, I = widest.feed_forward, before = widest.window_rows();
  const uint32_t most_cols = std::max({widest.hidden, widest.recurrent, widest.feed_forward});
  Scratch scratch;
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
  scratch.bit_linear.codes = arena.take<int8_t>(kTile * padded_cols(most_cols));
  scratch.bit_linear.acc = arena.take<int32_t>(kTile * std::max<size_t>({H, E, 2 * I, kVocab}));
  return scratch;
}

// ---- File -----------------------------------------------------------------------------------------------------------

BlockConfig read_common(Settings& settings, const GgufHeader& header) {
  BlockConfig c;
  c.epsilon = settings.real("norm_rms_epsilon");
  c.conv_kernel = settings.integer("conv_kernel", 0, kMaxTaps);
  c.gate_norm = settings.choice("gate_norm", {"gate", "state"}) == 0 ? GateNorm::kGate : GateNorm::kState;
  c.sigmoid =
      settings.choice("sigmoid", {"table", "piecewise_linear"}) == 0 ? Sigmoid::kTable : Sigmoid::kPiecewiseLinear;
  if (c.conv_kernel == 1) settings.refuse("conv_kernel", "0 (none) or 2 to " + std::to_string(kMaxTaps), "1");
  c.lower_bounds = std::any_of(header.tensors.begin(), header.tensors.end(),
                               [](const GgufTensor& t) { return t.name.ends_with(".lower_bound"); });
  settings.note("lower_bounds", c.lower_bounds ? "true" : "false");
  return c;
}

void list_tensors(TensorPlan& plan, const std::string& prefix, const BlockConfig& c, Stack& stack) {
  for (size_t n = 0; n < stack.size(); ++n) {
    const std::string blk = prefix + std::to_string(n) + ".";
    Block& block = stack[n];
    plan.vector(blk + "attn_norm.weight", c.hidden, &block.attn_norm);
    if (c.conv_kernel > 0) plan.taps(blk + "conv.weight", c.conv_kernel, c.hidden, &block.conv);
    if (c.lower_bounds) plan.lower_bound(blk + "lower_bound", c.recurrent, &block.keep);
    plan.bit_linear(blk + "attn_i", c.recurrent, c.hidden, &block.attn_i);
    plan.bit_linear(blk + "attn_f", c.recurrent, c.hidden, &block.attn_f);
    plan.bit_linear(blk + "attn_g", c.recurrent, c.hidden, &block.attn_g);
    plan.vector(blk + "gate_norm.weight", c.recurrent, &block.gate_norm);
    plan.bit_linear(blk + "attn_o", c.hidden, c.recurrent, &block.attn_o);
    plan.vector(blk + "ffn_norm.weight", c.hidden, &block.ffn_norm);
    plan.bit_linear(blk + "ffn_gate_up", 2 * c.feed_forward, c.hidden, &block.ffn_gate_up);
    plan.bit_linear(blk + "ffn_down", c.hidden, c.feed_forward, &block.ffn_down);
  }
}

}  // namespace tern::hgrn
