// relaxed.cc: ternary products with the relaxed 8-bit dot product (kernel A2), and the test that it is exact here.
#include "kernels/simd.h"
#include "kernels/tiled_matmul.h"

namespace tern::relaxed {
namespace {

using simd::Vec;

// Adds the products of 16 columns of four rows.  Activations are the first operand, codes the second: x86 takes the
// second as unsigned.  Fields 1 and 2 are used where they lie, so sums[1] is 4 times and sums[2] 16 times the row's
// sum; field 3 would make the operand exceed 7 bits, so it is shifted down.  No pair of products exceeds 2 * 127 * 32.
inline void add_group(Vec bytes, Vec x, Vec (&sums)[4]) {
  sums[0] = simd::dot_add_i8_i7(x, simd::bit_and(bytes, simd::splat_i8(0x03)), sums[0]);
  sums[1] = simd::dot_add_i8_i7(x, simd::bit_and(bytes, simd::splat_i8(0x0C)), sums[1]);
  sums[2] = simd::dot_add_i8_i7(x, simd::bit_and(bytes, simd::splat_i8(0x30)), sums[2]);
  sums[3] = simd::dot_add_i8_i7(x, simd::bit_and(simd::shift_right_u16<6>(bytes), simd::splat_i8(0x03)), sums[3]);
}

inline void finish_group(const Vec (&sums)[4], int32_t sum_x, int32_t* out) {
  simd::store(out, simd::sum_lanes_i32(sums[0], sums[1], sums[2], sums[3]));
  out[0] -= sum_x;
  out[1] = (out[1] >> 2) - sum_x;  // exact: a multiple of 4
  out[2] = (out[2] >> 4) - sum_x;
  out[3] -= sum_x;
}

struct Tiled {
  using Code = uint8_t;

  static void unpack(const uint8_t* group, Strip<Code>& strip, uint32_t at) {
    const Vec bytes = simd::load(group);
    const Vec mask = simd::splat_i8(3);
    simd::store(&strip.rows[0][at], simd::bit_and(bytes, mask));
    simd::store(&strip.rows[1][at], simd::bit_and(simd::shift_right_u16<2>(bytes), mask));
    simd::store(&strip.rows[2][at], simd::bit_and(simd::shift_right_u16<4>(bytes), mask));
    simd::store(&strip.rows[3][at], simd::bit_and(simd::shift_right_u16<6>(bytes), mask));
  }

  // Sums 16-bit lanes over the whole strip before widening: 64 vectors, each adding at most 2 * 2 * 127 to a lane.
  static_assert(kStripCols / kTileCols * 2 * 2 * 127 <= 32767);

  static void dot(const Strip<Code>& strip, uint32_t cols, const int8_t* x0, const int8_t* x1,
                  int32_t (&sums)[2][kGroupRows]) {
    Vec a[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec b[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t c = 0; c < cols; c += kTileCols) {
      const Vec xa = simd::load(x0 + c);
      const Vec xb = simd::load(x1 + c);
      const auto add_row = [&](int r) {
        const Vec codes = simd::load(&strip.rows[r][c]);
        a[r] = simd::add_i16(a[r], simd::dot_i8_i7(xa, codes));
        b[r] = simd::add_i16(b[r], simd::dot_i8_i7(xb, codes));
      };
      add_row(0);  // no loop: GCC 12 would keep the sums in memory
      add_row(1);
      add_row(2);
      add_row(3);
    }
    for (uint32_t r = 0; r < kGroupRows; ++r) {
      a[r] = simd::add_pairs_i16(a[r]);
      b[r] = simd::add_pairs_i16(b[r]);
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
      const Vec activations = simd::load(x + col);
      add_group(simd::load(tile), activations, upper);
      add_group(simd::load(tile + kGroupBytes), activations, lower);
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

}  // namespace tern::relaxed

namespace tern {

bool relaxed_dot_is_exact() {
  // Every pair of an extreme activation and a masked code that the kernels can produce, in all lanes and both forms,
  // on top of a sum that is not zero.  Read through volatile: the compiler may not compute the answer itself.
  using simd::Vec;
  static const volatile int8_t kActivations[] = {-127, -1, 0, 1, 127, 85, -86};
  static const volatile uint8_t kCodes[] = {0, 1, 2, 4, 8, 16, 32, 48};
  for (const volatile int8_t& activation : kActivations) {
    for (const volatile uint8_t& code : kCodes) {
      int8_t x[16];
      int8_t u[16];
      int32_t expected[4] = {-1000, 1, 0, 70000};
      int16_t expected_pairs[8];
      const Vec start = simd::load(expected);
      for (int i = 0; i < 16; ++i) {
        x[i] = static_cast<int8_t>(i % 5 == 4 ? -activation : activation);  // mixed signs within a pair
        u[i] = static_cast<int8_t>(i % 3 == 2 ? 48 - code : code);
        expected[i / 4] += x[i] * u[i];
      }
      for (int i = 0; i < 8; ++i)
        expected_pairs[i] = static_cast<int16_t>(x[2 * i] * u[2 * i] + x[2 * i + 1] * u[2 * i + 1]);
      int32_t sums[4];
      int16_t pairs[8];
      simd::store(sums, simd::dot_add_i8_i7(simd::load(x), simd::load(u), start));
      simd::store(pairs, simd::dot_i8_i7(simd::load(x), simd::load(u)));
      if (std::memcmp(sums, expected, sizeof sums) != 0) return false;
      if (std::memcmp(pairs, expected_pairs, sizeof pairs) != 0) return false;
    }
  }
  return true;
}

}  // namespace tern
