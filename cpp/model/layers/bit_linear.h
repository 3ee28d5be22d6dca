// bit_linear.h: the linear layer: its own norm, int8 activations per token, a matrix that is ternary or SFx.
// SPDX-License-Identifier: MIT
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

/// y = W . quantise(RMSNorm(x; norm))
struct BitLinear {
  uint32_t rows = 0, cols = 0;
  PackedTernary weight;           // [rows][cols], or where the file has SFx
  DenseMatrix dense;              // [rows][cols], from SF9 on twice as many rows: TensorPlan::dense
  std::vector<NormWeight> norm;   // [cols]
  Scale scale;                    // of weight, or
  std::vector<Scale> row_scales;  // [rows] of dense
  Scale epsilon;

  /// NAME.weight, stored with columns padded to whole blocks by zero weights, and its norm NAME.in_norm.weight.
  void list(TensorPlan& plan, const std::string& name, uint32_t rows, uint32_t cols, Scale epsilon);
};

struct Projection {
  const char* name;
  const BitLinear& layer;
  Buffer<Act>& y;
};

/// Several layers on the same x [T][cols] -> y [T][rows]: it is measured once, its codes differ with the norms.
void bit_linear(Workspace& w, MatrixView<const Act> x, std::initializer_list<Projection> projections);

/// One layer, to wherever the caller wants it.
void bit_linear(Workspace& w, const char* name, MatrixView<Act> y, MatrixView<const Act> x, const BitLinear& layer);

}  // namespace tern
