// One HGRN-bit block, forward and backward, fused for the CPU: what makes training on a laptop practical.
//
// The plain definition is arch/hgrnbit.py; tests/py compares the two.  What is different here is only speed:
//   - the three matrix products of a ternary layer (output, input gradient, weight gradient) run on 8-bit integers.
//     The forward one is exact (activations are int8 and weights ternary anyway).  For the two backward ones the
//     output gradient is rounded stochastically to 8 bits, per token and per column respectively, so it stays unbiased.
//   - everything between the products is done a tile of tokens at a time, while it is in the cache.
// Called through ctypes (cpu_kernels.py), so it depends on no PyTorch header.
//
// Glossary: T tokens of one sequence, H hidden width, E recurrent width, I feed-forward width, K convolution taps.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace {

constexpr int kTile = 64;     // tokens handled while in the cache
constexpr float kFloor = 1e-5f;

// ---------------------------------------------------------------------------------------------------------------
// Integer matrix product.  C[m][n] = sum_k A[m][k] * B[n][k],  A unsigned (value + 128), B signed.
// Both operands are read four k's at a time as 32-bit words:
//   A word (m, k4) at a + (m/16)*a_block + (m%16)*a_m + k4*a_k,   B words (16 n's, k4) at b + (n/16)*b_block + k4*16
struct Operands {
  const uint32_t* a;
  long a_block, a_m, a_k;
  const uint32_t* b;
  long b_block;
};

// The sum of B over k, 128 times: what the +128 on A adds to each output.
void offsets(const Operands& p, int n, int k4, int32_t* out) {
  for (int block = 0; block < n / 16; ++block) {
    int32_t sum[16] = {};
    for (int k = 0; k < k4; ++k) {
      const auto* words = reinterpret_cast<const int8_t*>(p.b + block * p.b_block + k * 16);
      for (int j = 0; j < 16; ++j) sum[j] += words[4 * j] + words[4 * j + 1] + words[4 * j + 2] + words[4 * j + 3];
    }
    for (int j = 0; j < 16; ++j) out[block * 16 + j] = -128 * sum[j];
  }
}

#if defined(__AVX512VNNI__)
template <int kRows, int kBlocks>
void tile_product(const Operands& p, int m, int block, int k4, const int32_t* offset, __m512i (&acc)[kRows][kBlocks]) {
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kBlocks; ++j) acc[r][j] = _mm512_loadu_si512(offset + (block + j) * 16);
  const uint32_t* a = p.a + m / 16 * p.a_block + m % 16 * p.a_m;
  const uint32_t* b = p.b + block * p.b_block;
  for (int k = 0; k < k4; ++k, a += p.a_k, b += 16) {
    __m512i w[kBlocks];
    for (int j = 0; j < kBlocks; ++j) w[j] = _mm512_loadu_si512(b + j * p.b_block);
    for (int r = 0; r < kRows; ++r) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[r * p.a_m]));
      for (int j = 0; j < kBlocks; ++j) acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], x, w[j]);
    }
  }
}
#else
struct Lanes { int32_t v[16]; };
template <int kRows, int kBlocks>
void tile_product(const Operands& p, int m, int block, int k4, const int32_t* offset, Lanes (&acc)[kRows][kBlocks]) {
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kBlocks; ++j) {
      std::memcpy(acc[r][j].v, offset + (block + j) * 16, 64);
      for (int k = 0; k < k4; ++k) {
        const auto* a = reinterpret_cast<const uint8_t*>(p.a + (m + r) / 16 * p.a_block + (m + r) % 16 * p.a_m + k * p.a_k);
        const auto* b = reinterpret_cast<const int8_t*>(p.b + (block + j) * p.b_block + k * 16);
        for (int n = 0; n < 16; ++n)
          for (int i = 0; i < 4; ++i) acc[r][j].v[n] += int(a[i]) * int(b[4 * n + i]);
      }
    }
}
#endif

// out[m][n] (+)= C[m][n] * row[m] * column[n];  row or column may be null (1).
struct Output {
  float* out;
  long stride;
  const float* row;
  const float* column;
  bool add;
};

