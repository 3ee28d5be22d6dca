// lab.h: ternary products that lost, kept so that their numbers can be measured again; only the bench builds them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ternary/packed.h"

namespace tern::lab {

/// Two bits per weight in planes, activations in bit planes too: sums are counts of bits in common.
///   y = sum over b of 2^b (count(plus & x_b) - count(minus & x_b)), the plane of bit 7 counting -2^7
/// One instruction and, one count and one sum per plane and sign for 64 weights: 48 for 64 products.
class BitPlanes {
 public:
  /// codes [rows][cols], w + 1; cols is a multiple of 64.
  BitPlanes(uint32_t rows, uint32_t cols, std::span<const uint8_t> codes);
  /// x [cols], y [rows]
  void matvec(std::span<const int8_t> x, std::span<int32_t> y);

 private:
  uint32_t rows_, words_;
  std::vector<uint64_t> plus_, minus_;  // [rows][cols / 64]
  std::vector<uint64_t> x_;             // [cols / 64][8]
};

/// Five weights per byte, 1.6 bits each, as TQ1_0 files have them: a byte is ceil(256 / 243 of the five digits' value),
/// and the next digit is what three times it carries out.  16 bytes are 80 columns of a row.
class BaseThree {
 public:
  /// codes [rows][cols], w + 1; cols is a multiple of 80.
  BaseThree(uint32_t rows, uint32_t cols, std::span<const uint8_t> codes);
  void matvec(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;

 private:
  uint32_t rows_, cols_;
  std::vector<uint8_t> bytes_;  // [rows][cols / 5]
};

#if TERN_SIMD >= 1
/// The packed matrix as it is, with 16-bit dot products and one multiplication per row: what kernels/ternary/simd128.cc
/// did before two rows shared one.
void one_row_dots(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y);
#endif

}  // namespace tern::lab
