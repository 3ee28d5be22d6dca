// rotor_planes.cc: ternary products from two bit planes, plus and minus, with int8 activations.
#include <algorithm>

#include "kernels/lab/lab.h"
#if TERN_SIMD >= 1
#include "kernels/ternary/masked_matvec.h"
#include "kernels/ternary/two_row_dots.h"
#endif

namespace tern::lab {

RotorPlanes::RotorPlanes(uint32_t rows, uint32_t cols)
    : rows_(rows), cols_(cols), tiles_(size_t{padded_rows(rows)} * cols / 4) {
  TERN_CHECK(cols % kTileCols == 0 && cols <= kMaxTernaryCols);
  // Weight 0: no bit of plus, none of minus.
  for (size_t i = 0; i < tiles_.size(); ++i) tiles_[i] = i / kTileCols % 2 == 0 ? 0 : 0xFF;
}

void RotorPlanes::set_row(uint32_t row, std::span<const uint8_t> codes) {
  TERN_CHECK(row < rows_ && codes.size() == cols_);
  const uint32_t bit = row % kTileRows;
  for (uint32_t c = 0; c < cols_; ++c) {
    uint8_t* plus =
        &tiles_[(size_t{row / kTileRows} * (cols_ / kTileCols) + c / kTileCols) * kTileBytes + c % kTileCols];
    uint8_t* not_minus = plus + kTileCols;
    *plus = static_cast<uint8_t>((*plus & ~(1u << bit)) | uint32_t{codes[c] == 2} << bit);
    *not_minus = static_cast<uint8_t>((*not_minus & ~(1u << bit)) | uint32_t{codes[c] != 0} << bit);
  }
}

void RotorPlanes::matvec(std::span<const int8_t> x, int32_t, std::span<int32_t> y) const {
  for (uint32_t r = 0; r < rows_; ++r) {
    const uint8_t* plus = &tiles_[size_t{r / kTileRows} * (cols_ / kTileCols) * kTileBytes];
    y[r] = 0;
    for (uint32_t c = 0; c < cols_; plus += kTileBytes) {
      for (uint32_t i = 0; i < kTileCols; ++i, ++c) {
        const int32_t bit_plus = plus[i] >> r % kTileRows & 1, bit_minus = ~plus[i + kTileCols] >> r % kTileRows & 1;
        y[r] += (bit_plus - bit_minus) * x[c];
      }
    }
  }
}

#if TERN_SIMD >= 1
namespace {

using simd::Vec;

/// From two planes of eight rows the packed bytes of rows 0, 2, 4, 6, and of rows 1, 3, 5, 7.
Vec even_codes(Vec plus, Vec not_minus) {
  const Vec mask = simd::splat_i8(0x55);
  return simd::add_i8(simd::bit_and(plus, mask), simd::bit_and(not_minus, mask));
}
Vec odd_codes(Vec plus, Vec not_minus) {
  return even_codes(simd::shift_right_u16<1>(plus), simd::shift_right_u16<1>(not_minus));
}

void store_interleaved(Vec even, Vec odd, uint32_t row, std::span<int32_t> y, int32_t minus) {
  int32_t sums[kTileRows];
  const Vec offset = simd::splat_i32(minus);
  simd::store(sums, simd::sub_i32(simd::low_pairs_i32(even, odd), offset));
  simd::store(sums + 4, simd::sub_i32(simd::high_pairs_i32(even, odd), offset));
  std::copy_n(sums, std::min<size_t>(kTileRows, y.size() - row), &y[row]);
}

template <class Dots>
void by_dots(const uint8_t* tile, uint32_t cols, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) {
  for (uint32_t row = 0; row < y.size(); row += kTileRows) {
    Vec even[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec odd[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t col = 0; col < cols; col += kTileCols, tile += kTileBytes) {
      const Vec activations = simd::load(&x[col]), plus = simd::load(tile), not_minus = simd::load(tile + kGroupBytes);
      Dots::add(even_codes(plus, not_minus), activations, even);
      Dots::add(odd_codes(plus, not_minus), activations, odd);
    }
    store_interleaved(Dots::finish(even, sum_x), Dots::finish(odd, sum_x), row, y, 0);
  }
}

}  // namespace

void RotorPlanes::matvec_simd(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
  alignas(16) int16_t wide_x[FourRows::kSpanCols];
  std::fill(y.begin(), y.end(), 0);
  for (uint32_t first = 0; first < cols_; first += FourRows::kSpanCols) {
    const uint32_t cols = std::min(FourRows::kSpanCols, cols_ - first);
    for (uint32_t c = 0; c < cols; c += 8) simd::store(wide_x + c, simd::load_i8_as_i16(&x[first + c]));
    for (uint32_t row = 0; row < rows_; row += kTileRows) {
      const uint8_t* tile = &tiles_[(size_t{row / kTileRows} * cols_ + first) / kTileCols * kTileBytes];
      FourRows even, odd;
      uint32_t steps = 0;
      const auto add = [&]<int kTiles>(std::integral_constant<int, kTiles>, uint32_t col) {
        const uint8_t* at = tile + size_t{col} / kTileCols * kTileBytes;
        const auto codes = [&](Vec (*of)(Vec, Vec)) {
          return [=](int t) {
            const uint8_t* planes = at + static_cast<size_t>(t) * kTileBytes;
            return of(simd::load(planes), simd::load(planes + kGroupBytes));
          };
        };
        even.add<kTiles>(codes(even_codes), wide_x + col);
        odd.add<kTiles>(codes(odd_codes), wide_x + col);
        ++steps;
      };
      uint32_t col = 0;
      for (; col + FourRows::kStepCols <= cols; col += FourRows::kStepCols) add(std::integral_constant<int, 2>(), col);
      if (col < cols) add(std::integral_constant<int, 1>(), col);
      int32_t before[kTileRows] = {};
      std::copy_n(&y[row], std::min(kTileRows, rows_ - row), before);
      store_interleaved(even.finish(steps), odd.finish(steps), row, y, 0);
      for (uint32_t r = row; r < std::min(rows_, row + kTileRows); ++r) y[r] += before[r - row];
    }
  }
  for (int32_t& sum : y) sum -= sum_x;
}

#if TERN_SIMD >= 2
void RotorPlanes::matvec_relaxed(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
  by_dots<ScaledDots<RelaxedDot>>(tiles_.data(), cols_, x, sum_x, y);
}

void RotorPlanes::matvec_nested(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
  by_dots<NestedDots<false, RelaxedDot>>(tiles_.data(), cols_, x, sum_x, y);
}
#endif
#endif

}  // namespace tern::lab