template <int kRows, int kBlocks>
void tile(const Operands& p, const Output& o, int m, int block, int k4, const int32_t* offset) {
#if defined(__AVX512VNNI__)
  __m512i acc[kRows][kBlocks];
#else
  Lanes acc[kRows][kBlocks];
#endif
  tile_product<kRows, kBlocks>(p, m, block, k4, offset, acc);
  for (int r = 0; r < kRows; ++r) {
    const float row = o.row ? o.row[m + r] : 1.0f;
    for (int j = 0; j < kBlocks; ++j) {
      alignas(64) int32_t c[16];
      std::memcpy(c, &acc[r][j], 64);
      float* out = o.out + (m + r) * o.stride + (block + j) * 16;
      const float* column = o.column ? o.column + (block + j) * 16 : nullptr;
#pragma omp simd
      for (int n = 0; n < 16; ++n) {
        const float value = static_cast<float>(c[n]) * row * (column ? column[n] : 1.0f);
        out[n] = (o.add ? out[n] : 0.0f) + value;
      }
    }
  }
}

template <int kBlocks>
void column_panel(const Operands& p, const Output& o, int m_count, int block, int k4, const int32_t* offset) {
  int m = 0;
  for (; m + 16 <= m_count; m += 16) {
    tile<6, kBlocks>(p, o, m, block, k4, offset);
    tile<6, kBlocks>(p, o, m + 6, block, k4, offset);
    tile<4, kBlocks>(p, o, m + 12, block, k4, offset);
  }
  for (; m + 2 <= m_count; m += 2) tile<2, kBlocks>(p, o, m, block, k4, offset);
  for (; m < m_count; ++m) tile<1, kBlocks>(p, o, m, block, k4, offset);
}

// n must be a multiple of 16.
void product(const Operands& p, const Output& o, int m, int n, int k4, const int32_t* offset) {
  int block = 0;
  for (; block + 4 <= n / 16; block += 4) column_panel<4>(p, o, m, block, k4, offset);
  for (; block < n / 16; ++block) column_panel<1>(p, o, m, block, k4, offset);
}

// ---------------------------------------------------------------------------------------------------------------
// A ternary matrix prepared once per step: packed for the product with inputs and, transposed, with gradients.
struct Packed {
  int rows, cols;
  float scale;
  std::vector<uint32_t> forward, backward;  // [rows/16][cols/4][16] and [cols/16][rows/4][16] words of four int8
  std::vector<int32_t> forward_offset, backward_offset;

  Packed(const int8_t* codes, int r, int c, float s)
      : rows(r), cols(c), scale(s), forward(size_t(r) * c / 4), backward(size_t(r) * c / 4), forward_offset(r), backward_offset(c) {
    auto* f = reinterpret_cast<int8_t*>(forward.data());
    auto* b = reinterpret_cast<int8_t*>(backward.data());
    for (int i = 0; i < r; ++i)
      for (int j = 0; j < c; ++j) {
        const int8_t w = codes[size_t(i) * c + j];
        f[((size_t(i / 16) * (c / 4) + j / 4) * 16 + i % 16) * 4 + j % 4] = w;
        b[((size_t(j / 16) * (r / 4) + i / 4) * 16 + j % 16) * 4 + i % 4] = w;
      }
    offsets({nullptr, 0, 0, 0, forward.data(), c / 4 * 16}, r, c / 4, forward_offset.data());
    offsets({nullptr, 0, 0, 0, backward.data(), r / 4 * 16}, c, r / 4, backward_offset.data());
  }
  void times(const uint8_t* x, const float* x_scale, int tokens, float* y) const {  // y[t][rows] = W x
    product({reinterpret_cast<const uint32_t*>(x), 4 * cols, cols / 4, 1, forward.data(), cols / 4 * 16}, {y, rows, x_scale, nullptr, false},
            tokens, rows, cols / 4, forward_offset.data());
  }
  void transposed_times(const uint8_t* g, const float* g_scale, int tokens, float* x) const {  // x[t][cols] = W^T g
    product({reinterpret_cast<const uint32_t*>(g), 4 * rows, rows / 4, 1, backward.data(), rows / 4 * 16}, {x, cols, g_scale, nullptr, false},
            tokens, cols, rows / 4, backward_offset.data());
  }
};

// ---------------------------------------------------------------------------------------------------------------
// Vector helpers.  All are plain loops the compiler vectorises.
struct Random {  // 16 lanes of xorshift32, for stochastic rounding
  uint32_t lane[16];
  explicit Random(uint32_t seed) {
    for (uint32_t& l : lane) l = (seed = seed * 747796405u + 2891336453u) | 1u;
  }
  void fill(float (&u)[16]) {  // uniform in [0, 1)
#pragma omp simd
    for (int i = 0; i < 16; ++i) {
      uint32_t x = lane[i];
      x ^= x << 13; x ^= x >> 17; x ^= x << 5;
      lane[i] = x;
      u[i] = static_cast<float>(static_cast<int32_t>(x >> 8)) * 0x1p-24f;
    }
  }
};

