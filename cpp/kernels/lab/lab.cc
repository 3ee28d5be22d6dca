// lab.cc: ternary products that lost: bit planes, base-3 weights, one multiplication per row.
#include "kernels/lab/lab.h"

#include <bit>

#include "base/check.h"
#include "kernels/ternary/levels.h"
#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern::lab {

BitPlanes::BitPlanes(uint32_t rows, uint32_t cols, std::span<const uint8_t> codes)
    : rows_(rows), words_(cols / 64), plus_(size_t{rows} * words_), minus_(plus_.size()), x_(size_t{words_} * 8) {
  TERN_CHECK(cols % 64 == 0 && codes.size() == size_t{rows} * cols);
  for (size_t i = 0; i < codes.size(); ++i) {
    plus_[i / 64] |= uint64_t{codes[i] == 2} << (i % 64);
    minus_[i / 64] |= uint64_t{codes[i] == 0} << (i % 64);
  }
}

void BitPlanes::matvec(std::span<const int8_t> x, std::span<int32_t> y) {
  x_.assign(x_.size(), 0);
  for (size_t c = 0; c < x.size(); ++c) {
    for (size_t b = 0; b < 8; ++b)
      x_[c / 64 * 8 + b] |= static_cast<uint64_t>(static_cast<uint8_t>(x[c]) >> b & 1) << (c % 64);
  }
  for (size_t r = 0; r < rows_; ++r) {
    int32_t counts[8] = {};
    for (size_t word = 0; word < words_; ++word) {
      const uint64_t plus = plus_[r * words_ + word], minus = minus_[r * words_ + word];
      for (size_t b = 0; b < 8; ++b) {
        const uint64_t bits = x_[word * 8 + b];
        counts[b] += std::popcount(plus & bits) - std::popcount(minus & bits);
      }
    }
    y[r] = 0;
    for (int b = 0; b < 8; ++b) y[r] += counts[b] * (b == 7 ? -128 : 1 << b);
  }
}

BaseThree::BaseThree(uint32_t rows, uint32_t cols, std::span<const uint8_t> codes)
    : rows_(rows), cols_(cols), bytes_(size_t{rows} * cols / 5) {
  TERN_CHECK(cols % 80 == 0 && codes.size() == size_t{rows} * cols);
  for (size_t block = 0; block < bytes_.size() / 16; ++block) {
    for (size_t i = 0; i < 16; ++i) {
      uint32_t value = 0;
      for (size_t digit = 0; digit < 5; ++digit) value = 3 * value + codes[block * 80 + digit * 16 + i];
      bytes_[block * 16 + i] = static_cast<uint8_t>((value * 256 + 242) / 243);
    }
  }
}

void BaseThree::matvec(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
#if TERN_SIMD >= 1
  using simd::Vec;
  const uint8_t* bytes = bytes_.data();
  for (size_t r = 0; r < rows_; ++r) {
    Vec sum = simd::zero();
    for (size_t c = 0; c < cols_; c += 80, bytes += 16) {
      Vec rest = simd::load(bytes);
      for (size_t at = c; at < c + 80; at += 16) {
        const auto digit = [](Vec v) { return simd::shift_right_u16<8>(simd::add_i16(v, simd::add_i16(v, v))); };
        const Vec low = digit(simd::low_u8_as_i16(rest)), high = digit(simd::high_u8_as_i16(rest));
        sum = simd::add_i32(sum, simd::dot_i16(low, simd::load_i8_as_i16(&x[at])));
        sum = simd::add_i32(sum, simd::dot_i16(high, simd::load_i8_as_i16(&x[at + 8])));
        rest = simd::add_i8(rest, simd::add_i8(rest, rest));
      }
    }
    y[r] = static_cast<int32_t>(simd::lane_u32<0>(simd::sum_lanes_i32(sum, sum, sum, sum))) - sum_x;
  }
#else
  for (size_t r = 0; r < rows_; ++r) {
    int32_t sum = -sum_x;
    for (size_t c = 0; c < cols_; c += 80) {
      for (size_t i = 0; i < 16; ++i) {
        uint32_t rest = bytes_[r * cols_ / 5 + c / 5 + i];
        for (size_t digit = 0; digit < 5; ++digit, rest = rest * 3 & 0xFF) {
          sum += static_cast<int32_t>(rest * 3 >> 8) * x[c + digit * 16 + i];
        }
      }
    }
    y[r] = sum;
  }
#endif
}

#if TERN_SIMD >= 1
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
#endif

}  // namespace tern::lab
