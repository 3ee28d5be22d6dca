// The products on the tile registers of processors with AMX: eight times the multiply-adds of a vector instruction.
#pragma once

#include "product.h"

namespace lm {

/// Whether products run on tiles: the processor has them, the system lets this process use them, and `use_tiles` has
/// not turned them off.
bool tiles_in_use();

#if defined(__AMX_INT8__)

/// The shapes of the tiles: sums in 0 to 3 (A0 B0, A0 B1, A1 B0, A1 B1), A in 4 and 5, B in 6 and 7.  Releases the
/// registers in the end: other libraries of the process use them, too.
class TileShapes {
 public:
  /// rows of A0 and A1; without rows A1 is not to be used.
  TileShapes(int rows0, int rows1) {
    alignas(64) struct {
      uint8_t palette = 1, first_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } shapes;
    const int rows[8] = {rows0, rows0, rows1, rows1, rows0, rows1, 16, 16};
    for (int i = 0; i < 8; ++i) {
      shapes.rows[i] = static_cast<uint8_t>(rows[i]);
      shapes.row_bytes[i] = rows[i] ? 64 : 0;
    }
    _tile_loadconfig(&shapes);
  }
  TileShapes(const TileShapes&) = delete;
  TileShapes& operator=(const TileShapes&) = delete;
  ~TileShapes() { _tile_release(); }
};

/// The compiler does not know that the tile instructions read memory.
inline void memory_is_written() { asm volatile("" ::: "memory"); }

/// Rows m and on by the columns of one or two blocks.
template <bool kTwoA, bool kTwoB>
void tile_square(const Operands& p, const Output& o, int m, int rows, int block, int k4, const int32_t* offset) {
  const uint32_t *a = p.a + m * p.a_row, *b = p.b + block * p.b_block;
  const long a_row = 4 * p.a_row, a_next = 16 * p.a_row, b_next = p.b_block;
  const int32_t* begin = offset + block * kLanes;
  _tile_loadd(0, begin, 0);  // the same row for all
  if constexpr (kTwoB) _tile_loadd(1, begin + kLanes, 0);
  if constexpr (kTwoA) _tile_loadd(2, begin, 0);
  if constexpr (kTwoA && kTwoB) _tile_loadd(3, begin + kLanes, 0);
  for (int k = 0; k < k4; k += 16, a += 16, b += 16 * kLanes) {
    _tile_loadd(4, a, a_row);
    _tile_loadd(6, b, 64);
    _tile_dpbusd(0, 4, 6);
    if constexpr (kTwoB) {
      _tile_loadd(7, b + b_next, 64);
      _tile_dpbusd(1, 4, 7);
    }
    if constexpr (kTwoA) {
      _tile_loadd(5, a + a_next, a_row);
      _tile_dpbusd(2, 5, 6);
    }
    if constexpr (kTwoA && kTwoB) _tile_dpbusd(3, 5, 7);
  }
  alignas(64) int32_t sums[2][2][16][kLanes];
  _tile_stored(0, sums[0][0], 64);
  if constexpr (kTwoB) _tile_stored(1, sums[0][1], 64);
  if constexpr (kTwoA) _tile_stored(2, sums[1][0], 64);
  if constexpr (kTwoA && kTwoB) _tile_stored(3, sums[1][1], 64);
  for (int r = 0; r < rows; ++r) {
    put(o, m + r, block * kLanes, load_as<Ints>(sums[r / 16][0][r % 16]));
    if constexpr (kTwoB) put(o, m + r, (block + 1) * kLanes, load_as<Ints>(sums[r / 16][1][r % 16]));
  }
}

/// `rows` rows from m on, at most 32 at a time, by all columns.
template <bool kTwoA>
void tile_rows(const Operands& p, const Output& o, int m, int end, int n, int k4, const int32_t* offset) {
  const int blocks = n / kLanes, step = kTwoA ? 32 : 16;
  for (int block = 0; block < blocks; block += 2)
    for (int from = m; from < end; from += step)
      if (block + 1 < blocks)
        tile_square<kTwoA, true>(p, o, from, std::min(step, end - from), block, k4, offset);
      else
        tile_square<kTwoA, false>(p, o, from, std::min(step, end - from), block, k4, offset);
}

inline void product_in_tiles(const Operands& p, const Output& o, int m, int n, int k4, const int32_t* offset) {
  memory_is_written();
  const int whole = m / 32 * 32, rest = m - whole;
  if (whole) {
    const TileShapes shapes(16, 16);
    tile_rows<true>(p, o, 0, whole, n, k4, offset);
  }
  if (rest > 16) {
    const TileShapes shapes(16, rest - 16);
    tile_rows<true>(p, o, whole, m, n, k4, offset);
  } else if (rest) {
    const TileShapes shapes(rest, 0);
    tile_rows<false>(p, o, whole, m, n, k4, offset);
  }
}

#endif

/// On tiles or in vectors: the same sums.
inline void product(const Operands& p, const Output& o, int m, int n, int k4, const int32_t* offset) {
#if defined(__AMX_INT8__)
  if (tiles_in_use()) return product_in_tiles(p, o, m, n, k4, offset);
#endif
  product_in_lanes(p, o, m, n, k4, offset);
}

}  // namespace lm