inline float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
inline float silu(float x) { return x * sigmoid(x); }
inline float silu_slope(float x) { const float p = sigmoid(x); return p * (1.0f + x * (1.0f - p)); }

inline float inverse_rms(const float* x, int n, float eps) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

// codes = round(127 v / max|v|) + 128 with v = x * r * w; returns max|v| / 127.
inline float quantize(const float* x, const float* w, float r, int n, uint8_t* code) {
  float top = 0;
#pragma omp simd reduction(max : top)
  for (int i = 0; i < n; ++i) top = std::max(top, std::fabs(x[i] * w[i]));
  top = std::max(top * r, kFloor);
  const float s = 127.0f / top * r;
#pragma omp simd
  for (int i = 0; i < n; ++i) code[i] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(x[i] * w[i] * s)) + 128);
  return top / 127.0f;
}

// The same for a gradient row, rounding stochastically.
inline float quantize_gradient(const float* g, int n, uint8_t* code, Random& random) {
  float top = 0;
#pragma omp simd reduction(max : top)
  for (int i = 0; i < n; ++i) top = std::max(top, std::fabs(g[i]));
  if (top == 0) { std::memset(code, 128, size_t(n)); return 0; }
  const float s = 127.0f / top;
  for (int i = 0; i < n; i += 16) {
    float u[16];
    random.fill(u);
#pragma omp simd
    for (int j = 0; j < 16; ++j) code[i + j] = static_cast<uint8_t>(static_cast<int32_t>(g[i + j] * s + u[j] + 128.0f));
  }
  return top / 127.0f;
}

// y = x * r * w backwards:  dx (+)= r*(w*g) - x * r^3/n * sum(w*g*x),  dw += g * x * r.  `wg` already holds w*g.
inline void norm_backward(const float* x, const float* wg, float r, int n, float* dx, bool add) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int i = 0; i < n; ++i) dot += wg[i] * x[i];
  const float shrink = dot * r * r * r / static_cast<float>(n);
#pragma omp simd
  for (int i = 0; i < n; ++i) dx[i] = (add ? dx[i] : 0.0f) + r * wg[i] - x[i] * shrink;
}

// [t][n] -> [n/16][t/4][16] words of four t's: the order in which `product` reads along t.
void interleave(const uint8_t* in, int tokens, int n, uint32_t* out) {
  for (int t = 0; t < tokens; t += 4) {
    const uint8_t *a = in + size_t(t) * n, *b = a + n, *c = b + n, *d = c + n;
    for (int block = 0; block < n; block += 16) {
      uint32_t* words = out + size_t(block) * (tokens / 4) + t * 4;
#pragma omp simd
      for (int i = 0; i < 16; ++i)
        words[i] = uint32_t(a[block + i]) | uint32_t(b[block + i]) << 8 | uint32_t(c[block + i]) << 16 | uint32_t(d[block + i]) << 24;
    }
  }
}

}  // namespace

extern "C" {

/// Widths and parameters of a block; see arch/hgrnbit.py.  Order of the seven ternary matrices:
/// i, f, g [E][H], o [H][E], gate_up [2I][H], down [H][I].  `in_norm` are their own norm weights.
struct BlockParameters {
  int32_t T, H, E, I, K;
  float eps;
  const float *attn_norm, *conv /* [K][H], oldest tap first */, *keep /* [E] = 1 - lower bound */, *gate_norm, *ffn_norm;
  const float* in_norm[6];
  const int8_t* codes[6];
  float scale[6];
};

/// Gradients, summed over the batch: the matrices transposed, [in][out].
struct BlockGradients {
  float *attn_norm, *conv, *gate_norm, *ffn_norm;
  float* in_norm[6];
  float* matrix[6];
};
}

namespace {

enum { kI, kF, kG, kO, kGateUp, kDown };

struct Shape {
  int rows[6], cols[6];
  explicit Shape(const BlockParameters& p)
      : rows{p.E, p.E, p.E, p.H, 2 * p.I, p.H}, cols{p.H, p.H, p.H, p.E, p.H, p.I} {}
};

// What forward leaves for backward, one sequence: carved out of one arena.
struct Saved {
  float *h, *conv_in, *conv_out, *i, *z, *g, *s, *h1, *gate_up, *scale[6];
  uint8_t* code[6];

