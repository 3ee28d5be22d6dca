// Matrix products on 8-bit integers with 32-bit sums: three quarters of the arithmetic of training.
#pragma once

#include <utility>

#include "lanes.h"

namespace lm {

/// Words of four k's, rounded up to whole tiles.
constexpr int whole_tiles(int k4) { return (k4 + 15) / 16 * 16; }

/// C[m][n] = row[m] * sum over k of A[m][k] * B[n][k],  A unsigned (value + 128), B signed, k a multiple of 4.
/// Both are read four k's at a time as 32-bit words:
///   A word (m, k4) at a + m * a_row + k4,   B words (16 n's, k4) at b + n/16 * b_block + k4 * 16.
/// They go on to whole tiles of 16 words in k: there B is zero, and A whatever can be read.
struct Factors {
  const uint32_t* a;
  long a_row;
  const uint32_t* b;
  long b_block;
  int k4;
  const int32_t* offset;  // [n] see `offsets`
  const float* row;
};

/// out[m][n] = C[m][n], or added to it.
struct Output {
  float* out;
  long stride;
  bool add;
};

/// Rows and columns of C; the columns in whole blocks of 16.
struct Area {
  int top, bottom, left, right;
};

/// Sixteen sums of row m into the columns from n on.
inline void put(const Factors& p, const Output& o, int m, int n, Ints sums) {
  float* const out = o.out + m * o.stride + n;
  const Lanes values = __builtin_convertvector(sums, Lanes) * p.row[m];
  store(out, o.add ? load(out) + values : values);
}

/// sum + the four products of unsigned bytes of a and signed bytes of b, in each lane.
inline Ints dot4(Ints sum, Ints a, Ints b) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
  for (int i = 0; i < 4; ++i) sum += (a >> 8 * i & 255) * (b << (24 - 8 * i) >> 24);
  return sum;
#endif
}

/// f(0), f(1) ... f(kCount - 1) with constant arguments: so that an array of accumulators stays in registers.
template <int kCount, typename F>
inline void each(F f) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) {
    (f(std::integral_constant<int, kIndex>{}), ...);
  }(std::make_integer_sequence<int, kCount>{});
}

/// out[n] = -128 times the sum of B over k: what the 128 in A adds to each sum, taken off.
inline void offsets(const uint32_t* b, long b_block, int n, int k4, int32_t* out) {
  for (int block = 0; block < n / kLanes; ++block) {
    Ints total{};
    for (int k = 0; k < k4; ++k)
      total = dot4(total, Ints{} + 0x01010101, load_as<Ints>(b + block * b_block + k * kLanes));
    total *= -128;
    std::memcpy(out + block * kLanes, &total, sizeof total);
  }
}

template <int kRows, int kBlocks>
__attribute__((noinline)) void tile(const Factors& p, const Output& o, int m, int block) {
  Ints sum[kRows * kBlocks];
  each<kRows * kBlocks>([&](auto i) { sum[i] = load_as<Ints>(p.offset + (block + i % kBlocks) * kLanes); });
  const uint32_t *a = p.a + m * p.a_row, *b = p.b + block * p.b_block;
  const long a_row = p.a_row, b_block = p.b_block;
  for (int k = 0, k4 = p.k4; k < k4; ++k, ++a, b += kLanes) {
    Ints w[kBlocks];
    each<kBlocks>([&](auto j) { w[j] = load_as<Ints>(b + j * b_block); });
    each<kRows>([&](auto r) {
      const Ints x = Ints{} + static_cast<int32_t>(a[r * a_row]);
      each<kBlocks>([&](auto j) { sum[r * kBlocks + j] = dot4(sum[r * kBlocks + j], x, w[j]); });
    });
  }
  each<kRows>(
      [&](auto r) { each<kBlocks>([&](auto j) { put(p, o, m + r, (block + j) * kLanes, sum[r * kBlocks + j]); }); });
}

/// 6 x 4 accumulators, 4 operands and a broadcast fill the 32 registers of AVX-512; 16 = 6 + 6 + 4 rows.
template <int kBlocks>
void column_panel(const Factors& p, const Output& o, int m, int end, int block) {
  for (; m + 16 <= end; m += 16) {
    tile<6, kBlocks>(p, o, m, block);
    tile<6, kBlocks>(p, o, m + 6, block);
    tile<4, kBlocks>(p, o, m + 12, block);
  }
  for (; m + 4 <= end; m += 4) tile<4, kBlocks>(p, o, m, block);
  for (; m < end; ++m) tile<1, kBlocks>(p, o, m, block);
}

inline void product_in_lanes(const Factors& p, const Output& o, const Area& of) {
  int block = of.left / kLanes;
  for (; block + 4 <= of.right / kLanes; block += 4) column_panel<4>(p, o, of.top, of.bottom, block);
  for (; block < of.right / kLanes; ++block) column_panel<1>(p, o, of.top, of.bottom, block);
}

/// [k][n] bytes -> [n/16][whole tiles of k/4][16] words of four k's, each byte xor `flip`: as the products read B. What
/// fills the last tile is left as it is.
inline void interleave(const uint8_t* in, int k_count, int n, uint8_t flip, uint32_t* out) {
  const size_t block = size_t(whole_tiles(k_count / 4)) * kLanes;
  const Ints flips = Ints{} + static_cast<int32_t>(0x01010101u * flip);
  for (int k = 0; k < k_count; k += 4) {
    const uint8_t* row = in + size_t(k) * size_t(n);
    for (int c = 0; c < n; c += kLanes) {
      const Ints words = load_bytes(row + c) | load_bytes(row + n + c) << 8 | load_bytes(row + 2 * n + c) << 16 |
                         load_bytes(row + 3 * n + c) << 24;
      const Ints flipped = words ^ flips;
      std::memcpy(out + size_t(c / kLanes) * block + k * 4, &flipped, sizeof flipped);
    }
  }
}

}  // namespace lm
