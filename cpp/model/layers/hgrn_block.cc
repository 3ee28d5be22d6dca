// hgrn_block.cc: the operations of the block, and its tensors.
// SPDX-License-Identifier: MIT
#include "model/layers/hgrn_block.h"

namespace tern::hgrn {

void Block::run(Workspace& w, MatrixView<Act> h) const {
  w.part(part);
  w.observe_input("in", h);
  rms_norm(w, "attn_norm", w.a, h, attn_norm);
  short_convolution(w, "conv", w.a, conv);
  bit_linear(w, w.a, {{"i", attn_i, w.i}, {"f", attn_f, w.z}, {"g", attn_g, w.g}});
  gated_recurrence(w, "state", w.s, w.i, w.z, recurrence);
  output_gate(w, "o", w.o, w.g, w.s, gate);
  bit_linear(w, w.o, {{"mixed", attn_o, w.mixed}});
  add(w, "h1", h, w.mixed);

  rms_norm(w, "ffn_norm", w.a, h, ffn_norm);
  bit_linear(w, w.a, {{"gate_up", ffn_gate_up, w.gate_up}});
  gated_product(w, "mlp", w.mlp, w.gate_up, gate.kind);
  bit_linear(w, w.mlp, {{"down", ffn_down, w.mixed}});
  add(w, "out", h, w.mixed);
}

void Stack::run(Workspace& w, MatrixView<Act> h) const {
  for (const Block& block : blocks) block.run(w, h);
}

// ---- File -----------------------------------------------------------------------------------------------------------

void BlockConfig::read_common(Settings& settings) {
  epsilon = settings.real("norm_rms_epsilon");
  conv_kernel = settings.integer("conv_kernel", 0, kMaxTaps);
  gate_norm = settings.choice("gate_norm", {"gate", "state"}) == 0 ? GateNorm::kGate : GateNorm::kState;
  sigmoid =
      settings.choice("sigmoid", {"table", "piecewise_linear"}) == 0 ? Sigmoid::kTable : Sigmoid::kPiecewiseLinear;
  if (conv_kernel == 1) settings.refuse("conv_kernel", "0 (none) or 2 to " + std::to_string(kMaxTaps), "1");
  lower_bounds = settings.has_tensor(".lower_bound");
  settings.note("lower_bounds", lower_bounds ? "true" : "false");
}

void Block::list(TensorPlan& plan, const std::string& blk, const BlockConfig& c) {
  attn_norm.list(plan, blk + "attn_norm.weight", c.hidden, c.epsilon);
  recurrence.list(plan, blk + "lower_bound", c.lower_bounds, c.recurrent, c.sigmoid);
  conv.list(plan, blk + "conv.weight", c.conv_kernel, c.hidden, c.sigmoid);
  attn_i.list(plan, blk + "attn_i", c.recurrent, c.hidden, c.epsilon);
  attn_f.list(plan, blk + "attn_f", c.recurrent, c.hidden, c.epsilon);
  attn_g.list(plan, blk + "attn_g", c.recurrent, c.hidden, c.epsilon);
  gate = {{}, c.gate_norm, c.sigmoid};
  gate.norm.list(plan, blk + "gate_norm.weight", c.recurrent, c.epsilon);
  attn_o.list(plan, blk + "attn_o", c.hidden, c.recurrent, c.epsilon);
  ffn_norm.list(plan, blk + "ffn_norm.weight", c.hidden, c.epsilon);
  ffn_gate_up.list(plan, blk + "ffn_gate_up", 2 * c.feed_forward, c.hidden, c.epsilon);
  ffn_down.list(plan, blk + "ffn_down", c.hidden, c.feed_forward, c.epsilon);
}

void Stack::list(TensorPlan& plan, const std::string& prefix, const std::string& part, uint32_t count,
                 const BlockConfig& config) {
  blocks.resize(count);
  for (uint32_t n = 0; n < count; ++n) {
    blocks[n].part = part + std::to_string(n);
    blocks[n].list(plan, prefix + std::to_string(n) + ".", config);
  }
}

}  // namespace tern::hgrn
