// wasm.h: the operations of simd.h on WebAssembly, with the relaxed dot products where they are built in.
#pragma once

#include <wasm_simd128.h>

#include <cstdint>

namespace tern::simd {

using Vec = v128_t;
struct Wide {
  Vec a, b;
};

inline Vec load(const void* p) { return wasm_v128_load(p); }
inline Vec load_aligned(const void* p) { return wasm_v128_load(p); }
inline void store(void* p, Vec v) { wasm_v128_store(p, v); }
inline Vec zero() { return wasm_i32x4_splat(0); }
inline Vec splat_i8(int8_t x) { return wasm_i8x16_splat(x); }
inline Vec splat_i16(int16_t x) { return wasm_i16x8_splat(x); }
inline Vec bit_and(Vec a, Vec b) { return wasm_v128_and(a, b); }
inline Vec add_i8(Vec a, Vec b) { return wasm_i8x16_add(a, b); }
inline Vec add_i32(Vec a, Vec b) { return wasm_i32x4_add(a, b); }
inline Vec add_i16(Vec a, Vec b) { return wasm_i16x8_add(a, b); }
template <int kBits>
Vec shift_right_u16(Vec v) {
  return wasm_u16x8_shr(v, kBits);
}
template <int kBits>
Vec shift_right_i16(Vec v) {
  return wasm_i16x8_shr(v, kBits);
}
template <int kBits>
Vec shift_left_i16(Vec v) {
  return wasm_i16x8_shl(v, kBits);
}
inline Vec load_i8_as_i16(const int8_t* p) { return wasm_i16x8_load8x8(p); }
inline Vec low_u8_as_i16(Vec v) { return wasm_u16x8_extend_low_u8x16(v); }
inline Vec high_u8_as_i16(Vec v) { return wasm_u16x8_extend_high_u8x16(v); }
inline Vec dot_i16(Vec a, Vec b) { return wasm_i32x4_dot_i16x8(a, b); }
inline Vec add_pairs_i16(Vec v) { return wasm_i32x4_extadd_pairwise_i16x8(v); }
inline Vec sum_lanes_i32(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  const Vec cd = wasm_i32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_i32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5), wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}
#if defined(__wasm_relaxed_simd__)
inline Vec dot_i8_i7(Vec x, Vec codes) { return wasm_i16x8_relaxed_dot_i8x16_i7x16(x, codes); }
inline Vec dot_add_i8_i7(Vec x, Vec codes, Vec sum) { return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(x, codes, sum); }
#endif

inline Vec splat_i32(int32_t x) { return wasm_i32x4_splat(x); }
inline Vec splat_u64(uint64_t x) { return wasm_u64x2_splat(x); }
inline Vec bit_or(Vec a, Vec b) { return wasm_v128_or(a, b); }
inline Vec bit_xor(Vec a, Vec b) { return wasm_v128_xor(a, b); }
inline Vec sub_i32(Vec a, Vec b) { return wasm_i32x4_sub(a, b); }
inline Vec min_i32(Vec a, Vec b) { return wasm_i32x4_min(a, b); }
inline Vec max_i32(Vec a, Vec b) { return wasm_i32x4_max(a, b); }
inline Vec max_u32(Vec a, Vec b) { return wasm_u32x4_max(a, b); }
inline Vec abs_i32(Vec v) { return wasm_i32x4_abs(v); }
inline Vec greater_i32(Vec a, Vec b) { return wasm_i32x4_gt(a, b); }
template <int kBits>
Vec shift_right_i32(Vec v) {
  return wasm_i32x4_shr(v, kBits);
}
template <int kBits>
Vec shift_right_u32(Vec v) {
  return wasm_u32x4_shr(v, kBits);
}
template <int kBits>
Vec shift_left_i32(Vec v) {
  return wasm_i32x4_shl(v, kBits);
}
inline Vec select(Vec mask, Vec chosen, Vec other) { return wasm_v128_bitselect(chosen, other, mask); }
inline bool any(Vec v) { return wasm_v128_any_true(v); }
template <int kLane>
uint32_t lane_u32(Vec v) {
  return wasm_u32x4_extract_lane(v, kLane);
}
inline Vec load_pairs(const uint32_t* p, const uint32_t* q) {
  return wasm_v128_load64_lane(q, wasm_v128_load64_zero(p), 1);
}
inline Vec even_lanes(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 0, 2, 4, 6); }
inline Vec odd_lanes(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 1, 3, 5, 7); }
inline Vec pack_i8(Vec a, Vec b, Vec c, Vec d) {
  return wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(a, b), wasm_i16x8_narrow_i32x4(c, d));
}

inline Wide multiply_i32(Vec a, Vec b) {
  return {wasm_i64x2_extmul_low_i32x4(a, b), wasm_i64x2_extmul_high_i32x4(a, b)};
}
inline Wide multiply_u32(Vec a, Vec b) {
  return {wasm_u64x2_extmul_low_u32x4(a, b), wasm_u64x2_extmul_high_u32x4(a, b)};
}
inline Vec add_u64(Vec a, Vec b) { return wasm_i64x2_add(a, b); }
inline Vec sub_u64(Vec a, Vec b) { return wasm_i64x2_sub(a, b); }
inline Vec shift_right_u64(Vec v, int bits) { return wasm_u64x2_shr(v, static_cast<uint32_t>(bits)); }
inline Vec shift_left_u64(Vec v, int bits) { return wasm_i64x2_shl(v, static_cast<uint32_t>(bits)); }
inline Vec narrow_low(Wide w) { return wasm_i32x4_shuffle(w.a, w.b, 0, 2, 4, 6); }
inline Vec narrow_high(Wide w) { return wasm_i32x4_shuffle(w.a, w.b, 1, 3, 5, 7); }

inline Vec average_u8(Vec a, Vec b) { return wasm_u8x16_avgr(a, b); }
inline Vec bit_count_u8(Vec v) { return wasm_i8x16_popcnt(v); }
inline Vec sub_i8(Vec a, Vec b) { return wasm_i8x16_sub(a, b); }
inline Vec sub_i16(Vec a, Vec b) { return wasm_i16x8_sub(a, b); }
inline Vec low_pairs_i16(Vec a, Vec b) { return wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Vec high_pairs_i16(Vec a, Vec b) { return wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline Vec low_bytes_twice(Vec v) { return wasm_i8x16_shuffle(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7); }
inline Vec high_bytes_twice(Vec v) {
  return wasm_i8x16_shuffle(v, v, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
}
inline Vec low_pairs_i32(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 0, 4, 1, 5); }
inline Vec high_pairs_i32(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 2, 6, 3, 7); }
inline Vec low_pairs_i64(Vec a, Vec b) { return wasm_i64x2_shuffle(a, b, 0, 2); }
inline Vec high_pairs_i64(Vec a, Vec b) { return wasm_i64x2_shuffle(a, b, 1, 3); }
inline Vec low_i16_as_i32(Vec v) { return wasm_i32x4_extend_low_i16x8(v); }
inline Vec high_i16_as_i32(Vec v) { return wasm_i32x4_extend_high_i16x8(v); }

}  // namespace tern::simd
