// bit_linear.cc: what all layers on one row share is done once.
// SPDX-License-Identifier: MIT
#include "model/layers/bit_linear.h"

#include "base/check.h"
#include "kernels/rows/rows.h"
#include "model/layers/ternary_linear.h"

namespace tern {
namespace {

/// What all layers that read x share.
void measure(Workspace& w, MatrixView<const Act> x, Scale epsilon) {
  TERN_CHECK(x.rows <= kTile);
  if (!w.turn(x)) return;
  for (size_t t = 0; t < x.rows; ++t) w.rms[t] = root_mean_square(x.row(t), epsilon);
}

void multiply(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const BitLinear& layer) {
  const size_t T = x.rows;
  const MatrixView<int8_t> codes = w.codes.shape(T, padded_cols(layer.cols));
  TERN_CHECK(x.cols == layer.cols && y.cols == layer.rows && y.rows == T);
  if (w.turn(x)) {
    for (size_t t = 0; t < T; ++t) {
      const QuantizedRow quantized = quantize_activations(x.row(t), layer.norm, w.rms[t], codes.row(t));
      w.scales[t] = quantized.scale * layer.scale;
      w.code_sums[t] = quantized.sum;
    }
  }
  products(w, T, layer.rows, layer.cols, layer.weight, [&](uint32_t first, MatrixView<int32_t> sums) {
    for (size_t t = 0; t < T; ++t) rescale(sums.row(t), w.scales[t], y.row(t).subspan(first, sums.cols));
    if (first + sums.cols == layer.rows) w.observe(name, y);
  });
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