  static size_t layout(const BlockParameters& p, uint8_t* base, Saved* out) {
    size_t used = 0;
    const auto take = [&](size_t bytes) { uint8_t* at = base + used; used += (bytes + 63) / 64 * 64; return at; };
    const auto floats = [&](size_t n) { return reinterpret_cast<float*>(take(4 * n)); };
    const size_t T = size_t(p.T + 3) / 4 * 4, H = size_t(p.H), E = size_t(p.E), I = size_t(p.I), tail = p.K ? size_t(p.K - 1) : 0;
    Saved s{};
    s.h = floats(T * H);
    s.conv_in = floats((T + tail) * H);  // the tail of the previous chunk comes first
    s.conv_out = floats(T * H);
    s.i = floats(T * E); s.z = floats(T * E); s.g = floats(T * E);
    s.s = floats((T + 1) * E);           // s[0] is the state on entry
    s.h1 = floats(T * H);
    s.gate_up = floats(T * 2 * I);
    const Shape shape(p);
    for (int m = 0; m < 6; ++m) { s.scale[m] = floats(T); s.code[m] = take(T * size_t(shape.cols[m])); }
    if (out) *out = s;
    return used;
  }
};

std::vector<Packed> pack_all(const BlockParameters& p) {
  const Shape shape(p);
  std::vector<Packed> packed;
  for (int m = 0; m < 6; ++m) packed.emplace_back(p.codes[m], shape.rows[m], shape.cols[m], p.scale[m]);
  return packed;
}

// quantise `tokens` rows and multiply: y = BitLinear(x), x [tokens][cols]
void bit_linear(const BlockParameters& p, const Packed& w, int m, const float* x, int tokens, const Saved& s, int t0, float* y) {
  float row[kTile];
  for (int t = 0; t < tokens; ++t) {
    const float* v = x + size_t(t) * w.cols;
    const float scale = quantize(v, p.in_norm[m], inverse_rms(v, w.cols, p.eps), w.cols, s.code[m] + size_t(t0 + t) * w.cols);
    s.scale[m][t0 + t] = scale;
    row[t] = scale * w.scale;
  }
  w.times(s.code[m] + size_t(t0) * w.cols, row, tokens, y);
}

void sequence_forward(const BlockParameters& p, const std::vector<Packed>& w, const float* in, float* out, float* state,
                      float* tail, const Saved& s, int T) {
  const int H = p.H, E = p.E, I = p.I, K = p.K;
  const int past = K ? K - 1 : 0;
  std::memcpy(s.h, in, sizeof(float) * size_t(T) * H);
  if (past) std::memcpy(s.conv_in, tail, sizeof(float) * size_t(past) * H);
  std::memcpy(s.s, state, sizeof(float) * size_t(E));
  std::vector<float> buffer(size_t(kTile) * std::max({H, E, I})), result(size_t(kTile) * H);
  for (int t0 = 0; t0 < T; t0 += kTile) {
    const int n = std::min(kTile, T - t0);
    for (int t = t0; t < t0 + n; ++t) {
      const float* h = s.h + size_t(t) * H;
      float* a = s.conv_in + size_t(t + past) * H;
      const float r = inverse_rms(h, H, p.eps);
#pragma omp simd
      for (int c = 0; c < H; ++c) a[c] = h[c] * r * p.attn_norm[c];
      float* x = &buffer[size_t(t - t0) * H];
      if (!K) { std::memcpy(x, a, sizeof(float) * size_t(H)); continue; }
      float* y = s.conv_out + size_t(t) * H;
      for (int c = 0; c < H; ++c) y[c] = 0;
      for (int k = 0; k < K; ++k) {
        const float* past_a = s.conv_in + size_t(t + k) * H;
#pragma omp simd
        for (int c = 0; c < H; ++c) y[c] += past_a[c] * p.conv[k * H + c];
      }
#pragma omp simd
      for (int c = 0; c < H; ++c) x[c] = silu(y[c]);
    }
    bit_linear(p, w[kI], kI, buffer.data(), n, s, t0, s.i + size_t(t0) * E);
    bit_linear(p, w[kF], kF, buffer.data(), n, s, t0, s.z + size_t(t0) * E);
    bit_linear(p, w[kG], kG, buffer.data(), n, s, t0, s.g + size_t(t0) * E);
    for (int t = t0; t < t0 + n; ++t) {
      const float *i = s.i + size_t(t) * E, *z = s.z + size_t(t) * E, *g = s.g + size_t(t) * E, *before = s.s + size_t(t) * E;
      float *after = s.s + size_t(t + 1) * E, *o = &buffer[size_t(t - t0) * E];
      const float r = inverse_rms(g, E, p.eps);
#pragma omp simd
      for (int c = 0; c < E; ++c) {
        const float k = p.keep[c] * sigmoid(-z[c]);
        const float now = before[c] + k * (silu(i[c]) - before[c]);
        after[c] = now;
        o[c] = g[c] * r * p.gate_norm[c] * silu(now);
      }
    }
    bit_linear(p, w[kO], kO, buffer.data(), n, s, t0, result.data());
    float* h1 = s.h1 + size_t(t0) * H;
    const float* h = s.h + size_t(t0) * H;
#pragma omp simd
    for (int c = 0; c < n * H; ++c) h1[c] = h[c] + result[c];
    for (int t = 0; t < n; ++t) {
      const float r = inverse_rms(h1 + size_t(t) * H, H, p.eps);
#pragma omp simd
      for (int c = 0; c < H; ++c) buffer[size_t(t) * H + c] = h1[size_t(t) * H + c] * r * p.ffn_norm[c];
    }
    bit_linear(p, w[kGateUp], kGateUp, buffer.data(), n, s, t0, s.gate_up + size_t(t0) * 2 * I);
    for (int t = 0; t < n; ++t) {
      const float *gate = s.gate_up + size_t(t0 + t) * 2 * I, *up = gate + I;
#pragma omp simd
      for (int c = 0; c < I; ++c) buffer[size_t(t) * I + c] = silu(gate[c]) * up[c];
    }
    bit_linear(p, w[kDown], kDown, buffer.data(), n, s, t0, result.data());
    float* to = out + size_t(t0) * H;
#pragma omp simd
    for (int c = 0; c < n * H; ++c) to[c] = h1[c] + result[c];
  }
  std::memcpy(state, s.s + size_t(T) * E, sizeof(float) * size_t(E));
  if (past) std::memcpy(tail, s.conv_in + size_t(T) * H, sizeof(float) * size_t(past) * H);
}

// One thread's share of the gradients and its scratch.
struct Worker {
  std::vector<float> attn_norm, conv, gate_norm, ffn_norm, in_norm[6], matrix[6];
  std::vector<float> gy[6];  // output gradients of each BitLinear over the whole sequence
  std::vector<uint8_t> gy_code;
  std::vector<uint32_t> packed_x, packed_g;
  std::vector<float> column;
  std::vector<int32_t> offset;
  Random random{1};

