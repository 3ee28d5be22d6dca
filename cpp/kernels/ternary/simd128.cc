// simd128.cc: ternary products with baseline SIMD: 16-bit dot products in which one multiplication serves two rows.
//
// GMAC/s, matrix-vector product in Chromium 156 on one thread of a Cascade Lake, all in one run:
//                                         512 x 512   2048 x 2048   8192 x 4096
//   this                                     21.6         23.0          17.9
//   … with the loads left to the compiler    20.5         21.6          17.7
//   four rows at a time                      22.1         23.1          16.4
//   fields 1 and 3 masked where they lie     20.0         20.7          17.2    (five more constants: they spill)
//   one multiplication per row (lab)         16.8         17.1          15.6
//   dot products alone                                    24
// Ruled out on paper, since their instructions for 64 products are as many or more (this: 19, one multiplication per
// row: 25): tables of pairs of weights looked up by swizzle, which for 8-bit activations need two tables (20, and
// another layout), 5-bit halves of the activations (20), bit planes.
#include <atomic>

#include "kernels/simd/simd.h"
#include "kernels/ternary/levels.h"

namespace tern::simd128 {
namespace {

using simd::Vec;

// A lane of 16 bits is one column, its byte twice; u0 to u3 are the codes of four rows:
//   bits        15 14 | 13 12 | 11 10 | 9 8 | 7 6 | 5 4 | 3 2 | 1 0
//   twice        u3      u2      u1     u0    u3    u2    u1    u0
//   & 0x3003      0      u2       0      0     0     0     0    u0     = u0 + 2^12 u2;  after >> 2: u1 + 2^12 u3
//   dot, 8 columns to a 32-bit lane:  P = low + 2^12 high,  |low| <= 8 * 2 * 127 < 2^11
//   P + 2^11   [ ---- 20 bits: high of row 2 or 3 ---- | -- 12 bits: low of row 0 or 1, + 2^11 -- ]
constexpr int kHighBits = 12;
constexpr int32_t kLowOffset = 1 << (kHighBits - 1);
constexpr int32_t kLowMask = (1 << kHighBits) - 1;
constexpr uint32_t kStepCols = 2 * kTileCols;
static_assert(kStepCols / 4 * 2 * 127 < kLowOffset);

// Columns for which the sum of all P fits: a lane has a fourth of them, and |high| must stay below 2^(31 - 12).
constexpr uint32_t kSpanCols = 4096;
static_assert(kSpanCols / 4 * 2 * 127 < 1 << (31 - kHighBits) && kSpanCols % kStepCols == 0);

/// Of the two rows that share multiplications, each lane offset by kLowOffset per step.
struct TwoRows {
  Vec all = simd::zero(), low = simd::zero();

  void add(Vec step) {
    all = simd::add_i32(all, step);
    low = simd::add_i32(low, simd::bit_and(step, simd::splat_i32(kLowMask)));
  }
  Vec high() const { return simd::shift_right_i32<kHighBits>(simd::sub_i32(all, low)); }
};

struct FourRows {
  TwoRows even, odd;  // rows 0 and 2, rows 1 and 3

  /// x: 16 activations for each of the kTiles columns of tiles.
  template <int kTiles>
  void add(const uint8_t* bytes, const int16_t* x) {
    Vec sum_even = simd::splat_i32(kLowOffset), sum_odd = sum_even;
    const Vec mask = simd::splat_i16(0x3003);
    for (int tile = 0; tile < kTiles; ++tile, bytes += kTileBytes, x += kTileCols) {
      const Vec packed = simd::load(bytes), x_left = simd::load_aligned(x), x_right = simd::load_aligned(x + 8);
      const Vec left = simd::low_bytes_twice(packed), right = simd::high_bytes_twice(packed);
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

  Vec finish(uint32_t steps) const {
    const Vec offset = simd::splat_i32(kLowOffset * static_cast<int32_t>(steps));
    return simd::sum_lanes_i32(simd::sub_i32(even.low, offset), simd::sub_i32(odd.low, offset), even.high(),
                               odd.high());
  }
};

/// Adds the products of a span of columns to sums [8]; `tile` is the first of eight rows.
void add_span(const uint8_t* tile, const int16_t* x, uint32_t cols, int32_t (&sums)[kTileRows]) {
  FourRows upper, lower;
  uint32_t col = 0;
  for (; col + kStepCols <= cols; col += kStepCols, tile += 2 * kTileBytes) {
    upper.add<2>(tile, x + col);
    lower.add<2>(tile + kGroupBytes, x + col);
  }
  if (col < cols) {  // an odd number of tiles
    upper.add<1>(tile, x + col);
    lower.add<1>(tile + kGroupBytes, x + col);
  }
  const uint32_t steps = (cols + kStepCols - 1) / kStepCols;
  simd::store(sums, simd::add_i32(simd::load(sums), upper.finish(steps)));
  simd::store(sums + 4, simd::add_i32(simd::load(sums + 4), lower.finish(steps)));
}

}  // namespace

void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  alignas(16) int16_t wide_x[kSpanCols];
  const uint32_t cols = padded_cols(w.cols);
  const size_t row_bytes = size_t{cols} / kTileCols * kTileBytes;  // of eight rows
  std::fill_n(y, w.rows, -sum_x);
  for (uint32_t first = 0; first < cols; first += kSpanCols) {
    const uint32_t span_cols = std::min(kSpanCols, cols - first);
    for (uint32_t c = 0; c < span_cols; c += 8) simd::store(wide_x + c, simd::load_i8_as_i16(x + first + c));
    const uint8_t* tile = w.tiles + size_t{first} / kTileCols * kTileBytes;
    for (uint32_t row = 0; row < w.rows; row += kTileRows, tile += row_bytes) {
      int32_t sums[kTileRows] = {};
      std::memcpy(sums, y + row, sizeof(int32_t) * std::min(kTileRows, w.rows - row));
      add_span(tile, wide_x, span_cols, sums);
      store_rows(sums, row, w, y);
    }
  }
}

}  // namespace tern::simd128
