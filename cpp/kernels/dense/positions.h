// positions.h: products with int8 rows that lie apart, as a text remembers one for each of its positions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tern {

inline constexpr size_t kMaxPositionWidth = 256;

/// Borrowed rows of codes; `stride` bytes lie between the starts of two.  width: a multiple of 4, at most 256.
struct PositionsView {
  const int8_t* codes = nullptr;
  size_t count = 0, width = 0, stride = 0;
};

/// dots[p] = sum over c of x[c] * rows[p][c], exact: below 32768 * 128 * 256 = 2^30.
///   x     [width]  int16 in [-32767, 32767]
///   dots  [count]
void dots(const PositionsView& rows, std::span<const int16_t> x, std::span<int32_t> dots);

/// sums[c] += sum over p of weights[p] * rows[p][c], exact for fewer than 2^31 positions in all.
///   weights  [count]  0 to 2^24
///   sums     [width]
/// In two digits of 12 bits, so that 32 bits hold the sums of 4096 positions: 2^12 * 128 * 4096 = 2^31, reached by -128
/// only.
void add_weighted_sum(const PositionsView& rows, std::span<const int32_t> weights, std::span<int64_t> sums);

// The same without the checks: the definition, and the one that is used wherever there is 128-bit SIMD.
namespace scalar {
void dots(const PositionsView& rows, const int16_t* x, int32_t* dots);
void add_weighted_sum(const PositionsView& rows, const int32_t* weights, int64_t* sums);
}  // namespace scalar
#if TERN_SIMD >= 1
namespace simd128 {
void dots(const PositionsView& rows, const int16_t* x, int32_t* dots);
void add_weighted_sum(const PositionsView& rows, const int32_t* weights, int64_t* sums);
}  // namespace simd128
#endif

}  // namespace tern
