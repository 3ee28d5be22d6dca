// recurrence.h: the operations that remember: the short convolution and the gated recurrence.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "fixed/functions.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

inline constexpr uint32_t kMaxTaps = 8;

/// Causal depthwise convolution followed by silu: y[t][c] = silu(sum over k of taps[k][c] * x[t + k - (K - 1)][c] +
/// bias[c]).  |tap| < 2^kTapBits, so that the sum is exact.
struct ShortConvolution {
  std::vector<NormWeight> taps;  // [K][width], oldest first; empty: there is none
  std::vector<Act> bias;         // [width], or empty: 0
  uint32_t before = 0;           // K - 1: rows that are remembered
  size_t state = 0;              // where they are, [K - 1][width] Act, oldest first
  Sigmoid kind = Sigmoid::kTable;

  void list(TensorPlan& plan, const std::string& name, uint32_t kernel, uint32_t width, Sigmoid sigmoid);
};

/// In place, also between other columns; nothing where there is no convolution.
void short_convolution(Workspace& w, const char* name, MatrixView<Act> x, const ShortConvolution& conv);

/// s += k * (silu(i) - s) with k = keep * sigmoid(-z), token after token; k is 1 - forget gate, computed directly so
/// that a small one keeps its digits.
struct Recurrence {
  std::vector<Gate> keep;  // [width] 1 - lower bound of the forget gate; empty: 1
  size_t state = 0;        // where s is, [width] Cell
  Sigmoid kind = Sigmoid::kTable;

  void list(TensorPlan& plan, const std::string& lower_bound, bool has_bound, uint32_t width, Sigmoid sigmoid);
};

/// after [T][width]: s after each token.
void gated_recurrence(Workspace& w, const char* name, Buffer<Cell>& after, MatrixView<const Act> i,
                      MatrixView<const Act> z, const Recurrence& recurrence);

}  // namespace tern
