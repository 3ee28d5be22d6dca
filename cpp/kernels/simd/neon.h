// neon.h: the operations of simd.h on ARM with NEON.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace tern::simd {

using Vec = int32x4_t;
struct Wide {
  Vec a, b;
};

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

inline Vec average_u8(Vec a, Vec b) { return vreinterpretq_s32_u8(vrhaddq_u8(as_u8(a), as_u8(b))); }
inline Vec bit_count_u8(Vec v) { return vreinterpretq_s32_u8(vcntq_u8(as_u8(v))); }
inline Vec sub_i8(Vec a, Vec b) { return vreinterpretq_s32_s8(vsubq_s8(as_i8(a), as_i8(b))); }
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

}  // namespace tern::simd
