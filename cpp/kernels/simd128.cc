// simd128.cc: ternary products with baseline SIMD: 16-bit dot products on masked views of the packed bytes.
#include "kernels/simd.h"
#include "kernels/tiled_matmul.h"

namespace tern::simd128 {
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

inline void finish_group(const Vec (&sums)[4], int32_t sum_x, int32_t* out) {
  simd::store(out, simd::sum_lanes_i32(sums[0], sums[1], sums[2], sums[3]));
  for (int f = 0; f < 4; ++f) out[f] = (out[f] >> (2 * f)) - sum_x;  // exact: a multiple of 4^f
}

struct Tiled {
  using Code = int16_t;

  static void unpack(const uint8_t* group, Strip<Code>& strip, uint32_t at) {
    const Vec bytes = simd::load(group);
    const Vec mask = simd::splat_i8(3);
    const Vec fields[4] = {simd::bit_and(bytes, mask), simd::bit_and(simd::shift_right_u16<2>(bytes), mask),
                           simd::bit_and(simd::shift_right_u16<4>(bytes), mask),
                           simd::bit_and(simd::shift_right_u16<6>(bytes), mask)};
    for (uint32_t r = 0; r < kGroupRows; ++r) {
      simd::store(&strip.rows[r][at], simd::low_u8_as_i16(fields[r]));
      simd::store(&strip.rows[r][at + 8], simd::high_u8_as_i16(fields[r]));
    }
  }

  static void dot(const Strip<Code>& strip, uint32_t cols, const int8_t* x0, const int8_t* x1,
                  int32_t (&sums)[2][kGroupRows]) {
    Vec a[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec b[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t c = 0; c < cols; c += 8) {
      const Vec xa = simd::load_i8_as_i16(x0 + c);
      const Vec xb = simd::load_i8_as_i16(x1 + c);
      const auto add_row = [&](int r) {
        const Vec codes = simd::load(&strip.rows[r][c]);
        a[r] = simd::add_i32(a[r], simd::dot_i16(codes, xa));
        b[r] = simd::add_i32(b[r], simd::dot_i16(codes, xb));
      };
      add_row(0);  // no loop: GCC 12 would keep the sums in memory
      add_row(1);
      add_row(2);
      add_row(3);
    }
    simd::store(sums[0], simd::sum_lanes_i32(a[0], a[1], a[2], a[3]));
    simd::store(sums[1], simd::sum_lanes_i32(b[0], b[1], b[2], b[3]));
  }
};

}  // namespace

void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  const uint8_t* tile = w.tiles;
  for (uint32_t row = 0; row < w.rows; row += kTileRows) {
    Vec upper[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec lower[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t col = 0; col < w.cols; col += kTileCols, tile += kTileBytes) {
      const Vec bytes = simd::load(x + col);
      const Vec x_even = simd::shift_right_i16<8>(simd::shift_left_i16<8>(bytes));
      const Vec x_odd = simd::shift_right_i16<8>(bytes);
      add_group(simd::load(tile), x_even, x_odd, upper);
      add_group(simd::load(tile + kGroupBytes), x_even, x_odd, lower);
    }
    int32_t sums[kTileRows];
    finish_group(upper, sum_x, sums);
    finish_group(lower, sum_x, sums + 4);
    store_rows(sums, row, w, y);
  }
}

void matmul(const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x, MatrixView<int32_t> y) {
  tiled_matmul<Tiled>(w, x, sum_x, y);
}

}  // namespace tern::simd128
