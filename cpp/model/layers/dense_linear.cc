// dense_linear.cc: token after token, so that a large product can stop between two.
// SPDX-License-Identifier: MIT
#include "model/layers/dense_linear.h"

#include "base/check.h"
#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/layers/ternary_linear.h"

namespace tern {

void DenseLinear::list(TensorPlan& plan, const std::string& name, uint32_t rows_, uint32_t cols_, Bias may_be) {
  rows = rows_;
  cols = cols_;
  plan.dense(name, rows, cols, &weight, &scale);
  if (may_be == Bias::kOptional && plan.is_in_file(name + ".bias")) plan.vector(name + ".bias", rows, &bias);
}

void quantize(Workspace& w, MatrixView<const Act> x, std::span<const NormWeight> ones) {
  const MatrixView<int8_t> codes = w.codes.shape(x.rows, padded_cols(static_cast<uint32_t>(x.cols)));
  if (!w.turn(x)) return;
  for (size_t t = 0; t < x.rows; ++t) {
    w.scales[t] = quantize_activations(x.row(t), ones, Scale::from_integer(1), codes.row(t)).scale;
  }
}

void dense_linear(Workspace& w, const char* name, Buffer<Act>& y, const DenseLinear& layer) {
  const MatrixView<const int8_t> codes = w.codes;
  const MatrixView<Act> out = y.shape(codes.rows, layer.rows);
  const std::span<int32_t> sums = w.sums.shape(1, layer.rows).row(0);
  for (size_t t = 0; t < out.rows; ++t) {
    if (!w.turn(uint64_t{layer.rows} * layer.cols)) continue;
    dense_matvec(layer.weight.view(), codes.row(t), sums);
    for (size_t r = 0; r < layer.rows; ++r) {
      Act& number = out.row(t)[r];
      number.raw = Rescale(layer.scale[r] * w.scales[t], Act::kFractionBits)(sums[r]);
      if (!layer.bias.empty()) number = add(number, layer.bias[r]);
    }
    w.observe_row(name, t, out.row(t));
  }
}

void dense_linear(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const DenseLinear& layer,
                  Buffer<int16_t>& codes) {
  const MatrixView<int16_t> wide = codes.shape(x.rows, padded_cols(layer.cols));
  const uint32_t piece = rows_of_piece(layer.rows, layer.cols, w.piece());
  const std::span<int32_t> sums = w.sums.shape(1, std::min(piece, layer.rows)).row(0);
  if (w.turn(x)) {
    for (size_t t = 0; t < x.rows; ++t) {
      std::ranges::fill(wide.row(t).subspan(layer.cols), int16_t{0});
      const std::span<const int32_t> row(&x.row(t).data()->raw, layer.cols);
      w.scales[t] = codes_of<int16_t>(row, 1023, wide.row(t).first(layer.cols));
    }
  }
  for (size_t t = 0; t < x.rows; ++t) {
    for (uint32_t first = 0; first < layer.rows; first += piece) {
      const uint32_t count = std::min(piece, layer.rows - first);
      if (!w.turn(uint64_t{layer.cols} * count)) continue;
      const DenseView part{layer.weight.view().codes + size_t{first} * padded_cols(layer.cols), count, layer.cols};
      dense_matvec(part, wide.row(t), sums.first(count));
      constexpr uint64_t kLeast = uint64_t{1} << 12;  // rows that are worth a thread of their own
      const uint32_t parts = parts_for(count, kLeast);
      parallel(parts, [&](uint32_t p) {
        for (uint32_t r = part_begin(count, p, parts); r < part_begin(count, p + 1, parts); ++r) {
          // An Act is worth 2^-16, and has as many fraction bits.
          y.row(t)[first + r].raw = Rescale(layer.scale[first + r] * w.scales[t], 0)(sums[r]);
        }
      });
      if (first + count == layer.rows) w.observe_row(name, t, y.row(t));
    }
  }
}

}  // namespace tern
