// simd.h: the few 128-bit operations the kernels need, with identical results on every machine; one file per machine.
#pragma once

#if defined(__wasm_simd128__)
#include "kernels/simd/wasm.h"
#elif defined(__SSE4_1__)
#include "kernels/simd/sse.h"
#elif defined(__ARM_NEON)
#include "kernels/simd/neon.h"
#else
#error "no 128-bit SIMD here: build with TERN_SIMD=scalar"
#endif

// What a machine's file defines.  Lanes are named in the operation, as in WebAssembly.
//
//   Vec                   128 bits
//   Wide {a, b}           four 64-bit lanes, one for each 32-bit lane of a Vec; which register holds which lane differs
//                         between machines, so constants must be splats and the way back is narrow_low(), narrow_high()
//   load, store           without alignment; load_aligned() needs 16 bytes: SSE computes straight from such memory
//   zero, splat_*         bit_and, bit_or, bit_xor, add_*, sub_*, min_*, max_*, abs_i32, shift_*<bits>: per lane
//   select(mask, a, b)    a where the mask has ones, b where it has zeros
//   greater_i32(a, b)     ones where a > b;  any(v): whether any bit is set;  lane_u32<n>(v)
//   load_i8_as_i16(p)     eight bytes, sign-extended;  load_pairs(p, q): two 32-bit numbers from each address
//   low_, high_u8_as_i16  the lower or upper eight unsigned bytes as 16-bit lanes;  low_, high_i16_as_i32: signed
//   low_, high_bytes_twice   each of the lower or upper eight bytes twice: a0 a0 a1 a1 ...
//   low_, high_pairs_*    the lower or upper halves of a and b lane by lane: a0 b0 a1 b1 ...
//   even_, odd_lanes      32-bit lanes 0 and 2 of a, then of b; lanes 1 and 3
//   pack_i8(a, b, c, d)   16 numbers of 32 bits that fit in 8
//   dot_i16(a, b)         products of 16-bit lanes, neighbours added, in 32 bits
//   add_pairs_i16(v)      neighbouring 16-bit lanes added, in 32 bits
//   sum_lanes_i32(a, b, c, d)   {sum of a's lanes, of b's, of c's, of d's}
//   multiply_i32, _u32    32-bit lanes to a Wide;  narrow_low, narrow_high: the lower or upper halves of its lanes
//   average_u8(a, b)      (a + b + 1) / 2;  bit_count_u8(v): ones in each byte
//   dot_i8_i7(x, codes)           products of bytes, neighbours added, in 16 bits, codes below 2^7
//   dot_add_i8_i7(x, codes, sum)  products of bytes, four neighbours added to a 32-bit lane: what else than codes below
//                                 2^7 gives is the machine's; kernels/ternary/relaxed.cc finds out
namespace tern::simd {

inline Wide add(Wide w, Vec splat) { return {add_u64(w.a, splat), add_u64(w.b, splat)}; }
inline Wide add(Wide v, Wide w) { return {add_u64(v.a, w.a), add_u64(v.b, w.b)}; }
inline Wide sub(Wide v, Wide w) { return {sub_u64(v.a, w.a), sub_u64(v.b, w.b)}; }
inline Wide shift_right(Wide w, int bits) { return {shift_right_u64(w.a, bits), shift_right_u64(w.b, bits)}; }
inline Wide shift_left(Wide w, int bits) { return {shift_left_u64(w.a, bits), shift_left_u64(w.b, bits)}; }
inline Vec merge(Wide w) { return bit_or(w.a, w.b); }

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
