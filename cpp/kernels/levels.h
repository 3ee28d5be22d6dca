// levels.h: declares what every level of kernels.inc implements, and the helpers they share.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/kernels.h"

namespace tern {

#define TERN_LEVEL(name, is_exact)                                                                            \
  namespace name {                                                                                            \
  void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y);                              \
  void matmul(const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x, MatrixView<int32_t> y); \
  }
#include "kernels/kernels.inc"
#undef TERN_LEVEL

/// All products go there from now on; `level` must live on.  The bench passes levels of its own.
void use_level(const KernelLevel& level);

/// Weights of a product with one token that are worth a thread of their own: 1 to 5 microseconds of work, where
/// offering a part to another thread costs 0.05 to 0.5.  Of several tokens four times as many, since the tables of
/// table_matmul.h are made by every thread for itself (as much work as 130 rows are).  Tests set others.
inline constexpr uint64_t kProductsPerThread = uint64_t{1} << 17;
void set_products_per_thread(uint64_t products);

inline constexpr size_t kGroupBytes = kTileCols;       ///< 16 columns of four rows
inline constexpr size_t kTileBytes = 2 * kGroupBytes;  ///< 16 columns of eight rows

inline constexpr uint32_t kGroupRows = 4;  ///< rows in a byte

/// Copies the sums of a tile's rows that exist, `first` being the tile's first row.
inline void store_rows(const int32_t (&sums)[kTileRows], uint32_t first, const TernaryView& w, int32_t* y) {
  std::memcpy(y + first, sums, sizeof(int32_t) * std::min(kTileRows, w.rows - first));
}

}  // namespace tern
