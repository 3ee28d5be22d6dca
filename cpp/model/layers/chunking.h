// chunking.h: dynamic chunking: where a chunk begins, and how chunks become positions again.
// SPDX-License-Identifier: MIT
//
// Source: Hwang et al., "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling", arXiv 2507.07955.
// Different here: integers, so that a boundary is the same on every machine.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <vector>

#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

inline constexpr uint32_t kMaxStages = 8;  // one bit each in a token's mask

/// What a stage remembers: whether a text has begun, q of its last row, the average over chunks.
struct ChunkMemory {
  uint32_t router = 0, width = 0;
  size_t started = 0, q = 0, z = 0;  // where in the state: [1], [router] Act, [width] Cell

  void list(TensorPlan& plan, uint32_t router_, uint32_t width_) {
    router = router_;
    width = width_;
    started = plan.state(1);
    q = plan.state(router);
    z = plan.state(width);
  }
};

/// The rows of a level, and whose they are.  Level 0 has one row for each token, the others one for each chunk.
struct ChunkLevel {
  explicit ChunkLevel(Workspace& w) : x(w), q(w), k(w), residual(w), p(w) {}

  Buffer<Act> x, q, k, residual;
  Buffer<Gate> p;  // [T][1] probability that a chunk begins with the row; 0: none does
  size_t rows = 0;
  std::array<uint8_t, kTile> tokens{};
  std::array<State*, kTile> states{};

  Texts texts(bool one_text) const {
    return {std::span(states).first(one_text ? 1 : rows), std::span(tokens).first(rows)};
  }
};

/// p of each row, from q of the row before and k of its own; a text begins with a chunk.
void find_chunks(Workspace& w, const char* name, ChunkLevel& level, const ChunkMemory& memory);

/// The rows that begin a chunk of stage `stage` become the rows of the level below, widened by the pad to `width`.
void chunk(Workspace& w, const ChunkLevel& level, uint32_t stage, ChunkLevel& below, uint32_t width,
           std::span<const Act> pad);

/// x = z + residual, where z takes in a chunk's row where the chunk begins, and stays until the next one.
void dechunk(Workspace& w, ChunkLevel& level, const ChunkLevel& below, const ChunkMemory& memory);

/// p = (1 - cos(q, k)) / 2 if a chunk begins where k is and q belongs to the position before, else nothing.
/// A chunk begins where the dot product of q and k is negative, which is decided exactly; so p >= 1/2.
/// Absolute error of p below 2^-29.  q.size() == k.size() < 2^17.
std::optional<Gate> boundary_probability(std::span<const Act> q, std::span<const Act> k);

/// z += p * (y - z): one chunk's step of the average over chunks; rounded once.
void blend_chunk(Gate p, std::span<const Act> y, std::span<Cell> z);

}  // namespace tern
