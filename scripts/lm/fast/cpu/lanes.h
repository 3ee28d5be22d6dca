// Sixteen floats at a time, portably: GCC's and Clang's vector types become whatever vectors the machine has.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace lm {

constexpr int kLanes = 16;
using Lanes = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using Bytes = uint8_t __attribute__((vector_size(16)));

template <typename Vector, typename Element>
inline Vector load_as(const Element* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline Lanes load(const float* from) { return load_as<Lanes>(from); }
inline void store(float* to, Lanes v) { std::memcpy(to, &v, sizeof v); }
inline void add_to(float* to, Lanes v) { store(to, load(to) + v); }

inline Lanes abs(Lanes x) { return (Lanes)((Ints)x & 0x7fffffff); }
inline Lanes max(Lanes a, Lanes b) { return a > b ? a : b; }

/// Lanes whose number has the bit kBit: those of a for those of b without it.
template <int kBit>
inline void exchange(Ints& a, Ints& b) {
  [&]<int... kLane>(std::integer_sequence<int, kLane...>) {
    const Ints low = __builtin_shufflevector(a, b, (kLane & kBit ? kLanes + kLane - kBit : kLane)...);
    b = __builtin_shufflevector(a, b, (kLane & kBit ? kLanes + kLane : kLane + kBit)...);
    a = low;
  }(std::make_integer_sequence<int, kLanes>{});
}
/// Lane j of v[i] becomes lane i of v[j].
inline void transpose(Ints v[kLanes]) {
  const auto step = [&]<int kBit>(std::integral_constant<int, kBit>) {
    for (int i = 0; i < kLanes; ++i)
      if (!(i & kBit)) exchange<kBit>(v[i], v[i + kBit]);
  };
  step(std::integral_constant<int, 8>{});
  step(std::integral_constant<int, 4>{});
  step(std::integral_constant<int, 2>{});
  step(std::integral_constant<int, 1>{});
}

template <typename Combine>
inline float reduce(Lanes x, Combine combine) {
  float v[kLanes];
  std::memcpy(v, &x, sizeof v);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] = combine(v[i], v[i + half]);
  return v[0];
}
#if defined(__AVX512F__)
inline float sum(Lanes x) { return _mm512_reduce_add_ps((__m512)x); }
inline float largest(Lanes x) { return _mm512_reduce_max_ps((__m512)x); }
#else
inline float sum(Lanes x) {
  return reduce(x, [](float a, float b) { return a + b; });
}
inline float largest(Lanes x) {
  return reduce(x, [](float a, float b) { return a > b ? a : b; });
}
#endif

/// The nearest integer, ties to even, of |x| < 2^22: adding 1.5 * 2^23 moves the units of x to the lowest bit.
inline Ints nearest(Lanes x) { return (Ints)(x + 12582912.0f) - 0x4B400000; }

/// The low byte of each lane.
inline void store_bytes(uint8_t* to, Ints v) {
#if defined(__AVX512F__)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)v));
#else
  const Bytes bytes = __builtin_convertvector(v, Bytes);
  std::memcpy(to, &bytes, sizeof bytes);
#endif
}
inline Ints load_bytes(const uint8_t* from) {
#if defined(__AVX512F__)
  return (Ints)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  return __builtin_convertvector(load_as<Bytes>(from), Ints);
#endif
}

/// e^x to 3e-7 of its value; x is limited to [-87, 87].  x = n ln 2 + r, and the series of e^r to r^6 (|r| <= ln 2 /
/// 2).
inline Lanes exp(Lanes x) {
  x = x > 87.0f ? Lanes{} + 87.0f : x;
  x = x < -87.0f ? Lanes{} - 87.0f : x;
  const Ints n = nearest(x * 1.44269504f);
  const Lanes r = x - __builtin_convertvector(n, Lanes) * 0.693147181f;
  Lanes y = r * (1.0f / 720) + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  return y * (Lanes)((n + 127) << 23);
}
inline Lanes sigmoid(Lanes x) { return 1.0f / (1.0f + exp(-x)); }

struct Silu {
  Lanes value, slope;
};
inline Silu silu(Lanes x) {
  const Lanes q = sigmoid(x), value = x * q;
  return {value, q + value * (1.0f - q)};
}

/// 16 generators xorshift32, for stochastic rounding.
struct Random {
  Ints lane;
  explicit Random(uint32_t seed) {
    for (int i = 0; i < kLanes; ++i) lane[i] = static_cast<int32_t>((seed = seed * 747796405u + 2891336453u) | 1u);
  }
  Ints next() {
    lane ^= lane << 13;
    lane ^= lane >> 17 & 0x7fff;  // a logical shift
    return lane ^= lane << 5;
  }
};

/// x in units of 2^-16, and `random` (16 bits) below the point: bits 16 to 23 are x rounded down or up by chance, plus
/// 128. |x| <= 127.  Its mean is x to 2^-16.
inline Ints round_by_chance(Lanes x, Ints random) {
  return __builtin_convertvector(x, Ints) + (random & 0xffff) + (128 << 16);
}

inline float inverse_rms(const float* x, int n, float eps) {
  Lanes squares{};
  for (int c = 0; c < n; c += kLanes) squares += load(x + c) * load(x + c);
  return 1.0f / std::sqrt(sum(squares) / static_cast<float>(n) + eps);
}

/// code = round(127 v / max|v|) + 128 with v = x * r * w; returns max|v| / 127.
inline float quantize(const float* x, const float* w, float r, int n, uint8_t* code) {
  Lanes peak{};
  for (int c = 0; c < n; c += kLanes) peak = max(peak, abs(load(x + c) * load(w + c)));
  const float top = std::fmax(largest(peak) * r, 1e-5f), s = 127.0f / top * r;
  for (int c = 0; c < n; c += kLanes) store_bytes(code + c, nearest(load(x + c) * load(w + c) * s) + 128);
  return top / 127.0f;
}

/// code = 127 g / top + 128, rounded by chance; |g| <= top.  Returns the value of one step.
inline float quantize_by_chance(const float* g, float top, int n, uint8_t* code, Random& random) {
  if (top == 0) {
    std::memset(code, 128, static_cast<size_t>(n));
    return 0;
  }
  const float s = 127.0f * 65536 / top;
  Ints bits{};
  for (int c = 0; c < n; c += kLanes) {
    bits = c / kLanes % 2 == 0 ? random.next() : bits >> 16;  // each draw serves twice
    store_bytes(code + c, round_by_chance(load(g + c) * s, bits) >> 16);
  }
  return top / 127.0f;
}

}  // namespace lm
