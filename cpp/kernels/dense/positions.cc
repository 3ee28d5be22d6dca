// positions.cc: the definitions, and the same in 128-bit SIMD.
#include "kernels/dense/positions.h"

#include <algorithm>
#include <array>

#include "base/check.h"

#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern {

namespace scalar {

void dots(const PositionsView& rows, const int16_t* x, int32_t* dots) {
  for (size_t p = 0; p < rows.count; ++p) {
    const int8_t* row = rows.codes + p * rows.stride;
    dots[p] = 0;
    for (size_t c = 0; c < rows.width; ++c) dots[p] += x[c] * row[c];
  }
}

void add_weighted_sum(const PositionsView& rows, const int32_t* weights, int64_t* sums) {
  for (size_t p = 0; p < rows.count; ++p) {
    const int8_t* row = rows.codes + p * rows.stride;
    for (size_t c = 0; c < rows.width; ++c) sums[c] += int64_t{weights[p]} * row[c];
  }
}

}  // namespace scalar

#if TERN_SIMD >= 1
namespace simd128 {
namespace {

using simd::Vec;

constexpr size_t kTogether = 4096;  // positions whose sums of a digit fit 32 bits
constexpr int kDigitBits = 12;

/// Both digits' sums of a few positions, to which the next are added.
struct Digits {
  std::array<int32_t, kMaxPositionWidth> low{}, high{};
};

/// Adds a digit of four positions to the sums of eight channels; pairs: the codes of two positions lane by lane.
inline void add_digit(int32_t* sums, const Vec (&pairs)[4], Vec first, Vec second) {
  const Vec left = simd::add_i32(simd::dot_i16(pairs[0], first), simd::dot_i16(pairs[2], second));
  const Vec right = simd::add_i32(simd::dot_i16(pairs[1], first), simd::dot_i16(pairs[3], second));
  simd::store(sums, simd::add_i32(simd::load(sums), left));
  simd::store(sums + 4, simd::add_i32(simd::load(sums + 4), right));
}

/// Two digits of 16 bits for every lane of pairs.
inline Vec two(int32_t a, int32_t b) { return simd::splat_i32(a | b << 16); }

void add_four(const int8_t* row, size_t stride, size_t width, const int32_t* w, Digits& sums) {
  constexpr int32_t kMask = (1 << kDigitBits) - 1;
  const Vec low01 = two(w[0] & kMask, w[1] & kMask), low23 = two(w[2] & kMask, w[3] & kMask);
  const Vec high01 = two(w[0] >> kDigitBits, w[1] >> kDigitBits), high23 = two(w[2] >> kDigitBits, w[3] >> kDigitBits);
  for (size_t c = 0; c < width; c += 8) {
    const Vec v0 = simd::load_i8_as_i16(row + c), v1 = simd::load_i8_as_i16(row + stride + c);
    const Vec v2 = simd::load_i8_as_i16(row + 2 * stride + c), v3 = simd::load_i8_as_i16(row + 3 * stride + c);
    const Vec pairs[] = {simd::low_pairs_i16(v0, v1), simd::high_pairs_i16(v0, v1), simd::low_pairs_i16(v2, v3),
                         simd::high_pairs_i16(v2, v3)};
    add_digit(&sums.low[c], pairs, low01, low23);
    add_digit(&sums.high[c], pairs, high01, high23);
  }
}

}  // namespace

void dots(const PositionsView& rows, const int16_t* x, int32_t* dots) {
  const size_t whole = rows.width / 8 * 8;
  for (size_t p = 0; p < rows.count; ++p) {
    const int8_t* row = rows.codes + p * rows.stride;
    Vec sum = simd::zero();
    for (size_t c = 0; c < whole; c += 8) {
      sum = simd::add_i32(sum, simd::dot_i16(simd::load(x + c), simd::load_i8_as_i16(row + c)));
    }
    int32_t lanes[4];
    simd::store(lanes, sum);
    dots[p] = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    for (size_t c = whole; c < rows.width; ++c) dots[p] += x[c] * row[c];
  }
}

void add_weighted_sum(const PositionsView& rows, const int32_t* weights, int64_t* sums) {
  const size_t whole = rows.width / 8 * 8;
  Digits digits;
  size_t p = 0;
  for (size_t held = 0; p + 4 <= rows.count; p += 4, held += 4) {
    if (held == kTogether) {
      for (size_t c = 0; c < whole; ++c) sums[c] += int64_t{digits.high[c]} * (1 << kDigitBits) + digits.low[c];
      digits = {};
      held = 0;
    }
    const int32_t* w = weights + p;
    if ((w[0] | w[1] | w[2] | w[3]) != 0) add_four(rows.codes + p * rows.stride, rows.stride, whole, w, digits);
  }
  for (size_t c = 0; c < whole; ++c) sums[c] += int64_t{digits.high[c]} * (1 << kDigitBits) + digits.low[c];
  for (size_t q = 0; q < rows.count; ++q) {  // what is no whole eight channels or four positions
    const int8_t* row = rows.codes + q * rows.stride;
    for (size_t c = q < p ? whole : 0; c < rows.width; ++c) sums[c] += int64_t{weights[q]} * row[c];
  }
}

}  // namespace simd128
namespace fastest = simd128;
#else
namespace fastest = scalar;
#endif

void dots(const PositionsView& rows, std::span<const int16_t> x, std::span<int32_t> dots) {
  TERN_CHECK(rows.width % 4 == 0 && rows.width <= kMaxPositionWidth);
  TERN_CHECK(x.size() == rows.width && dots.size() == rows.count);
  fastest::dots(rows, x.data(), dots.data());
}

void add_weighted_sum(const PositionsView& rows, std::span<const int32_t> weights, std::span<int64_t> sums) {
  TERN_CHECK(rows.width % 4 == 0 && rows.width <= kMaxPositionWidth);
  TERN_CHECK(sums.size() == rows.width && weights.size() == rows.count);
  fastest::add_weighted_sum(rows, weights.data(), sums.data());
}

}  // namespace tern
