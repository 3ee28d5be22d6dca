// table_matmul.h: ternary products with many tokens by table lookup.
#pragma once

#include "kernels/kernels.h"

namespace tern {

inline constexpr uint32_t kTableTokens = 16;  ///< tokens side by side; fewer cost the same

/// What ternary_matmul() computes, in baseline SIMD.  Needs no sums of x: entries are sums of signed weights.
void table_matmul(const TernaryView& w, MatrixView<const int8_t> x, MatrixView<int32_t> y);

/// Fewest tokens for which a table is taken; more than kTableTokens: never.  probe() sets what it measured; until then
/// what was measured where one product takes 22 to 31 GMAC/s and tables 43 (Cascade Lake, Chromium).
inline uint32_t& table_tokens() {
  static uint32_t tokens = 11;
  return tokens;
}

/// Tables while they are filled well enough, else one product after the other, which was no slower than unpacking
/// weights once for a few tokens (30 against 33 GMAC/s relaxed, 17 against 16 SIMD128).
template <class Matvec>
void table_matmul_or(Matvec matvec, const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x,
                     MatrixView<int32_t> y) {
  const size_t enough = table_tokens(), last = x.rows % kTableTokens;
  const size_t by_table = enough > kTableTokens ? 0 : last >= enough ? x.rows : x.rows - last;
  if (by_table > 0) table_matmul(w, x.slice(0, by_table), y.slice(0, by_table));
  for (size_t t = by_table; t < x.rows; ++t) matvec(w, x.row(t).data(), sum_x[t], y.row(t).data());
}

}  // namespace tern
