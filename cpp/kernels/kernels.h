// kernels.h: what a layer of a model computes with: ternary products, and the rows around them.
#pragma once

#include <cstdint>
#include <span>

#include "base/view.h"
#include "kernels/rows/norm.h"
#include "kernels/ternary/packed.h"

namespace tern {

/// y[r] = sum over c of W[r][c] * x[c],   W in {-1, 0, +1}
///   w      [rows][cols]
///   x      [padded_cols(cols)]  int8 in [-127, 127], 0 beyond cols; its scale stays with the caller
///   sum_x  sum of x
///   y      [rows]               int32, exact: |y| <= 127 * cols
/// Computed as sum u * x - sum_x with u = w + 1, since only non-negative codes unpack without sign extension.
void ternary_matvec(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y);

/// The same for several tokens; weights are unpacked once for the whole tile of tokens.
///   x      [tokens][padded_cols(cols)]
///   sum_x  [tokens]
///   y      [tokens][rows]
/// Bit for bit what ternary_matvec gives for each token.
void ternary_matmul(const TernaryView& w, MatrixView<const int8_t> x, std::span<const int32_t> sum_x,
                    MatrixView<int32_t> y);

}  // namespace tern
