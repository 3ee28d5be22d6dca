// two_row_dots.h: 16-bit dot products in which one multiplication serves two rows.
#pragma once

#include <atomic>

#include "kernels/simd/simd.h"
#include "kernels/ternary/packed.h"

namespace tern {

// A lane of 16 bits is one column, its byte twice; u0 to u3 are the codes of four rows:
//   bits        15 14 | 13 12 | 11 10 | 9 8 | 7 6 | 5 4 | 3 2 | 1 0
//   twice        u3      u2      u1     u0    u3    u2    u1    u0
//   & 0x3003      0      u2       0      0     0     0     0    u0     = u0 + 2^12 u2;  after >> 2: u1 + 2^12 u3
//   dot, 8 columns to a 32-bit lane:  P = low + 2^12 high,  |low| <= 8 * 2 * 127 < 2^11
//   P + 2^11   [ ---- 20 bits: high of row 2 or 3 ---- | -- 12 bits: low of row 0 or 1, + 2^11 -- ]
/// Sums of four rows.
struct FourRows {
  static constexpr uint32_t kStepCols = 2 * kTileCols;
  static constexpr uint32_t kSpanCols = 4096;  ///< for so many columns the sums fit

  /// packed(tile): bytes of four rows for each of kTiles <= 2 tiles of columns, x: 16 activations for each.
  template <int kTiles, class Packed>
  void add(const Packed& packed, const int16_t* x) {
    using simd::Vec;
    Vec sum_even = simd::splat_i32(kLowOffset), sum_odd = sum_even;
    const Vec mask = simd::splat_i16(0x3003);
    for (int tile = 0; tile < kTiles; ++tile, x += kTileCols) {
      const Vec bytes = packed(tile), x_left = simd::load_aligned(x), x_right = simd::load_aligned(x + 8);
      const Vec left = simd::low_bytes_twice(bytes), right = simd::high_bytes_twice(bytes);
      const auto dot = [&](Vec fields, Vec with) { return simd::dot_i16(simd::bit_and(fields, mask), with); };
      sum_even = simd::add_i32(sum_even, simd::add_i32(dot(left, x_left), dot(right, x_right)));
      sum_odd = simd::add_i32(sum_odd, simd::add_i32(dot(simd::shift_right_u16<2>(left), x_left),
                                                     dot(simd::shift_right_u16<2>(right), x_right)));
      // No instruction, but the compiler may not load the next tile early: that needs more registers than there are.
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    even.add(sum_even);
    odd.add(sum_odd);
  }

  /// {row 0, row 1, row 2, row 3} after `steps` calls of add().
  simd::Vec finish(uint32_t steps) const {
    const simd::Vec offset = simd::splat_i32(kLowOffset * static_cast<int32_t>(steps));
    return simd::sum_lanes_i32(simd::sub_i32(even.low, offset), simd::sub_i32(odd.low, offset), even.high(),
                               odd.high());
  }

 private:
  static constexpr int kHighBits = 12;
  static constexpr int32_t kLowOffset = 1 << (kHighBits - 1);
  static constexpr int32_t kLowMask = (1 << kHighBits) - 1;
  static_assert(kStepCols / 4 * 2 * 127 < kLowOffset);
  // A lane has a fourth of the columns, and |high| must stay below 2^(31 - 12).
  static_assert(kSpanCols / 4 * 2 * 127 < 1 << (31 - kHighBits) && kSpanCols % kStepCols == 0);

  /// Of the two rows that share multiplications, each lane offset by kLowOffset per step.
  struct TwoRows {
    simd::Vec all = simd::zero(), low = simd::zero();

    void add(simd::Vec step) {
      all = simd::add_i32(all, step);
      low = simd::add_i32(low, simd::bit_and(step, simd::splat_i32(kLowMask)));
    }
    simd::Vec high() const { return simd::shift_right_i32<kHighBits>(simd::sub_i32(all, low)); }
  };

  TwoRows even, odd;  // rows 0 and 2, rows 1 and 3
};

}  // namespace tern
