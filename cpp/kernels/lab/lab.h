// lab.h: other forms of the ternary product, measured beside ours (README.md has the numbers); tern does not have them.
#pragma once

#include <cstdint>
#include <span>

#include "base/aligned.h"
#include "kernels/ternary/packed.h"

namespace tern::lab {

// Matrices of [rows][cols], filled row by row with codes [cols], w + 1; products with x [cols], y [rows], all exact.
// Products in SIMD exist where the build has it; relaxed ones as in ternary/relaxed.cc, whose known-answer tests count.

/// Two bits per weight in planes, plus and minus, and the activations in bit planes, too: sums are counts of bits in
/// common, y = sum over b of 2^b (count(plus & x_b) - count(minus & x_b)), the plane of bit 7 counting -2^7.
/// cols is a multiple of 128.
class BitPlanes {
 public:
  BitPlanes(uint32_t rows, uint32_t cols);
  void set_row(uint32_t row, std::span<const uint8_t> codes);
  void matvec(std::span<const int8_t> x, std::span<int32_t> y);       ///< with the processor's count of 64 bits
  void matvec_simd(std::span<const int8_t> x, std::span<int32_t> y);  ///< 128 bits at a time, counts per byte

 private:
  void split(std::span<const int8_t> x);

  uint32_t rows_, words_;
  AlignedVector<uint64_t> plus_, minus_;  // [rows][cols / 64]
  AlignedVector<uint64_t> x_;             // [cols / 128][8][2]
};

/// The two planes of Rotor as a product with int8 activations can use them best: a byte has a bit of eight rows, and
/// the vectors of 16 columns of both planes follow each other.  The minus plane is kept inverted, so that the code is
/// the sum of two bits: two additions of masked planes make two vectors of our own packing (2 loads and 8 instructions
/// for 128 weights, which ours has not).  cols is a multiple of 16.
///   tiles  [padded_rows / 8][cols / 16][plus, not minus][16] bytes
class RotorPlanes {
 public:
  RotorPlanes(uint32_t rows, uint32_t cols);
  void set_row(uint32_t row, std::span<const uint8_t> codes);
  void matvec(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;  ///< the definition
  void matvec_simd(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;
  void matvec_relaxed(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;  ///< relaxed_dot_is_exact
  void matvec_nested(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;   ///< ..._takes_unsigned

 private:
  uint32_t rows_, cols_;
  AlignedVector<uint8_t> tiles_;
};

/// Five weights per byte, 1.6 bits each, as TQ1_0 files have them, but of five rows: a byte is ceil(256 / 243 of the
/// digits' value), and the next digit, the first row's first, is what three times it carries out.
/// cols is a multiple of 16.
///   tiles  [ceil(rows / 5)][cols / 16][16] bytes
class BaseThree {
 public:
  static constexpr uint32_t kRows = 5;

  BaseThree(uint32_t rows, uint32_t cols);
  void set_row(uint32_t row, std::span<const uint8_t> codes);
  size_t bytes() const { return tiles_.size(); }
  void matvec(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;  ///< the definition
  void matvec_simd(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;
  void matvec_relaxed(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const;  ///< relaxed_dot_is_exact

 private:
  uint32_t rows_, cols_;
  AlignedVector<uint8_t> tiles_;
};

/// The packed matrix as it is, with 16-bit dot products and one multiplication per row: what ternary/simd128.cc did
/// before two rows shared one.
void one_row_dots(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y);

}  // namespace tern::lab
