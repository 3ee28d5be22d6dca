// The parts that architectures are built from, in integers; formats and rounding are those of fixed/fixed.h.
// SPDX-License-Identifier: MIT
#include "model/blocks.h"

#include "base/check.h"
#include "kernels/rows/rows.h"

namespace tern {

TileRms tile_rms(MatrixView<const Act> x, Scale epsilon) {
  TERN_CHECK(x.rows <= kTile);
  TileRms rms;
  for (size_t t = 0; t < x.rows; ++t) rms[t] = root_mean_square(x.row(t), epsilon);
  return rms;
}

void bit_linear(const BitLinear& layer, MatrixView<const Act> x, const TileRms& rms, const BitLinearScratch& scratch,
                MatrixView<Act> y) {
  const TernaryView w = layer.weight.view();
  TERN_CHECK(x.cols == w.cols && y.cols == w.rows && x.rows == y.rows && x.rows <= kTile);
  const MatrixView<int8_t> codes(scratch.codes.data(), x.rows, padded_cols(w.cols));
  const MatrixView<int32_t> acc(scratch.acc.data(), x.rows, w.rows);
  TERN_CHECK(codes.rows * codes.cols <= scratch.codes.size() && acc.rows * acc.cols <= scratch.acc.size());

  std::array<Scale, kTile> scales;
  std::array<int32_t, kTile> sums{};
  for (size_t t = 0; t < x.rows; ++t) {
    const QuantizedRow quantized = quantize_activations(x.row(t), layer.norm, rms[t], codes.row(t));
    scales[t] = quantized.scale * layer.scale;
    sums[t] = quantized.sum;
  }
  if (x.rows == 1) {
    ternary_matvec(w, codes.row(0), sums[0], acc.row(0));
  } else {
    ternary_matmul(w, codes, std::span(sums).first(x.rows), acc);
  }
  for (size_t t = 0; t < x.rows; ++t) rescale(acc.row(t), scales[t], y.row(t));
}

void rms_norm(MatrixView<const Act> x, std::span<const NormWeight> w, Scale epsilon, MatrixView<Act> y) {
  for (size_t t = 0; t < x.rows; ++t) rms_norm(x.row(t), w, epsilon, y.row(t));
}

void add_to(MatrixView<Act> h, MatrixView<const Act> x) {
  for (size_t t = 0; t < h.rows; ++t) rows::add(h.row(t), x.row(t));
}

void silu_product(MatrixView<const Act> gate, MatrixView<const Act> x, Sigmoid kind, MatrixView<Act> y) {
  for (size_t t = 0; t < y.rows; ++t) rows::silu_product(gate.row(t), x.row(t), kind, y.row(t));
}

void short_convolution(std::span<const NormWeight> taps, MatrixView<const Act> window, Sigmoid kind,
                       MatrixView<Act> y) {
  const size_t count = taps.size() / y.cols;
  TERN_CHECK(count * y.cols == taps.size() && window.cols == y.cols && window.rows == y.rows + count - 1);
  for (size_t t = 0; t < y.rows; ++t) {
    // |tap| < 2^12 and at most 8 of them: the sum is below 2^62.
    rows::convolution(taps, window.row(t).data(), window.stride, kind, y.row(t));
  }
}

void gated_recurrence(MatrixView<const Act> i, MatrixView<const Act> z, std::span<const Gate> keep, Sigmoid kind,
                      std::span<State> s, MatrixView<State> states) {
  TERN_CHECK(i.cols == s.size() && z.cols == s.size() && states.cols == s.size());
  TERN_CHECK(keep.empty() || keep.size() == s.size());
  for (size_t t = 0; t < i.rows; ++t) rows::recurrence(i.row(t), z.row(t), keep, kind, s, states.row(t));
}

void gated_product(MatrixView<const Act> gate_up, Sigmoid kind, MatrixView<Act> y) {
  TERN_CHECK(gate_up.cols == 2 * y.cols && gate_up.rows == y.rows);
  for (size_t t = 0; t < y.rows; ++t) {
    rows::silu_product(gate_up.row(t).first(y.cols), gate_up.row(t).subspan(y.cols), kind, y.row(t));
  }
}

}  // namespace tern
