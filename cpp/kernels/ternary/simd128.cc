// simd128.cc: ternary products with baseline SIMD: 16-bit dot products in which one multiplication serves two rows.
//
// GMAC/s, matrix-vector product in Chromium 156 on one thread of a Cascade Lake, all in one run:
//                                         512 x 512   2048 x 2048   8192 x 4096
//   this                                     21.6         23.0          17.9
//   … with the loads left to the compiler    20.5         21.6          17.7
//   four rows at a time                      22.1         23.1          16.4
//   fields 1 and 3 masked where they lie     20.0         20.7          17.2    (five more constants: they spill)
//   one multiplication per row (lab)         16.8         17.1          15.6
//   dot products alone, for two rows each                 48
// Ruled out on paper, since their instructions for 64 products are as many or more (this: 19, one multiplication per
// row: 25): tables of pairs of weights looked up by swizzle, which for 8-bit activations need two tables (20, and
// another layout), 5-bit halves of the activations (20), bit planes.
#include "kernels/ternary/levels.h"
#include "kernels/ternary/two_row_dots.h"

namespace tern::simd128 {
namespace {

constexpr uint32_t kStepCols = FourRows::kStepCols, kSpanCols = FourRows::kSpanCols;

/// Adds the products of a span of columns to sums [8]; `tile` is the first of eight rows.
void add_span(const uint8_t* tile, const int16_t* x, uint32_t cols, int32_t (&sums)[kTileRows]) {
  FourRows upper, lower;
  const auto group = [&](size_t at) {
    return [first = tile + at](int next) { return simd::load(first + size_t{kTileBytes} * static_cast<size_t>(next)); };
  };
  uint32_t col = 0;
  for (; col + kStepCols <= cols; col += kStepCols, tile += 2 * kTileBytes) {
    upper.add<2>(group(0), x + col);
    lower.add<2>(group(kGroupBytes), x + col);
  }
  if (col < cols) {  // an odd number of tiles
    upper.add<1>(group(0), x + col);
    lower.add<1>(group(kGroupBytes), x + col);
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
