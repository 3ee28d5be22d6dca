// rows.h: what happens along a row of numbers between two products, once as the definition and once in SIMD.
#pragma once

#include <cstdint>
#include <span>

#include "fixed/fixed.h"
#include "fixed/functions.h"

namespace tern {

/// Of the raw numbers of a row.
struct SquareSum {
  uint64_t sum;         ///< of the squares, modulo 2^64
  uint32_t magnitudes;  ///< their bitwise or: has as many bits as the largest magnitude
};

/// saturate(round_shift(sum over k of taps[k][c] * window[k][c], 16) + bias[c]): taps [K][width], rows of the window
/// `stride` apart; no bias: 0.  The sum is below 2^62 in magnitude without the bias, below 2^62 + 2^47 with it.
inline Act convolution_at(std::span<const NormWeight> taps, std::span<const Act> bias, size_t width, const Act* window,
                          size_t stride, size_t c) {
  int64_t sum = bias.empty() ? 0 : int64_t{bias[c].raw} << NormWeight::kFractionBits;
  for (size_t at = c; at < taps.size(); at += width, window += stride) sum += int64_t{taps[at].raw} * window[c].raw;
  return {saturate<int32_t>(round_shift(sum, NormWeight::kFractionBits))};
}

/// What a head of a state space does at one token, to each of its channels.
struct StateSpaceHead {
  Gate decay;     ///< of the state, below 1
  Rescale input;  ///< from an Act to what enters the state, a Cell; its mantissa may be negative
  Act output;     ///< C
};

// All spans of a call have one length, and an output may be one of the inputs, element for element, where it says so.
//
// sum_of_squares    see SquareSum
// product_bits      bitwise or of |x w|, as raw products
// largest_product   max of |x w| >> right << left; right or left is 0, every result is below 2^31
// quantize          codes = round_shift(v reciprocal, 54) with v = x w >> right << left (magnitudes), reciprocal <
// 2^31,
//                   |codes| <= 127; returns the sum of the codes
// rescale           y = scale(acc)
// normalize         y = saturate(round_shift(divide(x) w, shift)), 1 <= shift <= 62; y may be x
// add               h = saturate(h + x)
// silu_product      y = multiply(silu(gate), x); y may be gate or x
// convolution       y[c] = silu(convolution_at(c)); y is none of the inputs
// recurrence        s += k (16 silu(i) - s), k = keep * sigmoid(-z); 16: from Act to Cell; keep may be empty: 1;
//                   after receives s
// state_space       s = saturate(round_shift(decay s, 31) + input(a)), then y = multiply(add(r, multiply(skip, a)),
//                   silu(z)) with r = saturate(round_shift(s output, 20)); y may be a or z
#define TERN_ROWS(level)                                                                                            \
  namespace level {                                                                                                 \
  SquareSum sum_of_squares(std::span<const Act> x);                                                                 \
  uint64_t product_bits(std::span<const Act> x, std::span<const NormWeight> w);                                     \
  uint32_t largest_product(std::span<const Act> x, std::span<const NormWeight> w, int right, int left);             \
  int32_t quantize(std::span<const Act> x, std::span<const NormWeight> w, int right, int left, uint32_t reciprocal, \
                   std::span<int8_t> codes);                                                                        \
  void rescale(std::span<const int32_t> acc, const Rescale& scale, std::span<Act> y);                               \
  void normalize(std::span<const Act> x, const Rescale& divide, std::span<const NormWeight> w, int shift,           \
                 std::span<Act> y);                                                                                 \
  void add(std::span<Act> h, std::span<const Act> x);                                                               \
  void silu_product(std::span<const Act> gate, std::span<const Act> x, Sigmoid kind, std::span<Act> y);             \
  void convolution(std::span<const NormWeight> taps, std::span<const Act> bias, const Act* window, size_t stride,   \
                   Sigmoid kind, std::span<Act> y);                                                                 \
  void recurrence(std::span<const Act> i, std::span<const Act> z, std::span<const Gate> keep, Sigmoid kind,         \
                  std::span<Cell> s, std::span<Cell> after);                                                        \
  void state_space(std::span<const Act> a, std::span<const Act> z, std::span<const NormWeight> skip,                \
                   const StateSpaceHead& head, std::span<Cell> s, std::span<Act> y);                                \
  }

TERN_ROWS(scalar)
#if TERN_SIMD >= 1
TERN_ROWS(simd128)
namespace rows = simd128;
#else
namespace rows = scalar;
#endif
#undef TERN_ROWS

}  // namespace tern
