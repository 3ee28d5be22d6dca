// simd.h: the few 128-bit operations the kernels need, on WebAssembly, SSE4.1 and NEON, with identical results.
#pragma once

#include <cstdint>

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>
#elif defined(__SSE4_1__)
#include <smmintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#else
#error "no 128-bit SIMD here: build with TERN_SIMD=scalar"
#endif

namespace tern::simd {

// Lanes are named in the operation, as in WebAssembly.  Loads and stores need no alignment, but
// load_aligned() needs 16 bytes: SSE adds straight from such memory.
#if defined(__wasm_simd128__)

using Vec = v128_t;

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
/// Eight bytes from memory, sign-extended to 16 bits.
inline Vec load_i8_as_i16(const int8_t* p) { return wasm_i16x8_load8x8(p); }
/// The lower or upper eight unsigned bytes as 16-bit lanes.
inline Vec low_u8_as_i16(Vec v) { return wasm_u16x8_extend_low_u8x16(v); }
inline Vec high_u8_as_i16(Vec v) { return wasm_u16x8_extend_high_u8x16(v); }
/// Products of 16-bit lanes, neighbours added, in 32 bits.
inline Vec dot_i16(Vec a, Vec b) { return wasm_i32x4_dot_i16x8(a, b); }
/// Neighbouring 16-bit lanes added, in 32 bits.
inline Vec add_pairs_i16(Vec v) { return wasm_i32x4_extadd_pairwise_i16x8(v); }
/// {sum of a's lanes, of b's, of c's, of d's}.
inline Vec sum_lanes_i32(Vec a, Vec b, Vec c, Vec d) {
  const Vec ab = wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), wasm_i32x4_shuffle(a, b, 2, 6, 3, 7));
  const Vec cd = wasm_i32x4_add(wasm_i32x4_shuffle(c, d, 0, 4, 1, 5), wasm_i32x4_shuffle(c, d, 2, 6, 3, 7));
  return wasm_i32x4_add(wasm_i32x4_shuffle(ab, cd, 0, 1, 4, 5), wasm_i32x4_shuffle(ab, cd, 2, 3, 6, 7));
}
#if defined(__wasm_relaxed_simd__)
inline Vec dot_i8_i7(Vec x, Vec codes) { return wasm_i16x8_relaxed_dot_i8x16_i7x16(x, codes); }
inline Vec dot_add_i8_i7(Vec x, Vec codes, Vec sum) { return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(x, codes, sum); }
#endif

#elif defined(__SSE4_1__)

using Vec = __m128i;

