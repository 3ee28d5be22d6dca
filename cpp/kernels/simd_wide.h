// simd_wide.h: arithmetic on 32-bit lanes with exact 64-bit products, on WebAssembly, SSE4.1 and NEON.
#pragma once

#include "kernels/simd.h"

namespace tern::simd {

/// Four 64-bit lanes, one for each 32-bit lane of a Vec.  Which register holds which lane differs between machines, so
/// constants must be splats and the way back is narrow_low() or narrow_high().
struct Wide {
  Vec a, b;
};

#if defined(__wasm_simd128__)

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
/// `chosen` where the mask has ones, `other` where it has zeros.
inline Vec select(Vec mask, Vec chosen, Vec other) { return wasm_v128_bitselect(chosen, other, mask); }
inline bool any(Vec v) { return wasm_v128_any_true(v); }
template <int kLane>
uint32_t lane_u32(Vec v) {
  return wasm_u32x4_extract_lane(v, kLane);
}
/// Two 32-bit numbers from each address.
inline Vec load_pairs(const uint32_t* p, const uint32_t* q) {
  return wasm_v128_load64_lane(q, wasm_v128_load64_zero(p), 1);
}
/// Lanes 0 and 2 of a, then of b; and lanes 1 and 3.
inline Vec even_lanes(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 0, 2, 4, 6); }
inline Vec odd_lanes(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 1, 3, 5, 7); }
/// 16 numbers that fit in 8 bits.
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

#elif defined(__SSE4_1__)

inline Vec splat_i32(int32_t x) { return _mm_set1_epi32(x); }
inline Vec splat_u64(uint64_t x) { return _mm_set1_epi64x(static_cast<int64_t>(x)); }
inline Vec bit_or(Vec a, Vec b) { return _mm_or_si128(a, b); }
inline Vec bit_xor(Vec a, Vec b) { return _mm_xor_si128(a, b); }
inline Vec sub_i32(Vec a, Vec b) { return _mm_sub_epi32(a, b); }
inline Vec min_i32(Vec a, Vec b) { return _mm_min_epi32(a, b); }
inline Vec max_i32(Vec a, Vec b) { return _mm_max_epi32(a, b); }
inline Vec max_u32(Vec a, Vec b) { return _mm_max_epu32(a, b); }
inline Vec abs_i32(Vec v) { return _mm_abs_epi32(v); }
inline Vec greater_i32(Vec a, Vec b) { return _mm_cmpgt_epi32(a, b); }
template <int kBits>
Vec shift_right_i32(Vec v) {
  return _mm_srai_epi32(v, kBits);
}
template <int kBits>
Vec shift_right_u32(Vec v) {
  return _mm_srli_epi32(v, kBits);
}
template <int kBits>
Vec shift_left_i32(Vec v) {
  return _mm_slli_epi32(v, kBits);
}
inline Vec select(Vec mask, Vec chosen, Vec other) { return _mm_blendv_epi8(other, chosen, mask); }
inline bool any(Vec v) { return _mm_testz_si128(v, v) == 0; }
template <int kLane>
uint32_t lane_u32(Vec v) {
  return static_cast<uint32_t>(_mm_extract_epi32(v, kLane));
}
inline Vec load_pairs(const uint32_t* p, const uint32_t* q) {
  return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)),
                            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(q)));
}
inline Vec even_lanes(Vec a, Vec b) {
  return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(2, 0, 2, 0)));
}
inline Vec odd_lanes(Vec a, Vec b) {
  return _mm_castps_si128(_mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), _MM_SHUFFLE(3, 1, 3, 1)));
}
inline Vec pack_i8(Vec a, Vec b, Vec c, Vec d) { return _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d)); }

// a holds the even lanes, b the odd ones: that is what the multiplication takes.
inline Wide multiply_i32(Vec a, Vec b) {
  return {_mm_mul_epi32(a, b), _mm_mul_epi32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32))};
}
inline Wide multiply_u32(Vec a, Vec b) {
  return {_mm_mul_epu32(a, b), _mm_mul_epu32(_mm_srli_epi64(a, 32), _mm_srli_epi64(b, 32))};
}
inline Vec add_u64(Vec a, Vec b) { return _mm_add_epi64(a, b); }
inline Vec sub_u64(Vec a, Vec b) { return _mm_sub_epi64(a, b); }
inline Vec shift_right_u64(Vec v, int bits) { return _mm_srl_epi64(v, _mm_cvtsi32_si128(bits)); }
inline Vec shift_left_u64(Vec v, int bits) { return _mm_sll_epi64(v, _mm_cvtsi32_si128(bits)); }
inline Vec narrow_low(Wide w) { return _mm_blend_epi16(w.a, _mm_slli_epi64(w.b, 32), 0xCC); }
inline Vec narrow_high(Wide w) { return _mm_blend_epi16(_mm_srli_epi64(w.a, 32), w.b, 0xCC); }

