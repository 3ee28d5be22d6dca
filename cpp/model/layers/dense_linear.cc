// dense_linear.cc: token after token, so that a large product can stop between two.
// SPDX-License-Identifier: MIT
#include "model/layers/dense_linear.h"

#include "base/check.h"
#include "kernels/kernels.h"

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

}  // namespace tern
