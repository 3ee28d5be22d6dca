// dense_linear.h: the int8 linear layer, for the few small matrices of a ternary network that are not ternary.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "kernels/dense/dense.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

/// y = W . quantise(x) + bias: no norm, one scale per row.
struct DenseLinear {
  uint32_t rows = 0, cols = 0;
  DenseMatrix weight;        // [rows][cols]
  std::vector<Scale> scale;  // [rows]
  std::vector<Act> bias;     // [rows], or empty: 0

  enum class Bias { kNone, kOptional };

  /// NAME.weight and NAME.scale, and NAME.bias where it may be and the file has one.
  void list(TensorPlan& plan, const std::string& name, uint32_t rows, uint32_t cols, Bias may_be);
};

/// x [T][cols] as int8 codes, for the layers that come next.  ones [cols]: the weights of no norm.
void quantize(Workspace& w, MatrixView<const Act> x, std::span<const NormWeight> ones);

/// y [T][rows] of the rows that were quantised last.
void dense_linear(Workspace& w, const char* name, Buffer<Act>& y, const DenseLinear& layer);

/// y [T][rows] of x [T][cols] as codes of 11 bits; without a bias.  cols <= 2^14.
void dense_linear(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const DenseLinear& layer,
                  Buffer<int16_t>& codes);

}  // namespace tern
