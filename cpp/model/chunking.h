// Dynamic chunking: where a chunk begins, and how chunks become positions again; with the int8 layers around them.
// SPDX-License-Identifier: MIT
//
// Source: Hwang et al., "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling", arXiv 2507.07955.
// Different here: integers, so that a boundary is the same on every machine.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fixed/fixed.h"
#include "kernels/dense/dense.h"

namespace tern {

/// y = W . quantise(x) + bias: int8 activations per token, no norm, an int8 matrix with one scale per row.
struct DenseLinear {
  DenseMatrix weight;        // [rows][cols]
  std::vector<Scale> scale;  // [rows]
  std::vector<Act> bias;     // [rows], or empty: 0
};

/// codes [padded_cols(cols)] and code_scale: x, quantised.  acc, y [rows].
void dense_linear(const DenseLinear& layer, std::span<const int8_t> codes, Scale code_scale, std::span<int32_t> acc,
                  std::span<Act> y);

/// p = (1 - cos(q, k)) / 2 if a chunk begins where k is and q belongs to the position before, else nothing.
/// A chunk begins where the dot product of q and k is negative, which is decided exactly; so p >= 1/2.
/// Absolute error of p below 2^-29.  q.size() == k.size() < 2^17.
std::optional<Gate> boundary_probability(std::span<const Act> q, std::span<const Act> k);

/// What p is clamped to before it weighs a chunk; only the upper end can matter, since p >= 1/2.
inline constexpr Gate kMostProbable = Gate::from_real(1 - 1e-4);

/// z += p * (y - z): one chunk's step of the average over chunks; rounded once.
void blend_chunk(Gate p, std::span<const Act> y, std::span<State> z);

}  // namespace tern