  explicit Worker(const BlockParameters& p) {
    const Shape shape(p);
    const size_t T = size_t(p.T + 3) / 4 * 4;
    attn_norm.resize(p.H); conv.resize(size_t(p.K) * p.H); gate_norm.resize(p.E); ffn_norm.resize(p.H);
    int widest = 0;
    for (int m = 0; m < 6; ++m) {
      in_norm[m].resize(shape.cols[m]);
      matrix[m].resize(size_t(shape.rows[m]) * shape.cols[m]);
      gy[m].resize(T * shape.rows[m]);
      widest = std::max({widest, shape.rows[m], shape.cols[m]});
    }
    gy_code.resize(T * widest); packed_x.resize(T * widest / 4); packed_g.resize(T * widest / 4);
    column.resize(widest); offset.resize(widest);
  }

  // Gradient at the normalised input of BitLinear m, for tokens t0 .. t0+n: gx [n][cols].
  void input_gradient(const Packed& w, int m, int t0, int n, float* gx) {
    float row[kTile];
    for (int t = 0; t < n; ++t)
      row[t] = w.scale * quantize_gradient(&gy[m][size_t(t0 + t) * w.rows], w.rows, &gy_code[size_t(t) * w.rows], random);
    w.transposed_times(gy_code.data(), row, n, gx);
  }

  // wg = w*g and dw += g*x*r for one token of BitLinear m (or any norm).
  static void weight_norm(const float* x, const float* w, const float* g, float r, int n, float* dw, float* wg, bool add) {
#pragma omp simd
    for (int c = 0; c < n; ++c) {
      dw[c] += g[c] * x[c] * r;
      wg[c] = (add ? wg[c] : 0.0f) + g[c] * w[c];
    }
  }

