// bit_planes.cc: ternary products by counting bits: weights and activations in bit planes.
#include <bit>

#include "kernels/lab/lab.h"
#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern::lab {

BitPlanes::BitPlanes(uint32_t rows, uint32_t cols)
    : rows_(rows), words_(cols / 64), plus_(size_t{rows} * words_), minus_(plus_.size()), x_(size_t{words_} * 8) {
  TERN_CHECK(cols % 128 == 0);
}

void BitPlanes::set_row(uint32_t row, std::span<const uint8_t> codes) {
  TERN_CHECK(row < rows_ && codes.size() == size_t{words_} * 64);
  for (size_t word = 0; word < words_; ++word) {
    uint64_t plus = 0, minus = 0;
    for (size_t i = 0; i < 64; ++i) {
      plus |= uint64_t{codes[word * 64 + i] == 2} << i;
      minus |= uint64_t{codes[word * 64 + i] == 0} << i;
    }
    plus_[size_t{row} * words_ + word] = plus;
    minus_[size_t{row} * words_ + word] = minus;
  }
}

void BitPlanes::split(std::span<const int8_t> x) {
  TERN_CHECK(x.size() == size_t{words_} * 64);
  for (size_t word = 0; word < words_; ++word) {
    uint64_t planes[8] = {};
    for (size_t i = 0; i < 64; ++i) {
      const uint64_t value = static_cast<uint8_t>(x[word * 64 + i]);
      for (size_t b = 0; b < 8; ++b) planes[b] |= (value >> b & 1) << i;
    }
    for (size_t b = 0; b < 8; ++b) x_[word / 2 * 16 + b * 2 + word % 2] = planes[b];
  }
}

void BitPlanes::matvec(std::span<const int8_t> x, std::span<int32_t> y) {
  split(x);
  for (size_t r = 0; r < rows_; ++r) {
    int32_t counts[8] = {};
    for (size_t word = 0; word < words_; ++word) {
      const uint64_t plus = plus_[r * words_ + word], minus = minus_[r * words_ + word];
      for (size_t b = 0; b < 8; ++b) {
        const uint64_t bits = x_[word / 2 * 16 + b * 2 + word % 2];
        counts[b] += std::popcount(plus & bits) - std::popcount(minus & bits);
      }
    }
    y[r] = 0;
    for (int b = 0; b < 8; ++b) y[r] += counts[b] * (b == 7 ? -128 : 1 << b);
  }
}

#if TERN_SIMD >= 1
void BitPlanes::matvec_simd(std::span<const int8_t> x, std::span<int32_t> y) {
  using simd::Vec;
  split(x);
  constexpr size_t kFlush = 15;  // pairs of words: a byte's difference of counts stays within 15 * 8 = 120
  for (size_t r = 0; r < rows_; ++r) {
    const uint64_t* plus = &plus_[r * words_];
    const uint64_t* minus = &minus_[r * words_];
    int32_t total = 0;
    for (size_t first = 0; first < words_; first += 2 * kFlush) {
      Vec counts[8];
      for (Vec& count : counts) count = simd::zero();
      for (size_t word = first; word < words_ && word < first + 2 * kFlush; word += 2) {
        const Vec p = simd::load(plus + word), m = simd::load(minus + word);
        const uint64_t* planes = &x_[word * 8];
        for (size_t b = 0; b < 8; ++b) {
          const Vec bits = simd::load(planes + 2 * b);
          const Vec more = simd::bit_count_u8(simd::bit_and(p, bits)),
                    less = simd::bit_count_u8(simd::bit_and(m, bits));
          counts[b] = simd::add_i8(counts[b], simd::sub_i8(more, less));
        }
      }
      Vec sum = simd::zero();  // Horner: the highest plane first, with its sign
      for (int b = 7; b >= 0; --b) {
        const Vec count = counts[static_cast<size_t>(b)];
        const Vec pairs =
            simd::add_i16(simd::shift_right_i16<8>(simd::shift_left_i16<8>(count)), simd::shift_right_i16<8>(count));
        const Vec wide = simd::add_pairs_i16(pairs);
        sum = b == 7 ? simd::sub_i32(simd::zero(), wide) : simd::add_i32(simd::add_i32(sum, sum), wide);
      }
      total += static_cast<int32_t>(simd::lane_u32<0>(simd::sum_lanes_i32(sum, sum, sum, sum)));
    }
    y[r] = total;
  }
}
#endif

}  // namespace tern::lab
