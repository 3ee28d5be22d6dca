// The parts that architectures are built from: ternary linear layer, short convolution, gated recurrence, gated MLP.
// SPDX-License-Identifier: MIT
//
// Everything works on a tile of tokens, 1 <= T <= kTile, as [T][width] views; one token is a tile of one, so step()
// and prefill() are the same code.  Norms and quantisation: kernels/kernels.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/view.h"
#include "fixed/fixed.h"
#include "fixed/functions.h"
#include "kernels/kernels.h"

namespace tern {

inline constexpr size_t kTile = 16;  // most tokens of a tile
inline constexpr uint32_t kMaxTaps = 8;
inline constexpr int kTapBits = 12;

/// y = W . quantise(RMSNorm(x; norm)): its own norm, int8 activations per token, one scale for the ternary matrix.
struct BitLinear {
  PackedTernary weight;          // [rows][cols]
  std::vector<NormWeight> norm;  // [cols]
  Scale scale;                   // of weight
};

/// What bit_linear() needs between its steps, for the widest layer.
struct BitLinearScratch {
  std::span<int8_t> codes;  // [kTile][padded_cols(most cols)]
  std::span<int32_t> acc;   // [kTile][most rows]
};

/// RMS of each row, shared by all BitLinears that read x.
using TileRms = std::array<Scale, kTile>;
TileRms tile_rms(MatrixView<const Act> x, Scale epsilon);

/// x [T][cols] -> y [T][rows].
void bit_linear(const BitLinear& layer, MatrixView<const Act> x, const TileRms& rms, const BitLinearScratch& scratch,
                MatrixView<Act> y);

/// RMSNorm of each row; y may be x.
void rms_norm(MatrixView<const Act> x, std::span<const NormWeight> w, Scale epsilon, MatrixView<Act> y);

/// h += x.
void add_to(MatrixView<Act> h, MatrixView<const Act> x);

/// y = silu(gate) * x; y may be gate or x.
void silu_product(MatrixView<const Act> gate, MatrixView<const Act> x, Sigmoid kind, MatrixView<Act> y);

/// Causal depthwise convolution followed by silu: y[t][c] = silu(sum over k of taps[k][c] * window[t + k][c]).
///   taps    [K][width], oldest first; K <= kMaxTaps, |tap| < 2^kTapBits, so that the sum is exact
///   window  [K - 1 + T][width]: the K - 1 inputs before the tile, then the tile's
void short_convolution(std::span<const NormWeight> taps, MatrixView<const Act> window, Sigmoid kind, MatrixView<Act> y);

/// s += k * (silu(i) - s) with k = keep * sigmoid(-z), token after token; k is 1 - forget gate, computed directly so
/// that a small one keeps its digits.
///   keep    [width] 1 - lower bound of the forget gate, or empty: 1
///   s       [width] the state, updated
///   states  [T][width]: receives s after each token
void gated_recurrence(MatrixView<const Act> i, MatrixView<const Act> z, std::span<const Gate> keep, Sigmoid kind,
                      std::span<State> s, MatrixView<State> states);

/// y = silu(gate) * up, from rows [gate | up] of twice y's width.
void gated_product(MatrixView<const Act> gate_up, Sigmoid kind, MatrixView<Act> y);

}  // namespace tern