#else  // NEON

inline uint32x4_t as_u32(Vec v) { return vreinterpretq_u32_s32(v); }
inline Vec from_u32(uint32x4_t v) { return vreinterpretq_s32_u32(v); }
inline uint64x2_t as_u64(Vec v) { return vreinterpretq_u64_s32(v); }
inline Vec from_u64(uint64x2_t v) { return vreinterpretq_s32_u64(v); }

inline Vec splat_i32(int32_t x) { return vdupq_n_s32(x); }
inline Vec splat_u64(uint64_t x) { return from_u64(vdupq_n_u64(x)); }
inline Vec bit_or(Vec a, Vec b) { return vorrq_s32(a, b); }
inline Vec bit_xor(Vec a, Vec b) { return veorq_s32(a, b); }
inline Vec sub_i32(Vec a, Vec b) { return vsubq_s32(a, b); }
inline Vec min_i32(Vec a, Vec b) { return vminq_s32(a, b); }
inline Vec max_i32(Vec a, Vec b) { return vmaxq_s32(a, b); }
inline Vec max_u32(Vec a, Vec b) { return from_u32(vmaxq_u32(as_u32(a), as_u32(b))); }
inline Vec abs_i32(Vec v) { return vabsq_s32(v); }
inline Vec greater_i32(Vec a, Vec b) { return from_u32(vcgtq_s32(a, b)); }
template <int kBits>
Vec shift_right_i32(Vec v) {
  return vshrq_n_s32(v, kBits);
}
template <int kBits>
Vec shift_right_u32(Vec v) {
  return from_u32(vshrq_n_u32(as_u32(v), kBits));
}
template <int kBits>
Vec shift_left_i32(Vec v) {
  return vshlq_n_s32(v, kBits);
}
inline Vec select(Vec mask, Vec chosen, Vec other) { return vbslq_s32(as_u32(mask), chosen, other); }
inline bool any(Vec v) { return vmaxvq_u32(as_u32(v)) != 0; }
template <int kLane>
uint32_t lane_u32(Vec v) {
  return vgetq_lane_u32(as_u32(v), kLane);
}
inline Vec load_pairs(const uint32_t* p, const uint32_t* q) { return from_u32(vcombine_u32(vld1_u32(p), vld1_u32(q))); }
inline Vec even_lanes(Vec a, Vec b) { return vuzp1q_s32(a, b); }
inline Vec odd_lanes(Vec a, Vec b) { return vuzp2q_s32(a, b); }
inline Vec pack_i8(Vec a, Vec b, Vec c, Vec d) {
  const int16x8_t ab = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
  const int16x8_t cd = vcombine_s16(vmovn_s32(c), vmovn_s32(d));
  return vreinterpretq_s32_s8(vcombine_s8(vmovn_s16(ab), vmovn_s16(cd)));
}

inline Wide multiply_i32(Vec a, Vec b) {
  return {vreinterpretq_s32_s64(vmull_s32(vget_low_s32(a), vget_low_s32(b))),
          vreinterpretq_s32_s64(vmull_high_s32(a, b))};
}
inline Wide multiply_u32(Vec a, Vec b) {
  return {from_u64(vmull_u32(vget_low_u32(as_u32(a)), vget_low_u32(as_u32(b)))),
          from_u64(vmull_high_u32(as_u32(a), as_u32(b)))};
}
inline Vec add_u64(Vec a, Vec b) { return from_u64(vaddq_u64(as_u64(a), as_u64(b))); }
inline Vec sub_u64(Vec a, Vec b) { return from_u64(vsubq_u64(as_u64(a), as_u64(b))); }
inline Vec shift_right_u64(Vec v, int bits) { return from_u64(vshlq_u64(as_u64(v), vdupq_n_s64(-bits))); }
inline Vec shift_left_u64(Vec v, int bits) { return from_u64(vshlq_u64(as_u64(v), vdupq_n_s64(bits))); }
inline Vec narrow_low(Wide w) { return vuzp1q_s32(w.a, w.b); }
inline Vec narrow_high(Wide w) { return vuzp2q_s32(w.a, w.b); }

#endif

inline Wide add(Wide w, Vec splat) { return {add_u64(w.a, splat), add_u64(w.b, splat)}; }
inline Wide add(Wide v, Wide w) { return {add_u64(v.a, w.a), add_u64(v.b, w.b)}; }
inline Wide sub(Wide v, Wide w) { return {sub_u64(v.a, w.a), sub_u64(v.b, w.b)}; }
inline Wide shift_right(Wide w, int bits) { return {shift_right_u64(w.a, bits), shift_right_u64(w.b, bits)}; }
inline Wide shift_left(Wide w, int bits) { return {shift_left_u64(w.a, bits), shift_left_u64(w.b, bits)}; }
inline Vec merge(Wide w) { return bit_or(w.a, w.b); }

}  // namespace tern::simd
