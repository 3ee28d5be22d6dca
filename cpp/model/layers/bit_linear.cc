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

/// Of the rows that were quantised last, token after token.
void dense_products(Workspace& w, const char* name, MatrixView<Act> y, const BitLinear& layer) {
  const DenseView weight = layer.dense.view();
  const uint32_t parts = weight.rows / layer.rows;
  const uint32_t piece = rows_of_piece(layer.rows, uint64_t{layer.cols} * parts, w.piece());
  const std::span<int32_t> sums = w.sums.shape(1, parts * std::min(piece, layer.rows)).row(0);
  for (size_t t = 0; t < y.rows; ++t) {
    for (uint32_t first = 0; first < layer.rows; first += piece) {
      const uint32_t count = std::min(piece, layer.rows - first);
      if (!w.turn(uint64_t{layer.cols} * parts * count)) continue;
      const int8_t* codes = weight.codes + size_t{first} * parts * padded_cols(layer.cols);
      const std::span<const int8_t> x = MatrixView<const int8_t>(w.codes).row(t);
      dense_matvec({codes, parts * count, layer.cols}, x, sums.first(size_t{parts} * count));
      for (uint32_t r = 0; r < count; ++r) {
        Scale scale = layer.row_scales[first + r] * w.scales[t];
        Act& out = y.row(t)[first + r];
        if (parts == 1) {
          out.raw = Rescale(scale, Act::kFractionBits)(sums[r]);
          continue;
        }
        // |second sum| <= 2 * 127 * 128 * cols < 2^31 for cols <= 2^16.
        out.raw = Rescale(scale, Act::kFractionBits)(sums[2 * r + 1] + 128 * w.code_sums[t]);
        scale.exponent += 8;
        out = add(out, {Rescale(scale, Act::kFractionBits)(sums[2 * r])});
      }
      if (first + count == layer.rows) w.observe_row(name, t, y.row(t));
    }
  }
}

void multiply(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const BitLinear& layer) {
  const size_t T = x.rows;
  const MatrixView<int8_t> codes = w.codes.shape(T, padded_cols(layer.cols));
  TERN_CHECK(x.cols == layer.cols && y.cols == layer.rows && y.rows == T);
  if (w.turn(x)) {
    for (size_t t = 0; t < T; ++t) {
      const QuantizedRow quantized = quantize_activations(x.row(t), layer.norm, w.rms[t], codes.row(t));
      w.scales[t] = layer.row_scales.empty() ? quantized.scale * layer.scale : quantized.scale;
      w.code_sums[t] = quantized.sum;
    }
  }
  if (!layer.row_scales.empty()) return dense_products(w, name, y, layer);
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
  if (plan.superfloat_bits_of(name + ".weight") > 0) {
    plan.dense(name, rows, cols, &dense, &row_scales, 16);
  } else {
    plan.ternary(name + ".weight", rows, cols, &weight, &scale);
  }
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
