// one_row_dots.cc: the ternary product with 16-bit dot products, one multiplication per row.
#include "kernels/lab/lab.h"
#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#include "kernels/ternary/levels.h"

namespace tern::lab {
namespace {

using simd::Vec;

// Adds the products of 16 columns of four rows.  Field f of a byte is used where it lies, so sums[f] holds 4^f times
// the row's sum: at most 64 * 2 * 127 * kMaxTernaryCols < 2^31.
inline void add_group(Vec bytes, Vec x_even, Vec x_odd, Vec (&sums)[4]) {
  const Vec odd_bytes = simd::shift_right_u16<8>(bytes);
  const auto add_field = [&](Vec& sum, int16_t mask) {
    const Vec even = simd::dot_i16(simd::bit_and(bytes, simd::splat_i16(mask)), x_even);
    const Vec odd = simd::dot_i16(simd::bit_and(odd_bytes, simd::splat_i16(mask)), x_odd);
    sum = simd::add_i32(sum, simd::add_i32(even, odd));
  };
  add_field(sums[0], 0x03);
  add_field(sums[1], 0x0C);
  add_field(sums[2], 0x30);
  add_field(sums[3], 0xC0);
}

inline Vec finish_group(const Vec (&sums)[4], int32_t sum_x) {  // the shifts are exact: multiples of 4^f
  const Vec rows = simd::sum_lanes_i32(sums[0], simd::shift_right_i32<2>(sums[1]), simd::shift_right_i32<4>(sums[2]),
                                       simd::shift_right_i32<6>(sums[3]));
  return simd::sub_i32(rows, simd::splat_i32(sum_x));
}

}  // namespace

void one_row_dots(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) {
  const uint8_t* tile = w.tiles;
  for (uint32_t row = 0; row < w.rows; row += kTileRows) {
    Vec upper[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec lower[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t col = 0; col < w.cols; col += kTileCols, tile += kTileBytes) {
      const Vec bytes = simd::load(&x[col]);
      const Vec x_even = simd::shift_right_i16<8>(simd::shift_left_i16<8>(bytes));
      const Vec x_odd = simd::shift_right_i16<8>(bytes);
      add_group(simd::load(tile), x_even, x_odd, upper);
      add_group(simd::load(tile + kGroupBytes), x_even, x_odd, lower);
    }
    int32_t sums[kTileRows];
    simd::store(sums, finish_group(upper, sum_x));
    simd::store(sums + 4, finish_group(lower, sum_x));
    store_rows(sums, row, w, y.data());
  }
}

}  // namespace tern::lab
#endif
