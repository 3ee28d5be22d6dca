// masked_matvec.h: the loop over tiles that the matrix-vector products with masked 8-bit dot products share.
#pragma once

#include "kernels/simd/simd.h"
#include "kernels/ternary/levels.h"

namespace tern {

using simd::Vec;

/// y = W x.  Dots provides, for a group of four rows,
///   add(bytes, x, sums)   adds 16 columns to four vectors of 32-bit sums, scaled or mixed as is cheapest
///   finish(sums, sum_x)   the four rows' results
/// The sums of the widest matrix (kMaxTernaryCols) fit, or wrap where finish() takes differences.
template <class Dots>
inline void masked_matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  const uint8_t* tile = w.tiles;
  for (uint32_t row = 0; row < w.rows; row += kTileRows) {
    Vec upper[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec lower[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t col = 0; col < w.cols; col += kTileCols, tile += kTileBytes) {
      const Vec activations = simd::load(x + col);
      Dots::add(simd::load(tile), activations, upper);
      Dots::add(simd::load(tile + kGroupBytes), activations, lower);
    }
    int32_t sums[kTileRows];
    simd::store(sums, Dots::finish(upper, sum_x));
    simd::store(sums + 4, Dots::finish(lower, sum_x));
    store_rows(sums, row, w, y);
  }
}

#if TERN_SIMD >= 2
/// The machine's own dot product, whatever it takes as codes of 8 bits.
struct RelaxedDot {
  static Vec dot(Vec x, Vec codes, Vec sum) { return simd::dot_add_i8_i7(x, codes, sum); }
};
#endif

/// Kernel A2.  Activations are the first operand, codes the second: x86 takes the second as unsigned.  Fields 1 and 2
/// are used where they lie, so sums[1] is 4 times and sums[2] 16 times the row's sum; field 3 would make the operand
/// exceed 7 bits, so it is shifted down.  No pair of products exceeds 2 * 127 * 32.
template <class Dot>
struct ScaledDots {
  static void add(Vec bytes, Vec x, Vec (&sums)[4]) {
    const Vec top = simd::bit_and(simd::shift_right_u16<6>(bytes), simd::splat_i8(0x03));
    sums[0] = Dot::dot(x, simd::bit_and(bytes, simd::splat_i8(0x03)), sums[0]);
    sums[1] = Dot::dot(x, simd::bit_and(bytes, simd::splat_i8(0x0C)), sums[1]);
    sums[2] = Dot::dot(x, simd::bit_and(bytes, simd::splat_i8(0x30)), sums[2]);
    sums[3] = Dot::dot(x, top, sums[3]);
  }

  static Vec finish(const Vec (&sums)[4], int32_t sum_x) {  // the shifts are exact: multiples of 4 and 16
    const Vec rows =
        simd::sum_lanes_i32(sums[0], simd::shift_right_i32<2>(sums[1]), simd::shift_right_i32<4>(sums[2]), sums[3]);
    return simd::sub_i32(rows, simd::splat_i32(sum_x));
  }
};

/// Kernel A1: the fields of a byte by nested masks, u0, u0 + 4 u1, u0 + 4 u1 + 16 u2 and the whole byte, so that three
/// masks do; rows are differences of sums.  Needs a dot product that takes 8-bit codes:
///   kSigned false  as unsigned; the whole byte is at most 170
///   kSigned true   as signed: the top field becomes the weight itself in two's complement by adding 3 to it
/// dot(x, codes, sum) is the product; tests pass their own.
/// The last sum may wrap: the difference is at most 64 * 2 * 127 * kMaxTernaryCols < 2^31.
template <bool kSigned, class Dot>
struct NestedDots {
  static void add(Vec bytes, Vec x, Vec (&sums)[4]) {
    sums[0] = Dot::dot(x, simd::bit_and(bytes, simd::splat_i8(0x03)), sums[0]);
    sums[1] = Dot::dot(x, simd::bit_and(bytes, simd::splat_i8(0x0F)), sums[1]);
    sums[2] = Dot::dot(x, simd::bit_and(bytes, simd::splat_i8(0x3F)), sums[2]);
    sums[3] = Dot::dot(x, kSigned ? simd::add_i8(bytes, simd::splat_i8(-0x40)) : bytes, sums[3]);
  }

  static Vec finish(const Vec (&sums)[4], int32_t sum_x) {
    const Vec rows = simd::sum_lanes_i32(sums[0], simd::shift_right_i32<2>(simd::sub_i32(sums[1], sums[0])),
                                         simd::shift_right_i32<4>(simd::sub_i32(sums[2], sums[1])),
                                         simd::shift_right_i32<6>(simd::sub_i32(sums[3], sums[2])));
    const int32_t offsets[4] = {sum_x, sum_x, sum_x, kSigned ? 0 : sum_x};
    return simd::sub_i32(rows, simd::load(offsets));
  }
};

}  // namespace tern
