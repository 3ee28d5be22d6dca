// row_operations.cc: formats and rounding are those of fixed/fixed.h, the loops those of kernels/rows/rows.h.
// SPDX-License-Identifier: MIT
#include "model/layers/row_operations.h"

#include "base/check.h"
#include "kernels/kernels.h"
#include "kernels/rows/rows.h"

namespace tern {

void rms_norm(Workspace& w, const char* name, Buffer<Act>& y, MatrixView<const Act> x, const RmsNorm& norm) {
  const MatrixView<Act> out = y.shape(x.rows, x.cols);
  if (!w.turn(x)) return;
  for (size_t t = 0; t < x.rows; ++t) rms_norm(x.row(t), norm.weight, norm.epsilon, out.row(t));
  w.observe(name, out);
}

void rms_norm(Workspace& w, const char* name, MatrixView<Act> x, const RmsNorm& norm) {
  if (!w.turn(x)) return;
  for (size_t t = 0; t < x.rows; ++t) rms_norm(x.row(t), norm.weight, norm.epsilon, x.row(t));
  w.observe(name, x);
}

void add(Workspace& w, const char* name, MatrixView<Act> h, MatrixView<const Act> x) {
  if (!w.turn(x)) return;
  for (size_t t = 0; t < h.rows; ++t) rows::add(h.row(t), x.row(t));
  w.observe(name, h);
}

void gated_product(Workspace& w, const char* name, Buffer<Act>& y, MatrixView<const Act> gate_up, Sigmoid kind) {
  const MatrixView<Act> out = y.shape(gate_up.rows, gate_up.cols / 2);
  if (!w.turn(gate_up)) return;
  for (size_t t = 0; t < out.rows; ++t) {
    const std::span<const Act> both = gate_up.row(t);
    rows::silu_product(both.first(out.cols), both.last(out.cols), kind, out.row(t));
  }
  w.observe(name, out);
}

void output_gate(Workspace& w, const char* name, Buffer<Act>& o, MatrixView<Act> g, MatrixView<const Cell> s,
                 const OutputGate& gate) {
  const MatrixView<Act> out = o.shape(g.rows, g.cols);
  if (!w.turn(g)) return;
  constexpr int kFiner = Cell::kFractionBits - Act::kFractionBits;
  const Scale state_epsilon{gate.norm.epsilon.mantissa, gate.norm.epsilon.exponent + 2 * kFiner};
  for (size_t t = 0; t < out.rows; ++t) {
    const std::span<const Cell> state = s.row(t);
    const std::span<Act> row = out.row(t), other = g.row(t);
    if (gate.order == GateNorm::kGate) {
      for (size_t c = 0; c < row.size(); ++c) row[c].raw = round_shift_32(state[c].raw, kFiner);
      rms_norm(other, gate.norm.weight, gate.norm.epsilon, other);
      rows::silu_product(row, other, gate.kind, row);
    } else {
      for (size_t c = 0; c < row.size(); ++c) row[c].raw = state[c].raw;
      rms_norm(row, gate.norm.weight, state_epsilon, row);
      rows::silu_product(other, row, gate.kind, row);
    }
  }
  w.observe(name, out);
}

}  // namespace tern
