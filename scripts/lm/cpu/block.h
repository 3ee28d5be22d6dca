// What the forward and the backward pass of a fused HGRN-bit block share: parameters, packed weights, notes, scratch.
//
// The plain definition is arch/hgrnbit.py; tests/py compares the two.  What is different here is only speed:
//   - the three matrix products of a ternary layer (output, input gradient, weight gradient) run on 8-bit integers.
//     The forward one is exact (activations are int8 and weights ternary anyway).  For the two backward ones the
//     output gradient is rounded stochastically to 8 bits, per token and per column respectively, so it stays unbiased.
//   - everything between the products is done a tile of tokens at a time, while it is in the cache.
// Called through ctypes (cpu_kernels.py), so it depends on no PyTorch header.
//
// Glossary: T tokens of one sequence, H hidden width, E recurrent width, I feed-forward width, K convolution taps.
#pragma once

#include <cstddef>
#include <vector>

#include "product.h"

extern "C" {

/// Widths (multiples of 16) and parameters of a block.  Order of the matrices:
/// i, f, g [E][H], o [H][E], gate_up [2I][H], down [H][I].  `in_norm` are their own norm weights.
struct BlockParameters {
  int32_t T, H, E, I, K;
  float eps;
  const float *attn_norm, *conv /* [K][H], oldest tap first */, *keep /* [E] = 1 - lower bound */, *gate_norm,
      *ffn_norm;
  const float* in_norm[6];
  const int8_t* codes[6];
  float scale[6];
};

/// Gradients of the parameters, summed over the batch; shapes as above.
struct BlockGradients {
  float *attn_norm, *conv, *gate_norm, *ffn_norm;
  float* in_norm[6];
  float* matrix[6];
};

void prefer_huge_pages(void* memory, int64_t bytes);
}

namespace lm {

constexpr int kTile = 64;  // tokens handled while in the cache
enum Matrix { kI, kF, kG, kO, kGateUp, kDown, kMatrices };
enum Norm { kBeforeMix, kBeforeProjections, kOfGate, kBeforeO, kBeforeMlp, kBeforeGateUp, kBeforeDown, kNorms };

/// Rounded up to what the products take at a time.
inline size_t whole_fours(int tokens) { return static_cast<size_t>(tokens + 3) / 4 * 4; }

struct Shape {
  int rows[kMatrices], cols[kMatrices];
  explicit Shape(const BlockParameters& p)
      : rows{p.E, p.E, p.E, p.H, 2 * p.I, p.H}, cols{p.H, p.H, p.H, p.E, p.H, p.I} {}
};

/// Hands out arrays that begin at cache lines; with a null base it only counts.
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}
  uint8_t* bytes(size_t n) {
    uint8_t* const at = base_ ? base_ + used_ : nullptr;
    used_ += (n + 63) / 64 * 64;
    return at;
  }
  float* floats(size_t n) { return reinterpret_cast<float*>(bytes(4 * n)); }
  uint32_t* words(size_t n) { return reinterpret_cast<uint32_t*>(bytes(4 * n)); }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

/// What forward notes for backward, one sequence.
struct Saved {
  float *conv_in, *conv_out, *i, *z, *g, *s, *h1, *gate_up;
  float* scale[kMatrices];     // [T] one step of each token's input codes
  float* inverse_rms[kNorms];  // [T]
  uint8_t* code[kMatrices];    // [T][cols] input codes + 128

  Saved(const BlockParameters& p, Carver& carve) {
    const size_t T = whole_fours(p.T), H = size_t(p.H), E = size_t(p.E), I = size_t(p.I),
                 tail = p.K ? size_t(p.K - 1) : 0;
    conv_in = carve.floats((T + tail) * H);  // the tail of the previous chunk comes first
    conv_out = carve.floats(T * H);
    i = carve.floats(T * E);
    z = carve.floats(T * E);
    g = carve.floats(T * E);
    s = carve.floats((T + 1) * E);  // s[0] is the state on entry
    h1 = carve.floats(T * H);
    gate_up = carve.floats(T * 2 * I);
    const Shape shape(p);
    for (int m = 0; m < kMatrices; ++m) {
      scale[m] = carve.floats(T);
      code[m] = carve.bytes(T * size_t(shape.cols[m]));
    }
    for (float*& r : inverse_rms) r = carve.floats(T);
  }
  static size_t bytes(const BlockParameters& p) {
    Carver carve(nullptr);
    Saved(p, carve);
    return carve.used();
  }
};

/// y[t][n] = scale * sum over k of x[t][k] W[n][k]: a ternary matrix in the order in which `product` reads it.
struct Packed {
  int n, k;
  float scale;
  std::vector<uint32_t> words;
  std::vector<int32_t> offset;

  Packed(int n, int k, float scale) : n(n), k(k), scale(scale), words(size_t(n) * size_t(k) / 4), offset(size_t(n)) {}
  void finish() { offsets(words.data(), k / 4 * kLanes, n, k / 4, offset.data()); }

  /// W x: codes [rows][cols] as they are.
  static Packed straight(const int8_t* codes, int rows, int cols, float scale) {
    Packed w(rows, cols, scale);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols / 4; ++c)
        std::memcpy(&w.words[(size_t(r / 16) * size_t(cols / 4) + size_t(c)) * 16 + size_t(r % 16)],
                    codes + size_t(r) * size_t(cols) + c * 4, 4);
    w.finish();
    return w;
  }
  /// W^T g.
  static Packed transposed(const int8_t* codes, int rows, int cols, float scale) {
    Packed w(cols, rows, scale);
    interleave(reinterpret_cast<const uint8_t*>(codes), rows, cols, 0, w.words.data());
    w.finish();
    return w;
  }
  using Packer = Packed (*)(const int8_t*, int, int, float);
  static std::vector<Packed> all(const BlockParameters& p, Packer pack) {
    const Shape shape(p);
    std::vector<Packed> packed;
    for (int m = 0; m < kMatrices; ++m) packed.push_back(pack(p.codes[m], shape.rows[m], shape.cols[m], p.scale[m]));
    return packed;
  }

  /// x [tokens][k] codes + 128, x_scale [tokens] -> y [tokens][n]
  void times(const uint8_t* x, const float* x_scale, int tokens, float* y) const {
    float row[kTile];
    for (int t = 0; t < tokens; ++t) row[t] = x_scale[t] * scale;
    product({reinterpret_cast<const uint32_t*>(x), 4 * k, k / 4, 1, words.data(), k / 4 * kLanes}, {y, n, row, false},
            tokens, n, k / 4, offset.data());
  }
};

/// Memory of one thread that stays from call to call, so that it is neither cleared nor asked for again.
uint8_t* scratch(size_t bytes);

}  // namespace lm
