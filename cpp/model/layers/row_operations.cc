// row_operations.cc: formats and rounding are those of fixed/fixed.h, the loops those of kernels/rows/rows.h.
// SPDX-License-Identifier: MIT
#include "model/layers/row_operations.h"

#include <algorithm>
#include <bit>

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

void gated_product(Workspace& w, ScaledRows& y, const ScaledRows& gate, const ScaledRows& up, Activation activation,
                   Buffer<int64_t>& products) {
  const MatrixView<int32_t> g = gate.integers, u = up.integers, out = y.integers.shape(g.rows, g.cols);
  const std::span<int64_t> row = products.shape(1, g.cols).row(0);
  if (!w.turn(g)) return;
  for (size_t t = 0; t < g.rows; ++t) {
    const bool square = activation == Activation::kSquaredRelu;
    const Rescale to_act(gate.scales[t], Act::kFractionBits);
    uint64_t bits = 0;  // as many as the largest magnitude has
    for (size_t c = 0; c < g.cols; ++c) {
      const int64_t a = g.row(t)[c];
      row[c] = (square ? a > 0 ? a * a : 0 : silu({to_act(g.row(t)[c])}).raw) * u.row(t)[c];
      bits |= static_cast<uint64_t>(row[c] < 0 ? -row[c] : row[c]);
    }
    const int drop = std::max(0, 33 - std::countl_zero(bits));
    for (size_t c = 0; c < g.cols; ++c) {
      const int64_t magnitude = (row[c] < 0 ? -row[c] : row[c]) >> drop;
      out.row(t)[c] = static_cast<int32_t>(row[c] < 0 ? -magnitude : magnitude);
    }
    const Scale one = square ? gate.scales[t] * gate.scales[t] : Scale::from_integer(1, -Act::kFractionBits);
    y.scales[t] = one * up.scales[t];
    if (!y.scales[t].is_zero()) y.scales[t].exponent += drop;
  }
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
