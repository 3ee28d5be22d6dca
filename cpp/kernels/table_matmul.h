// table_matmul.h: ternary products with many tokens by table lookup.
#pragma once

#include "kernels/kernels.h"

namespace tern {

inline constexpr uint32_t kTableTokens = 16;  ///< tokens side by side; fewer cost the same

/// What ternary_matmul() computes, in baseline SIMD.  Needs no sums of x: entries are sums of signed weights.
void table_matmul(const TernaryView& w, MatrixView<const int8_t> x, MatrixView<int32_t> y);

/// By tables if there are `enough` tokens, since fewer cost the same; else one product after the other, which was no
/// slower than unpacking weights once for a few tokens (30 against 33 GMAC/s relaxed, 17 against 16 SIMD128).
template <size_t enough, class Matvec>
void table_matmul_or(Matvec matvec, const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x,
                     MatrixView<int32_t> y) {
  if (x.rows >= enough) return table_matmul(w, x, y);
  for (size_t t = 0; t < x.rows; ++t) matvec(w, x.row(t).data(), sum_x[t], y.row(t).data());
}

}  // namespace tern
