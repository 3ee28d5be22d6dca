// base_three.cc: ternary products from five weights per byte.
#include <algorithm>
#include <utility>

#include "kernels/lab/lab.h"
#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern::lab {
namespace {

constexpr uint32_t kPowers[] = {81, 27, 9, 3, 1};

constexpr uint8_t encode(uint32_t value) { return static_cast<uint8_t>((value * 256 + 242) / 243); }
constexpr uint32_t digit(uint32_t byte, uint32_t at) {  // 0 the highest
  for (; at > 0; --at) byte = byte * 3 & 0xFF;
  return byte * 3 >> 8;
}
constexpr uint32_t decode(uint32_t byte) {
  uint32_t value = 0;
  for (uint32_t at = 0; at < 5; ++at) value = 3 * value + digit(byte, at);
  return value;
}
static_assert([] {
  for (uint32_t value = 0; value < 243; ++value) {
    if (decode(encode(value)) != value) return false;
  }
  return true;
}());

}  // namespace

BaseThree::BaseThree(uint32_t rows, uint32_t cols)
    : rows_(rows), cols_(cols), tiles_(size_t{(rows + kRows - 1) / kRows} * cols) {
  TERN_CHECK(cols % kTileCols == 0 && cols <= kMaxTernaryCols);
}

void BaseThree::set_row(uint32_t row, std::span<const uint8_t> codes) {
  TERN_CHECK(row < rows_ && codes.size() == cols_);
  const uint32_t at = row % kRows;
  for (uint32_t c = 0; c < cols_; ++c) {
    uint8_t& byte = tiles_[size_t{row / kRows} * cols_ + c];
    byte = encode(decode(byte) + (codes[c] - digit(byte, at)) * kPowers[at]);
  }
}

void BaseThree::matvec(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
  for (uint32_t r = 0; r < rows_; ++r) {
    const uint8_t* bytes = &tiles_[size_t{r / kRows} * cols_];
    y[r] = -sum_x;
    for (uint32_t c = 0; c < cols_; ++c) y[r] += static_cast<int32_t>(digit(bytes[c], r % kRows)) * x[c];
  }
}

#if TERN_SIMD >= 1
namespace {

using simd::Vec;

/// The next digit of 16 bytes, and the bytes without it.  floor(3 v / 256) are the highest two bits of floor(3 v / 4),
/// which is v less a fourth of it, rounded up.  (One mean less, that of v and of the mean of v and 0, rounds up where
/// six of the 243 bytes need it down.)
inline Vec next_digit(Vec& v) {
  const Vec fourth = simd::average_u8(simd::average_u8(v, simd::zero()), simd::zero());
  const Vec digit = simd::bit_and(simd::shift_right_u16<6>(simd::sub_i8(v, fourth)), simd::splat_i8(3));
#ifdef __wasm__
  // Of an addition clang would make a multiplication of bytes by 3; WebAssembly has none, so 16 scalar ones (7 times
  // slower in all).
  const Vec twice = simd::bit_and(simd::shift_left_i16<1>(v), simd::splat_i8(-2));
#else
  const Vec twice = simd::add_i8(v, v);
#endif
  v = simd::add_i8(v, twice);
  return digit;
}

/// add(digit, x, sum) for all; x advances by kTileCols elements of X.
template <class X, class Add>
void by_digits(const uint8_t* bytes, uint32_t cols, const X* x, int32_t sum_x, std::span<int32_t> y, Add add) {
  for (uint32_t row = 0; row < y.size(); row += BaseThree::kRows) {
    Vec sums[BaseThree::kRows];
    for (Vec& sum : sums) sum = simd::zero();
    for (uint32_t col = 0; col < cols; col += kTileCols, bytes += kTileCols) {
      Vec v = simd::load(bytes);
      [&]<size_t... i>(std::index_sequence<i...>) {
        ((sums[i] = add(next_digit(v), x + col, sums[i])), ...);
      }(std::make_index_sequence<BaseThree::kRows>());
    }
    int32_t lanes[8];
    simd::store(lanes, simd::sum_lanes_i32(sums[0], sums[1], sums[2], sums[3]));
    simd::store(lanes + 4, simd::sum_lanes_i32(sums[4], sums[4], sums[4], sums[4]));
    for (uint32_t r = row; r < std::min<size_t>(y.size(), row + BaseThree::kRows); ++r) y[r] = lanes[r - row] - sum_x;
  }
}

}  // namespace

void BaseThree::matvec_simd(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
  AlignedVector<int16_t> wide(x.begin(), x.end());
  by_digits(tiles_.data(), cols_, wide.data(), sum_x, y, [](Vec code, const int16_t* at, Vec sum) {
    const Vec low = simd::dot_i16(simd::low_u8_as_i16(code), simd::load_aligned(at));
    const Vec high = simd::dot_i16(simd::high_u8_as_i16(code), simd::load_aligned(at + 8));
    return simd::add_i32(sum, simd::add_i32(low, high));
  });
}

#if TERN_SIMD >= 2
void BaseThree::matvec_relaxed(std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) const {
  by_digits(tiles_.data(), cols_, x.data(), sum_x, y,
            [](Vec code, const int8_t* at, Vec sum) { return simd::dot_add_i8_i7(simd::load(at), code, sum); });
}
#endif
#endif

}  // namespace tern::lab
