// tiled_matmul.h: the loop over strips, row groups and tokens that both SIMD levels share for several tokens at once.
#pragma once

#include "kernels/levels.h"

namespace tern {

inline constexpr uint32_t kGroupRows = 4;     ///< rows in a byte
inline constexpr uint32_t kStripCols = 1024;  ///< columns unpacked at a time; 4 rows of them stay in the L1 cache

/// Four unpacked rows of a strip.
template <class Code>
struct Strip {
  alignas(16) Code rows[kGroupRows][kStripCols];
};

/// Level provides
///   Code                                              an unpacked code, an integer type
///   unpack(group, strip, at)                          16 bytes of a row group to four times 16 codes at column `at`
///   dot(strip, cols, x0, x1, sums)                    sums[2][4] of the strip with two tokens
/// Each unpacked strip is used by all tokens before the next one is unpacked.
template <class Level>
void tiled_matmul(const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x, MatrixView<int32_t> y) {
  const uint32_t cols = padded_cols(w.cols);
  const size_t tiles_per_row = cols / kTileCols;
  for (size_t t = 0; t < x.rows; ++t) {
    std::fill_n(y.row(t).data(), w.rows, -sum_x[t]);
  }
  Strip<typename Level::Code> strip;
  for (uint32_t first = 0; first < cols; first += kStripCols) {
    const uint32_t count = std::min(kStripCols, cols - first);
    for (uint32_t row = 0; row < w.rows; row += kGroupRows) {
      const uint8_t* group = w.tiles + (row / kTileRows * tiles_per_row + first / kTileCols) * kTileBytes +
                             row % kTileRows / kGroupRows * kGroupBytes;
      for (uint32_t at = 0; at < count; at += kTileCols) {
        Level::unpack(group + at / kTileCols * kTileBytes, strip, at);
      }
      const uint32_t live_rows = std::min(kGroupRows, w.rows - row);
      for (size_t t = 0; t < x.rows; t += 2) {
        const size_t second = std::min(t + 1, x.rows - 1);  // an odd last token is computed twice, and stored once
        int32_t sums[2][kGroupRows];
        Level::dot(strip, count, x.data + t * x.stride + first, x.data + second * x.stride + first, sums);
        for (size_t i = 0; i <= second - t; ++i) {
          int32_t* out = y.data + (t + i) * y.stride + row;
          for (uint32_t r = 0; r < live_rows; ++r) out[r] += sums[i][r];
        }
      }
    }
  }
}

}  // namespace tern