inline Vec load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Vec load_aligned(const void* p) { return _mm_load_si128(static_cast<const __m128i*>(p)); }
inline void store(void* p, Vec v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
inline Vec zero() { return _mm_setzero_si128(); }
inline Vec splat_i8(int8_t x) { return _mm_set1_epi8(x); }
inline Vec splat_i16(int16_t x) { return _mm_set1_epi16(x); }
inline Vec bit_and(Vec a, Vec b) { return _mm_and_si128(a, b); }
inline Vec add_i8(Vec a, Vec b) { return _mm_add_epi8(a, b); }
inline Vec add_i32(Vec a, Vec b) { return _mm_add_epi32(a, b); }
inline Vec add_i16(Vec a, Vec b) { return _mm_add_epi16(a, b); }
template <int kBits>
Vec shift_right_u16(Vec v) {
  return _mm_srli_epi16(v, kBits);
}
template <int kBits>
Vec shift_right_i16(Vec v) {
  return _mm_srai_epi16(v, kBits);
}
template <int kBits>
Vec shift_left_i16(Vec v) {
  return _mm_slli_epi16(v, kBits);
}
inline Vec load_i8_as_i16(const int8_t* p) {
  return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Vec low_u8_as_i16(Vec v) { return _mm_cvtepu8_epi16(v); }
inline Vec high_u8_as_i16(Vec v) { return _mm_unpackhi_epi8(v, _mm_setzero_si128()); }
inline Vec dot_i16(Vec a, Vec b) { return _mm_madd_epi16(a, b); }
inline Vec add_pairs_i16(Vec v) { return _mm_madd_epi16(v, _mm_set1_epi16(1)); }
inline Vec sum_lanes_i32(Vec a, Vec b, Vec c, Vec d) {
  return _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
}
// pmaddubsw takes the unsigned operand first; the codes are the second operand of the relaxed dot.
inline Vec dot_i8_i7(Vec x, Vec codes) { return _mm_maddubs_epi16(codes, x); }
inline Vec dot_add_i8_i7(Vec x, Vec codes, Vec sum) { return _mm_add_epi32(sum, add_pairs_i16(dot_i8_i7(x, codes))); }

#else  // NEON

using Vec = int32x4_t;

inline int16x8_t as_i16(Vec v) { return vreinterpretq_s16_s32(v); }
inline uint8x16_t as_u8(Vec v) { return vreinterpretq_u8_s32(v); }
inline int8x16_t as_i8(Vec v) { return vreinterpretq_s8_s32(v); }
inline Vec from_i16(int16x8_t v) { return vreinterpretq_s32_s16(v); }

inline Vec load(const void* p) { return vreinterpretq_s32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
inline Vec load_aligned(const void* p) { return load(p); }
inline void store(void* p, Vec v) { vst1q_u8(static_cast<uint8_t*>(p), as_u8(v)); }
inline Vec zero() { return vdupq_n_s32(0); }
inline Vec splat_i8(int8_t x) { return vreinterpretq_s32_s8(vdupq_n_s8(x)); }
inline Vec splat_i16(int16_t x) { return from_i16(vdupq_n_s16(x)); }
inline Vec bit_and(Vec a, Vec b) { return vandq_s32(a, b); }
inline Vec add_i8(Vec a, Vec b) { return vreinterpretq_s32_s8(vaddq_s8(as_i8(a), as_i8(b))); }
inline Vec add_i32(Vec a, Vec b) { return vaddq_s32(a, b); }
inline Vec add_i16(Vec a, Vec b) { return from_i16(vaddq_s16(as_i16(a), as_i16(b))); }
template <int kBits>
Vec shift_right_u16(Vec v) {
  return vreinterpretq_s32_u16(vshrq_n_u16(vreinterpretq_u16_s32(v), kBits));
}
template <int kBits>
Vec shift_right_i16(Vec v) {
  return from_i16(vshrq_n_s16(as_i16(v), kBits));
}
template <int kBits>
Vec shift_left_i16(Vec v) {
  return from_i16(vshlq_n_s16(as_i16(v), kBits));
}
inline Vec load_i8_as_i16(const int8_t* p) { return from_i16(vmovl_s8(vld1_s8(p))); }
inline Vec low_u8_as_i16(Vec v) { return vreinterpretq_s32_u16(vmovl_u8(vget_low_u8(as_u8(v)))); }
inline Vec high_u8_as_i16(Vec v) { return vreinterpretq_s32_u16(vmovl_high_u8(as_u8(v))); }
inline Vec dot_i16(Vec a, Vec b) {
  return vpaddq_s32(vmull_s16(vget_low_s16(as_i16(a)), vget_low_s16(as_i16(b))), vmull_high_s16(as_i16(a), as_i16(b)));
}
inline Vec add_pairs_i16(Vec v) { return vpaddlq_s16(as_i16(v)); }
inline Vec sum_lanes_i32(Vec a, Vec b, Vec c, Vec d) { return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)); }
inline Vec dot_i8_i7(Vec x, Vec codes) {
  return from_i16(
      vpaddq_s16(vmull_s8(vget_low_s8(as_i8(x)), vget_low_s8(as_i8(codes))), vmull_high_s8(as_i8(x), as_i8(codes))));
}
inline Vec dot_add_i8_i7(Vec x, Vec codes, Vec sum) { return vpadalq_s16(sum, as_i16(dot_i8_i7(x, codes))); }

#endif

}  // namespace tern::simd
