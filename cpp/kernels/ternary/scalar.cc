// scalar.cc: the definition of the ternary products; every other level must equal it bit for bit.
#include "kernels/ternary/levels.h"

namespace tern::scalar {

void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  const uint8_t* tile = w.tiles;
  for (uint32_t row = 0; row < w.rows; row += kTileRows) {
    int32_t sums[kTileRows];
    std::fill(std::begin(sums), std::end(sums), -sum_x);
    for (uint32_t col = 0; col < w.cols; col += kTileCols, tile += kTileBytes) {
      for (uint32_t r = 0; r < kTileRows; ++r) {
        const uint8_t* bytes = tile + r / 4 * kGroupBytes;
        for (uint32_t c = 0; c < kTileCols; ++c) {
          const int32_t code = bytes[c] >> (2 * (r % 4)) & 3;
          sums[r] += code * x[col + c];
        }
      }
    }
    store_rows(sums, row, w, y);
  }
}

}  // namespace tern::scalar
