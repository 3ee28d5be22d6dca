// relaxed.cc: ternary products with the relaxed 8-bit dot product in its forms, and the tests that they are exact here.
//
// GMAC/s, matrix-vector product of 2048 x 2048, one thread:
//                                       Zen 5, Chromium (VNNI)   Cascade Lake, native SSE4.1 (no one-instruction dot)
//   relaxed_nested_u (A1)                        110                         -
//   relaxed (A2)                                 100                        24
//   relaxed_pairs                                 64                        30
//   two shifts and masks per field, then A2       68                         -
// So the nested form where the machine allows it, and the pairs where an i32 dot product would be three instructions or
// more (engines built on pmaddubsw): which of them this is shows in what the dot product does with 8-bit codes.
// Many tokens at once: table_matmul.cc.
#include "kernels/ternary/masked_matvec.h"

namespace tern {

namespace relaxed {
void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  masked_matvec<ScaledDots<RelaxedDot>>(w, x, sum_x, y);
}

}  // namespace relaxed

namespace relaxed_pairs {
namespace {

// 16-bit sums of neighbouring products, without widening them one by one: one instruction fewer per dot product, or
// three where an engine has no i32 form.  Fields are 1 or 4 times the code, so 16 vectors stay below 16 * 2 * 127 * 8 <
// 2^15.
constexpr uint32_t kPairCols = 16 * kTileCols;

inline void add_pairs(Vec bytes, Vec x, Vec (&sums)[4]) {
  const Vec upper = simd::shift_right_u16<4>(bytes);
  sums[0] = simd::add_i16(sums[0], simd::dot_i8_i7(x, simd::bit_and(bytes, simd::splat_i8(0x03))));
  sums[1] = simd::add_i16(sums[1], simd::dot_i8_i7(x, simd::bit_and(bytes, simd::splat_i8(0x0C))));
  sums[2] = simd::add_i16(sums[2], simd::dot_i8_i7(x, simd::bit_and(upper, simd::splat_i8(0x03))));
  sums[3] = simd::add_i16(sums[3], simd::dot_i8_i7(x, simd::bit_and(upper, simd::splat_i8(0x0C))));
}

inline Vec finish_pairs(const Vec (&sums)[4], int32_t sum_x) {
  const Vec rows =
      simd::sum_lanes_i32(sums[0], simd::shift_right_i32<2>(sums[1]), sums[2], simd::shift_right_i32<2>(sums[3]));
  return simd::sub_i32(rows, simd::splat_i32(sum_x));
}

}  // namespace

void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  const uint32_t cols = padded_cols(w.cols);
  const uint8_t* tile = w.tiles;
  for (uint32_t row = 0; row < w.rows; row += kTileRows) {
    Vec upper[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    Vec lower[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (uint32_t first = 0; first < cols; first += kPairCols) {
      Vec upper_pairs[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
      Vec lower_pairs[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
      for (uint32_t col = first; col < std::min(cols, first + kPairCols); col += kTileCols, tile += kTileBytes) {
        const Vec activations = simd::load(x + col);
        add_pairs(simd::load(tile), activations, upper_pairs);
        add_pairs(simd::load(tile + kGroupBytes), activations, lower_pairs);
      }
      for (int f = 0; f < 4; ++f) {
        upper[f] = simd::add_i32(upper[f], simd::add_pairs_i16(upper_pairs[f]));
        lower[f] = simd::add_i32(lower[f], simd::add_pairs_i16(lower_pairs[f]));
      }
    }
    int32_t sums[kTileRows];
    simd::store(sums, finish_pairs(upper, sum_x));
    simd::store(sums + 4, finish_pairs(lower, sum_x));
    store_rows(sums, row, w, y);
  }
}

}  // namespace relaxed_pairs

namespace relaxed_nested_u {

void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  masked_matvec<NestedDots<false, RelaxedDot>>(w, x, sum_x, y);
}

}  // namespace relaxed_nested_u

namespace relaxed_nested_s {

void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  masked_matvec<NestedDots<true, RelaxedDot>>(w, x, sum_x, y);
}

}  // namespace relaxed_nested_s

// ---- Known-answer tests ---------------------------------------------------------------------------------------------

namespace {

/// Whether the dot product in 32 bits, and in 16 bits where asked, is exact for all pairs of an extreme activation and
/// one of the codes, in all lanes, on top of a sum that is not zero.  Codes are taken as signed if kSigned.
template <bool kSigned>
bool dots_are_exact(std::span<const volatile uint8_t> codes, bool in_16_bits) {
  // Read through volatile: the compiler may not compute the answer itself.
  static const volatile int8_t kActivations[] = {-127, -1, 0, 1, 127, 85, -86};
  for (const volatile int8_t& activation : kActivations) {
    for (size_t code = 0; code < codes.size(); ++code) {
      int8_t x[16];
      uint8_t u[16];
      int32_t expected[4] = {-1000, 1, 0, 70000};
      int16_t expected_pairs[8];
      const Vec start = simd::load(expected);
      const auto value = [&](int i) { return kSigned ? static_cast<int8_t>(u[i]) : int32_t{u[i]}; };
      for (int i = 0; i < 16; ++i) {
        x[i] = static_cast<int8_t>(i % 5 == 4 ? -activation : activation);  // mixed signs within a pair
        u[i] = i % 3 == 2 ? codes[codes.size() - 1 - code] : codes[code];
        expected[i / 4] += x[i] * value(i);
      }
      for (int i = 0; i < 8; ++i) {
        expected_pairs[i] = static_cast<int16_t>(x[2 * i] * value(2 * i) + x[2 * i + 1] * value(2 * i + 1));
      }
      int32_t sums[4];
      int16_t pairs[8];
      simd::store(sums, simd::dot_add_i8_i7(simd::load(x), simd::load(u), start));
      simd::store(pairs, simd::dot_i8_i7(simd::load(x), simd::load(u)));
      if (std::memcmp(sums, expected, sizeof sums) != 0) return false;
      if (in_16_bits && std::memcmp(pairs, expected_pairs, sizeof pairs) != 0) return false;
    }
  }
  return true;
}

}  // namespace

bool relaxed_dot_is_exact() {  // the masked codes of A2 and of the pairs
  static const volatile uint8_t kCodes[] = {0, 1, 2, 4, 8, 16, 32, 40, 48};
  return dots_are_exact<false>(kCodes, true);
}

bool relaxed_dot_takes_unsigned() {  // up to a whole byte, 2 + 8 + 32 + 128
  static const volatile uint8_t kCodes[] = {0, 1, 10, 42, 63, 64, 127, 128, 138, 160, 169, 170, 255};
  return relaxed_dot_is_exact() && dots_are_exact<false>(kCodes, false);
}

bool relaxed_dot_takes_signed() {  // six bits below a weight of -1, 0 or 1
  static const volatile uint8_t kCodes[] = {0, 1, 10, 42, 64, 65, 106, 127, 128, 192, 193, 202, 234, 255};
  return relaxed_dot_is_exact() && dots_are_exact<true>(kCodes, false);
}

}  // namespace tern
