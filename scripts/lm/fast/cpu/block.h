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

#include "linear.h"

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
  float *attn_norm, *conv, *keep, *gate_norm, *ffn_norm;
  float* in_norm[6];
  float* matrix[6];
};
}

namespace lm {

enum Matrix { kI, kF, kG, kO, kGateUp, kDown, kMatrices };
enum Norm { kBeforeMix, kBeforeProjections, kOfGate, kBeforeO, kBeforeMlp, kBeforeGateUp, kBeforeDown, kNorms };

struct Shape {
  int rows[kMatrices], cols[kMatrices];
  explicit Shape(const BlockParameters& p)
      : rows{p.E, p.E, p.E, p.H, 2 * p.I, p.H}, cols{p.H, p.H, p.H, p.E, p.H, p.I} {}
};

/// What the matrices make of some tokens that later steps want as it is.
struct Outputs {
  float *i, *z, *g, *gate_up;  // [tokens][E] three times, [tokens][2I]
  Outputs(const BlockParameters& p, size_t tokens, Carver& carve)
      : i(carve.floats(tokens * size_t(p.E))),
        z(carve.floats(tokens * size_t(p.E))),
        g(carve.floats(tokens * size_t(p.E))),
        gate_up(carve.floats(tokens * 2 * size_t(p.I))) {}
  Outputs(const BlockParameters& p, const Outputs& all, int t0)
      : i(all.i + size_t(t0) * size_t(p.E)),
        z(all.z + size_t(t0) * size_t(p.E)),
        g(all.g + size_t(t0) * size_t(p.E)),
        gate_up(all.gate_up + size_t(t0) * 2 * size_t(p.I)) {}
};

/// What forward notes for backward, one sequence.  On tiles the outputs are not among it: to multiply once more is
/// exact, and sooner done than to write them to memory and read them.
struct Saved {
  float *conv_in, *conv_out, *s, *h1;
  bool keeps_outputs = !tiles_in_use();
  Outputs outputs;             // of all T tokens, or of none
  float* scale[kMatrices];     // [T] one step of each token's input codes
  float* inverse_rms[kNorms];  // [T]
  uint8_t* code[kMatrices];    // [T][cols] input codes + 128

  Saved(const BlockParameters& p, Carver& carve) : outputs(p, keeps_outputs ? whole_fours(p.T) : 0, carve) {
    const size_t T = whole_fours(p.T), H = size_t(p.H), E = size_t(p.E), tail = p.K ? size_t(p.K - 1) : 0;
    conv_in = carve.floats((T + tail) * H);  // the tail of the previous chunk comes first
    conv_out = carve.floats(T * H);
    s = carve.floats((T + 1) * E);  // s[0] is the state on entry
    h1 = carve.floats(T * H);
    const Shape shape(p);
    for (int m = 0; m < kMatrices; ++m) {
      scale[m] = carve.floats(T);
      code[m] = carve.bytes(T * size_t(shape.cols[m]));
    }
    for (float*& r : inverse_rms) r = carve.floats(T);
  }
  /// The outputs of a tile from token t0 on: a part of all, or the given memory.
  Outputs of_tile(const BlockParameters& p, int t0, const Outputs& memory) const {
    return keeps_outputs ? Outputs(p, outputs, t0) : memory;
  }
  static size_t bytes(const BlockParameters& p) {
    Carver carve(nullptr);
    Saved(p, carve);
    return carve.used();
  }
};

using Packer = Packed (*)(const int8_t*, int, int, float);
inline std::vector<Packed> pack_all(const BlockParameters& p, Packer pack) {
  const Shape shape(p);
  std::vector<Packed> packed;
  for (int m = 0; m < kMatrices; ++m) packed.push_back(pack(p.codes[m], shape.rows[m], shape.cols[m], p.scale[m]));
  return packed;
}

/// y [n][rows] = matrix m times the codes of tokens t0 .. t0+n.
inline void multiply(const std::vector<Packed>& w, const Saved& s, int m, int t0, int n, float* y) {
  const Packed& matrix = w[size_t(m)];
  matrix.times(s.code[m] + size_t(t0) * size_t(matrix.k), s.scale[m] + t0, n, y);
}

}  // namespace lm
