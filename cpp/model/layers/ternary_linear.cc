// ternary_linear.cc: codes of rows of any scale, and products that keep the scale beside the sums.
// SPDX-License-Identifier: MIT
#include "model/layers/ternary_linear.h"

#include "base/check.h"
#include "kernels/rows/rows.h"

namespace tern {
namespace {

/// x in units of `unit`: so is what it is divided by.
void quantize_row(Workspace& w, size_t t, std::span<const Act> x, Scale unit, const InputNorm& norm) {
  const std::span<int8_t> codes = w.codes.view().row(t);
  w.scales[t] = {};
  w.code_sums[t] = 0;
  if (unit.is_zero()) {
    std::ranges::fill(codes, int8_t{0});
    return;
  }
  const Scale rms = norm.is_norm ? root_mean_square(x, norm.epsilon / (unit * unit)) : Scale::from_integer(1) / unit;
  const QuantizedRow row = quantize_activations(x, norm.weight, rms, codes, norm.fraction_bits);
  w.scales[t] = row.scale;
  w.code_sums[t] = row.sum;
}

void shape_codes(Workspace& w, size_t T, size_t cols) { w.codes.shape(T, padded_cols(static_cast<uint32_t>(cols))); }

}  // namespace

void quantize(Workspace& w, MatrixView<const Act> x, const InputNorm& norm) {
  shape_codes(w, x.rows, x.cols);
  if (!w.turn(x)) return;
  for (size_t t = 0; t < x.rows; ++t) quantize_row(w, t, x.row(t), Scale::from_integer(1), norm);
}

void quantize(Workspace& w, const ScaledRows& x, const InputNorm& norm) {
  const MatrixView<int32_t> rows = x.integers;
  shape_codes(w, rows.rows, rows.cols);
  if (!w.turn(rows)) return;
  for (size_t t = 0; t < rows.rows; ++t) {
    const std::span<const int32_t> row = rows.row(t);
    const Scale unit{x.scales[t].mantissa, x.scales[t].exponent + Act::kFractionBits};
    quantize_row(w, t, {reinterpret_cast<const Act*>(row.data()), row.size()}, x.scales[t].is_zero() ? Scale{} : unit,
                 norm);
  }
}

void ternary_linear(Workspace& w, ScaledRows& y, const TernaryLinear& layer) {
  const size_t T = w.codes.view().rows;
  const MatrixView<int32_t> out = y.integers.shape(T, layer.rows);
  products(w, T, layer.rows, layer.cols, layer.weight, [&](uint32_t first, MatrixView<int32_t> sums) {
    for (size_t t = 0; t < T; ++t) {
      std::ranges::copy(sums.row(t), out.row(t).subspan(first).begin());
      y.scales[t] = w.scales[t] * layer.scale;
    }
  });
}

void ternary_linear(Workspace& w, const char* name, Buffer<Act>& y, const TernaryLinear& layer) {
  const size_t T = w.codes.view().rows;
  const MatrixView<Act> out = y.shape(T, layer.rows);
  products(w, T, layer.rows, layer.cols, layer.weight, [&](uint32_t first, MatrixView<int32_t> sums) {
    for (size_t t = 0; t < T; ++t) {
      rescale(sums.row(t), w.scales[t] * layer.scale, out.row(t).subspan(first, sums.cols));
    }
    if (first + sums.cols == layer.rows) w.observe(name, out);
  });
}

}  // namespace tern
