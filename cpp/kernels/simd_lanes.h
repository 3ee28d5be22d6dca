// simd_lanes.h: rearrangement of 128-bit lanes and 16-bit sums, on WebAssembly, SSE4.1 and NEON.
#pragma once

#include "kernels/simd_wide.h"

namespace tern::simd {

#if defined(__wasm_simd128__)

inline Vec sub_i16(Vec a, Vec b) { return wasm_i16x8_sub(a, b); }
/// The lower halves of a and b, lane by lane: a0 b0 a1 b1 ..., and the upper halves.
inline Vec low_pairs_i16(Vec a, Vec b) { return wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Vec high_pairs_i16(Vec a, Vec b) { return wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
/// Each of the lower eight bytes twice: a0 a0 a1 a1 ..., and the upper ones.
inline Vec low_bytes_twice(Vec v) { return wasm_i8x16_shuffle(v, v, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7); }
inline Vec high_bytes_twice(Vec v) {
  return wasm_i8x16_shuffle(v, v, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
}
inline Vec low_pairs_i32(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 0, 4, 1, 5); }
inline Vec high_pairs_i32(Vec a, Vec b) { return wasm_i32x4_shuffle(a, b, 2, 6, 3, 7); }
inline Vec low_pairs_i64(Vec a, Vec b) { return wasm_i64x2_shuffle(a, b, 0, 2); }
inline Vec high_pairs_i64(Vec a, Vec b) { return wasm_i64x2_shuffle(a, b, 1, 3); }
/// The lower or upper four 16-bit lanes in 32 bits.
inline Vec low_i16_as_i32(Vec v) { return wasm_i32x4_extend_low_i16x8(v); }
inline Vec high_i16_as_i32(Vec v) { return wasm_i32x4_extend_high_i16x8(v); }

#elif defined(__SSE4_1__)

inline Vec sub_i16(Vec a, Vec b) { return _mm_sub_epi16(a, b); }
inline Vec low_pairs_i16(Vec a, Vec b) { return _mm_unpacklo_epi16(a, b); }
inline Vec high_pairs_i16(Vec a, Vec b) { return _mm_unpackhi_epi16(a, b); }
inline Vec low_bytes_twice(Vec v) { return _mm_unpacklo_epi8(v, v); }
inline Vec high_bytes_twice(Vec v) { return _mm_unpackhi_epi8(v, v); }
inline Vec low_pairs_i32(Vec a, Vec b) { return _mm_unpacklo_epi32(a, b); }
inline Vec high_pairs_i32(Vec a, Vec b) { return _mm_unpackhi_epi32(a, b); }
inline Vec low_pairs_i64(Vec a, Vec b) { return _mm_unpacklo_epi64(a, b); }
inline Vec high_pairs_i64(Vec a, Vec b) { return _mm_unpackhi_epi64(a, b); }
inline Vec low_i16_as_i32(Vec v) { return _mm_cvtepi16_epi32(v); }
inline Vec high_i16_as_i32(Vec v) { return _mm_srai_epi32(_mm_unpackhi_epi16(v, v), 16); }

#else  // NEON

inline Vec sub_i16(Vec a, Vec b) { return from_i16(vsubq_s16(as_i16(a), as_i16(b))); }
inline Vec low_pairs_i16(Vec a, Vec b) { return from_i16(vzip1q_s16(as_i16(a), as_i16(b))); }
inline Vec high_pairs_i16(Vec a, Vec b) { return from_i16(vzip2q_s16(as_i16(a), as_i16(b))); }
inline Vec low_bytes_twice(Vec v) { return vreinterpretq_s32_s8(vzip1q_s8(as_i8(v), as_i8(v))); }
inline Vec high_bytes_twice(Vec v) { return vreinterpretq_s32_s8(vzip2q_s8(as_i8(v), as_i8(v))); }
inline Vec low_pairs_i32(Vec a, Vec b) { return vzip1q_s32(a, b); }
inline Vec high_pairs_i32(Vec a, Vec b) { return vzip2q_s32(a, b); }
inline Vec low_pairs_i64(Vec a, Vec b) { return from_u64(vzip1q_u64(as_u64(a), as_u64(b))); }
inline Vec high_pairs_i64(Vec a, Vec b) { return from_u64(vzip2q_u64(as_u64(a), as_u64(b))); }
inline Vec low_i16_as_i32(Vec v) { return vmovl_s16(vget_low_s16(as_i16(v))); }
inline Vec high_i16_as_i32(Vec v) { return vmovl_high_s16(as_i16(v)); }

#endif

/// Transposes 8 x 8 numbers of 16 bits.
inline void transpose_i16(Vec (&m)[8]) {
  Vec p[8], q[8];
  for (int i = 0; i < 4; ++i) {
    p[2 * i] = low_pairs_i16(m[2 * i], m[2 * i + 1]);
    p[2 * i + 1] = high_pairs_i16(m[2 * i], m[2 * i + 1]);
  }
  for (int half = 0; half < 8; half += 4) {
    q[half] = low_pairs_i32(p[half], p[half + 2]);
    q[half + 1] = high_pairs_i32(p[half], p[half + 2]);
    q[half + 2] = low_pairs_i32(p[half + 1], p[half + 3]);
    q[half + 3] = high_pairs_i32(p[half + 1], p[half + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    m[2 * i] = low_pairs_i64(q[i], q[i + 4]);
    m[2 * i + 1] = high_pairs_i64(q[i], q[i + 4]);
  }
}

}  // namespace tern::simd
