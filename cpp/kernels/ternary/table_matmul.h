// table_matmul.h: ternary products with many tokens by table lookup.
#pragma once

#include "base/view.h"
#include "kernels/ternary/packed.h"

namespace tern {

inline constexpr uint32_t kTableTokens = 16;  ///< tokens side by side; fewer cost the same

#if TERN_SIMD >= 1
/// What ternary_matmul() computes, in baseline SIMD.  Needs no sums of x: entries are sums of signed weights.
void table_matmul(const TernaryView& w, MatrixView<const int8_t> x, MatrixView<int32_t> y);
#endif

}  // namespace tern
