// sse.h: the operations of simd.h on x86 with SSE4.1.
#pragma once

#include <smmintrin.h>

#include <cstdint>

namespace tern::simd {

using Vec = __m128i;
struct Wide {
  Vec a, b;
};

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

inline Vec average_u8(Vec a, Vec b) { return _mm_avg_epu8(a, b); }
inline Vec bit_count_u8(Vec v) {
  const Vec counts = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4), nibble = _mm_set1_epi8(15);
  const Vec high = _mm_and_si128(_mm_srli_epi16(v, 4), nibble);
  return _mm_add_epi8(_mm_shuffle_epi8(counts, _mm_and_si128(v, nibble)), _mm_shuffle_epi8(counts, high));
}
inline Vec sub_i8(Vec a, Vec b) { return _mm_sub_epi8(a, b); }
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

}  // namespace tern::simd
