// The products on the tile registers of processors with AMX: eight times the multiply-adds of a vector instruction.
#pragma once

#include <algorithm>

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

/// The next rows from m on, at most 32, by the columns of one block or two.
template <bool kTwoA, bool kTwoB>
void tile_square(const Factors& p, const Output& o, int m, int rows, int block) {
  const uint32_t *a = p.a + m * p.a_row, *b = p.b + block * p.b_block;
  const long a_row = 4 * p.a_row, a_next = 16 * p.a_row, b_next = p.b_block;
  const int32_t* begin = p.offset + block * kLanes;
  _tile_loadd(0, begin, 0);  // the same row for all
  if constexpr (kTwoB) _tile_loadd(1, begin + kLanes, 0);
  if constexpr (kTwoA) _tile_loadd(2, begin, 0);
  if constexpr (kTwoA && kTwoB) _tile_loadd(3, begin + kLanes, 0);
  for (int k = 0; k < p.k4; k += 16, a += 16, b += 16 * kLanes) {
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
    put(p, o, m + r, block * kLanes, load_as<Ints>(sums[r / 16][0][r % 16]));
    if constexpr (kTwoB) put(p, o, m + r, (block + 1) * kLanes, load_as<Ints>(sums[r / 16][1][r % 16]));
  }
}

/// Square by square all the products, so that what they are added to stays in the cache.
template <bool kTwoA>
void squares(const Factors* p, int count, const Output& o, const Area& of) {
  const int end = of.right / kLanes, step = kTwoA ? 32 : 16;
  for (int block = of.left / kLanes; block < end; block += 2)
    for (int m = of.top; m < of.bottom; m += step)
      for (int i = 0; i < count; ++i)
        if (block + 1 < end)
          tile_square<kTwoA, true>(p[i], o, m, std::min(step, of.bottom - m), block);
        else
          tile_square<kTwoA, false>(p[i], o, m, std::min(step, of.bottom - m), block);
}

inline void products_in_tiles(const Factors* p, int count, const Output& o, const Area& of) {
  memory_is_written();
  const int rest = (of.bottom - of.top) % 32, whole = of.bottom - rest;
  if (whole > of.top) {
    const TileShapes shapes(16, 16);
    squares<true>(p, count, o, {of.top, whole, of.left, of.right});
  }
  if (rest > 16) {
    const TileShapes shapes(16, rest - 16);
    squares<true>(p, count, o, {whole, of.bottom, of.left, of.right});
  } else if (rest) {
    const TileShapes shapes(rest, 0);
    squares<false>(p, count, o, {whole, of.bottom, of.left, of.right});
  }
}

#endif

/// The area `of` of one product, or of several that are added to one output; on tiles or in vectors, with the same
/// sums.
inline void products(const Factors* p, int count, const Output& o, const Area& of) {
#if defined(__AMX_INT8__)
  if (tiles_in_use()) return products_in_tiles(p, count, o, of);
#endif
  for (int i = 0; i < count; ++i) product_in_lanes(p[i], o, of);
}

}  // namespace lm