  // matrix[m]^T += codes^T (gy * x_scale), over the whole sequence
  void weight_gradient(const Saved& s, int T, int m, int rows, int cols) {
    const int padded = (T + 3) / 4 * 4;  // the product takes four tokens at a time: those that are missing get zero gradient
    float* const g = gy[m].data();
    float* const top = column.data();
    std::fill_n(top, rows, 0.0f);
    for (int t = 0; t < T; ++t) {
      const float scale = s.scale[m][t];
      float* row = g + size_t(t) * rows;
#pragma omp simd
      for (int c = 0; c < rows; ++c) {
        const float v = row[c] * scale, size = std::fabs(v);
        row[c] = v;
        top[c] = top[c] < size ? size : top[c];
      }
    }
    std::vector<float> inverse_of(static_cast<size_t>(rows));
    float* const inverse = inverse_of.data();
    for (int c = 0; c < rows; ++c) {
      inverse[c] = top[c] > 0 ? 127.0f / top[c] : 0.0f;
      top[c] /= 127.0f;
    }
    for (int t = 0; t < T; ++t) {
      const float* row = g + size_t(t) * rows;
      uint8_t* code = &gy_code[size_t(t) * rows];
      for (int c = 0; c < rows; c += 16) {
        float u[16];
        random.fill(u);
#pragma omp simd
        for (int j = 0; j < 16; ++j)  // +128 so that the truncation is a floor; the product wants signed bytes
          code[c + j] = static_cast<uint8_t>(static_cast<int32_t>(row[c + j] * inverse[c + j] + u[j] + 128.0f) - 128);
      }
    }
    std::memset(&gy_code[size_t(T) * rows], 0, size_t(padded - T) * rows);
    interleave(s.code[m], padded, cols, packed_x.data());
    interleave(gy_code.data(), padded, rows, packed_g.data());
    const Operands operands{packed_x.data(), padded * 4, 1, 16, packed_g.data(), padded * 4};
    offsets(operands, rows, padded / 4, offset.data());
    product(operands, {matrix[m].data(), rows, nullptr, column.data(), true}, cols, rows, padded / 4, offset.data());
  }

