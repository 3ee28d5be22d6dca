// bit_linear.cc: a product is done in pieces of rows, so that a large one can stop between two of them.
// SPDX-License-Identifier: MIT
#include "model/layers/bit_linear.h"

#include "base/check.h"
#include "kernels/rows/rows.h"

namespace tern {
namespace {

constexpr uint32_t kRowsTogether = 64;  // a multiple of what the kernels pack together

uint32_t rows_of_piece(uint32_t rows, uint64_t macs_of_row, uint64_t macs) {
  const uint64_t fit = macs / macs_of_row / kRowsTogether * kRowsTogether;
  return static_cast<uint32_t>(std::clamp<uint64_t>(fit, kRowsTogether, std::max(rows, kRowsTogether)));
}

TernaryView rows_from(const TernaryView& w, uint32_t first, uint32_t count) {
  return {w.tiles + size_t{first} * padded_cols(w.cols) / 4, count, w.cols};  // four weights are a byte
}

/// What all layers that read x share.
void measure(Workspace& w, MatrixView<const Act> x, Scale epsilon) {
  TERN_CHECK(x.rows <= kTile);
  if (!w.turn(x)) return;
  for (size_t t = 0; t < x.rows; ++t) w.rms[t] = root_mean_square(x.row(t), epsilon);
}

void multiply(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const BitLinear& layer) {
  const size_t T = x.rows;
  const uint32_t rows = layer.rows, piece = rows_of_piece(rows, uint64_t{layer.cols} * T, w.piece());
  const MatrixView<int8_t> codes = w.codes.shape(T, padded_cols(layer.cols));
  const MatrixView<int32_t> room = w.sums.shape(T, std::min(piece, rows));
  TERN_CHECK(x.cols == layer.cols && y.cols == rows && y.rows == T);
  if (w.turn(x)) {
    for (size_t t = 0; t < T; ++t) {
      const QuantizedRow quantized = quantize_activations(x.row(t), layer.norm, w.rms[t], codes.row(t));
      w.scales[t] = quantized.scale * layer.scale;
      w.code_sums[t] = quantized.sum;
    }
  }
  for (uint32_t first = 0; first < rows; first += piece) {
    const uint32_t count = std::min(piece, rows - first);
    if (!w.turn(uint64_t{layer.cols} * T * count)) continue;
    const TernaryView part = rows_from(layer.weight.view(), first, count);
    const MatrixView<int32_t> sums(room.data, T, count);
    if (T == 1) {
      ternary_matvec(part, codes.row(0), w.code_sums[0], sums.row(0));
    } else {
      ternary_matmul(part, codes, std::span(w.code_sums).first(T), sums);
    }
    for (size_t t = 0; t < T; ++t) rescale(sums.row(t), w.scales[t], y.row(t).subspan(first, count));
    if (first + count == rows) w.observe(name, y);
  }
}

}  // namespace

void BitLinear::list(TensorPlan& plan, const std::string& name, uint32_t rows_, uint32_t cols_, Scale epsilon_) {
  rows = rows_;
  cols = cols_;
  epsilon = epsilon_;
  plan.ternary(name + ".weight", rows, cols, &weight, &scale);
  plan.vector(name + ".in_norm.weight", cols, &norm);
}

void bit_linear(Workspace& w, MatrixView<const Act> x, std::initializer_list<Projection> projections) {
  measure(w, x, projections.begin()->layer.epsilon);
  for (const Projection& p : projections) multiply(w, p.name, p.y.shape(x.rows, p.layer.rows), x, p.layer);
}

void bit_linear(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const BitLinear& layer) {
  measure(w, x, layer.epsilon);
  multiply(w, name, y, x, layer);
}

}  // namespace tern