  void sequence(const BlockParameters& p, const std::vector<Packed>& w, const Saved& s, int T, const float* g_out, float* g_in) {
    const int H = p.H, E = p.E, I = p.I, K = p.K;
    const int past = K ? K - 1 : 0;
    std::vector<float> wide(size_t(kTile) * std::max({H, E, I})), ga(size_t(kTile) * H), wg(size_t(std::max({H, E, I}))),
        row(size_t(std::max({H, E, I}))), carry(size_t(E), 0.0f), gc(size_t(kTile + past) * H, 0.0f), gx(size_t(kTile) * H);
    for (int t0 = (T - 1) / kTile * kTile; t0 >= 0; t0 -= kTile) {
      const int n = std::min(kTile, T - t0);
      // feed-forward
      std::memcpy(&gy[kDown][size_t(t0) * H], g_out + size_t(t0) * H, sizeof(float) * size_t(n) * H);
      input_gradient(w[kDown], kDown, t0, n, wide.data());
      for (int t = 0; t < n; ++t) {
        const float *gate = s.gate_up + size_t(t0 + t) * 2 * I, *up = gate + I;
        float* g_gate = &gy[kGateUp][size_t(t0 + t) * 2 * I];
        float* g_up = g_gate + I;
#pragma omp simd
        for (int c = 0; c < I; ++c) row[c] = silu(gate[c]) * up[c];
        const float r = inverse_rms(row.data(), I, p.eps);
        weight_norm(row.data(), p.in_norm[kDown], &wide[size_t(t) * I], r, I, in_norm[kDown].data(), wg.data(), false);
        norm_backward(row.data(), wg.data(), r, I, g_up, false);  // g_up holds the gradient of the product for a moment
#pragma omp simd
        for (int c = 0; c < I; ++c) {
          const float gm = g_up[c], x = gate[c], q = sigmoid(x);
          g_gate[c] = gm * up[c] * q * (1.0f + x * (1.0f - q));
          g_up[c] = gm * x * q;
        }
      }
      input_gradient(w[kGateUp], kGateUp, t0, n, wide.data());
      for (int t = 0; t < n; ++t) {
        const float* h1 = s.h1 + size_t(t0 + t) * H;
        float* g1 = &gy[kO][size_t(t0 + t) * H];
        const float r = inverse_rms(h1, H, p.eps);
#pragma omp simd
        for (int c = 0; c < H; ++c) row[c] = h1[c] * r * p.ffn_norm[c];
        const float ry = inverse_rms(row.data(), H, p.eps);
        weight_norm(row.data(), p.in_norm[kGateUp], &wide[size_t(t) * H], ry, H, in_norm[kGateUp].data(), wg.data(), false);
        norm_backward(row.data(), wg.data(), ry, H, &ga[0], false);
        weight_norm(h1, p.ffn_norm, &ga[0], r, H, ffn_norm.data(), wg.data(), false);
        std::memcpy(g1, g_out + size_t(t0 + t) * H, sizeof(float) * size_t(H));
        norm_backward(h1, wg.data(), r, H, g1, true);
      }
      // output gate and recurrence, backwards in time
      input_gradient(w[kO], kO, t0, n, wide.data());
      for (int t = t0 + n - 1; t >= t0; --t) {
        const float *i = s.i + size_t(t) * E, *z = s.z + size_t(t) * E, *g = s.g + size_t(t) * E;
        const float *before = s.s + size_t(t) * E, *now = before + E;
        float *gi = &gy[kI][size_t(t) * E], *gz = &gy[kF][size_t(t) * E], *gg = &gy[kG][size_t(t) * E];
        const float rg = inverse_rms(g, E, p.eps);
#pragma omp simd
        for (int c = 0; c < E; ++c) row[c] = g[c] * rg * p.gate_norm[c] * silu(now[c]);
        const float ro = inverse_rms(row.data(), E, p.eps);
        weight_norm(row.data(), p.in_norm[kO], &wide[size_t(t - t0) * E], ro, E, in_norm[kO].data(), wg.data(), false);
        norm_backward(row.data(), wg.data(), ro, E, gi, false);  // gi holds the gradient of o for a moment
#pragma omp simd
        for (int c = 0; c < E; ++c) {
          const float go = gi[c], x = now[c], q = sigmoid(x);
          const float total = carry[c] + go * g[c] * rg * p.gate_norm[c] * q * (1.0f + x * (1.0f - q));
          row[c] = go * x * q;  // gradient of the normed gate
          const float forget = sigmoid(-z[c]), k = p.keep[c] * forget, ui = sigmoid(i[c]);
          gz[c] = -total * (i[c] * ui - before[c]) * k * (1.0f - forget);
          gi[c] = total * k * ui * (1.0f + i[c] * (1.0f - ui));
          carry[c] = total * (1.0f - k);
        }
        weight_norm(g, p.gate_norm, row.data(), rg, E, gate_norm.data(), wg.data(), false);
        norm_backward(g, wg.data(), rg, E, gg, false);
      }
      // the three projections share their input
      std::fill(gx.begin(), gx.end(), 0.0f);
      for (int m : {kI, kF, kG}) {
        input_gradient(w[m], m, t0, n, wide.data());
        for (int t = 0; t < n; ++t) {
          const float* y = K ? s.conv_out + size_t(t0 + t) * H : s.conv_in + size_t(t0 + t) * H;
#pragma omp simd
          for (int c = 0; c < H; ++c) row[c] = K ? silu(y[c]) : y[c];
          const float r = inverse_rms(row.data(), H, p.eps);
          weight_norm(row.data(), p.in_norm[m], &wide[size_t(t) * H], r, H, in_norm[m].data(), wg.data(), false);
          norm_backward(row.data(), wg.data(), r, H, &gx[size_t(t) * H], true);
        }
      }
      if (K) {  // gc[0..n) of this tile, followed by the first rows of the tile after it
        std::memmove(&gc[size_t(n) * H], &gc[0], sizeof(float) * size_t(past) * H);
        for (int t = 0; t < n; ++t)
#pragma omp simd
          for (int c = 0; c < H; ++c) gc[size_t(t) * H + c] = gx[size_t(t) * H + c] * silu_slope(s.conv_out[size_t(t0 + t) * H + c]);
        for (int t = 0; t < n; ++t) {
          float* a = &ga[size_t(t) * H];
          std::memset(a, 0, sizeof(float) * size_t(H));
          for (int k = 0; k < K; ++k) {
            const float *later = &gc[size_t(t + past - k) * H], *x = s.conv_in + size_t(t0 + t + k) * H, *here = &gc[size_t(t) * H];
#pragma omp simd
            for (int c = 0; c < H; ++c) {
              a[c] += later[c] * p.conv[k * H + c];
              conv[k * H + c] += here[c] * x[c];
            }
          }
        }
      } else {
        std::memcpy(ga.data(), gx.data(), sizeof(float) * size_t(n) * H);
      }
      for (int t = 0; t < n; ++t) {
        const float* h = s.h + size_t(t0 + t) * H;
        float* to = g_in + size_t(t0 + t) * H;
        const float r = inverse_rms(h, H, p.eps);
        weight_norm(h, p.attn_norm, &ga[size_t(t) * H], r, H, attn_norm.data(), wg.data(), false);
        std::memcpy(to, &gy[kO][size_t(t0 + t) * H], sizeof(float) * size_t(H));
        norm_backward(h, wg.data(), r, H, to, true);
      }
    }
    const Shape shape(p);
    for (int m = 0; m < 6; ++m) weight_gradient(s, T, m, shape.rows[m], shape.cols[m]);
  }
};

void add_to(float* out, const std::vector<float>& in) {
  if (!out) return;
  for (size_t i = 0; i < in.size(); ++i) out[i] += in[i];
}

}  // namespace

extern "C" {

/// Bytes that forward needs per sequence to remember what backward uses.
int64_t block_saved_bytes(const BlockParameters* p) { return static_cast<int64_t>(Saved::layout(*p, nullptr, nullptr)); }

/// out[B][T][H] = block(in[B][T][H]); state [B][E] and tail [B][K-1][H] are read and replaced by their values at the end.
/// Row b holds lengths[b] tokens, 0 to T (null: T each); what follows them is not read, and is zero in out.
/// All widths must be multiples of 16.
void block_forward(const BlockParameters* p, int B, const int32_t* lengths, const float* in, float* out, float* state, float* tail, uint8_t* saved) {
  const std::vector<Packed> w = pack_all(*p);
  const size_t stride = Saved::layout(*p, nullptr, nullptr), area = size_t(p->T) * p->H;
#pragma omp parallel for schedule(dynamic)
  for (int b = 0; b < B; ++b) {
    Saved s;
    Saved::layout(*p, saved + size_t(b) * stride, &s);
    const int T = lengths ? lengths[b] : p->T;
    sequence_forward(*p, w, in + b * area, out + b * area, state + size_t(b) * p->E, tail + size_t(b) * (p->K ? p->K - 1 : 0) * p->H, s, T);
    std::fill(out + b * area + size_t(T) * p->H, out + (b + 1) * area, 0.0f);
  }
}

/// g_in[B][T][H] from g_out; adds to the parameter gradients.  The gradient does not flow into the state on entry.
/// With more than one thread the order of the float sums, and so the last bits, may differ from run to run.
void block_backward(const BlockParameters* p, int B, const int32_t* lengths, const float* g_out, float* g_in, const uint8_t* saved, const BlockGradients* grads,
                    uint32_t seed) {
  const std::vector<Packed> w = pack_all(*p);
  const size_t stride = Saved::layout(*p, nullptr, nullptr), area = size_t(p->T) * p->H;
#pragma omp parallel
  {
    Worker worker(*p);
#pragma omp for schedule(dynamic)
    for (int b = 0; b < B; ++b) {
      worker.random = Random(seed * 2654435761u + static_cast<uint32_t>(b) * 40503u);
      Saved s;
      Saved::layout(*p, const_cast<uint8_t*>(saved) + size_t(b) * stride, &s);
      const int T = lengths ? lengths[b] : p->T;
      worker.sequence(*p, w, s, T, g_out + b * area, g_in + b * area);
      std::fill(g_in + b * area + size_t(T) * p->H, g_in + (b + 1) * area, 0.0f);
    }
#pragma omp critical
    {
        add_to(grads->attn_norm, worker.attn_norm);
        add_to(grads->conv, worker.conv);
        add_to(grads->gate_norm, worker.gate_norm);
        add_to(grads->ffn_norm, worker.ffn_norm);
        for (int m = 0; m < 6; ++m) {
          add_to(grads->in_norm[m], worker.in_norm[m]);
          add_to(grads->matrix[m], worker.matrix[m]);
        }
    }
  }
}
}
