// chunking.cc: the router's decision, and the two ways between levels.
// SPDX-License-Identifier: MIT
#include "model/layers/chunking.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace tern {
namespace {

/// What p is clamped to before it weighs a chunk; only the upper end can matter, since p >= 1/2.
constexpr Gate kMostProbable = Gate::from_real(1 - 1e-4);

/// high * 2^32 + low: sums of products of 32-bit numbers, exact for any vector.
struct Wide {
  int64_t high = 0;
  uint32_t low = 0;

  bool negative() const { return high < 0; }

  /// |this|, without the bits below the highest 64.
  Scale magnitude() const {
    const uint32_t carry = low == 0 ? 1 : 0;
    const uint64_t top = negative() ? ~static_cast<uint64_t>(high) + carry : static_cast<uint64_t>(high);
    const uint32_t bottom = negative() ? 0u - low : low;
    const int dropped = std::max(0, 32 - std::countl_zero(top));
    if (dropped == 0) return Scale::from_integer(top << 32 | bottom);
    return Scale::from_integer(top << (32 - dropped) | bottom >> dropped, dropped);
  }
};

Wide dot(std::span<const Act> a, std::span<const Act> b) {
  TERN_CHECK(a.size() == b.size() && a.size() < (size_t{1} << 17));
  int64_t high = 0;
  uint64_t low = 0;
  for (size_t c = 0; c < a.size(); ++c) {
    const int64_t product = int64_t{a[c].raw} * b[c].raw;
    high += product >> 32;
    low += static_cast<uint32_t>(product);
  }
  return {high + static_cast<int64_t>(low >> 32), static_cast<uint32_t>(low)};
}

}  // namespace

void blend_chunk(Gate p, std::span<const Act> y, std::span<Cell> z) {
  constexpr int kFiner = Cell::kFractionBits - Act::kFractionBits;
  TERN_CHECK(y.size() == z.size());
  for (size_t c = 0; c < z.size(); ++c) {
    const int64_t target = saturate<int32_t>(int64_t{y[c].raw} * (1 << kFiner));
    // |target - z| < 2^32 and p <= 2^31: with the half added the product stays below 2^63.
    z[c].raw = saturate<int32_t>(z[c].raw + round_shift(int64_t{p.raw} * (target - z[c].raw), Gate::kFractionBits));
  }
}

std::optional<Gate> boundary_probability(std::span<const Act> q, std::span<const Act> k) {
  const Wide product = dot(q, k);
  if (!product.negative()) return std::nullopt;
  const Scale lengths = (dot(q, q).magnitude() * dot(k, k).magnitude()).sqrt();  // not 0, since the product is not
  constexpr int64_t kHalf = int64_t{1} << (Gate::kFractionBits - 1);
  const int64_t cosine = std::min((product.magnitude() / lengths).to_fixed(Gate::kFractionBits - 1), kHalf);
  return Gate{static_cast<uint32_t>(kHalf + cosine)};
}

void find_chunks(Workspace& w, const char* name, ChunkLevel& level, const ChunkMemory& memory) {
  const MatrixView<const Act> q = level.q, k = level.k;
  const MatrixView<Gate> p = level.p.shape(q.rows, 1);
  if (!w.turn(q)) return;
  for (size_t t = 0; t < q.rows; ++t) {
    State& state = w.texts[t];
    const std::span<Act> before = state.numbers<Act>(memory.q, memory.router);
    int32_t& started = state.fixed()[memory.started];
    p.row(t)[0] = std::min(boundary_probability(before, k.row(t)).value_or(Gate{}), kMostProbable);
    if (started == 0) p.row(t)[0] = kMostProbable;
    started = 1;
    std::ranges::copy(q.row(t), before.begin());
  }
  w.observe(name, p);
}

void chunk(Workspace& w, const ChunkLevel& level, uint32_t stage, ChunkLevel& below, uint32_t width,
           std::span<const Act> pad) {
  const MatrixView<const Act> x = level.x;
  if (w.is_fresh()) below.rows = x.rows;  // as many as there can be, until it is known
  if (const auto out = below.x.shape(x.rows, width); w.turn(out)) {
    below.rows = 0;
    for (size_t t = 0; t < x.rows; ++t) {
      if (level.p.view().row(t)[0] == Gate{}) continue;
      const std::span<Act> row = out.row(below.rows);
      std::ranges::copy(x.row(t), row.begin());
      std::ranges::copy(pad, row.begin() + static_cast<std::ptrdiff_t>(x.cols));
      below.tokens[below.rows] = level.tokens[t];
      below.states[below.rows] = &w.texts[t];
      ++below.rows;
      w.begin_chunk(t, stage);
    }
  }
  below.x.shape(below.rows, width);
}

void dechunk(Workspace& w, ChunkLevel& level, const ChunkLevel& below, const ChunkMemory& memory) {
  constexpr int kFiner = Cell::kFractionBits - Act::kFractionBits;
  const MatrixView<Act> x = level.x;
  if (!w.turn(x)) return;
  size_t next = 0;
  for (size_t t = 0; t < x.rows; ++t) {
    const Gate p = level.p.view().row(t)[0];
    const std::span<Cell> z = w.texts[t].numbers<Cell>(memory.z, memory.width);
    if (p != Gate{}) blend_chunk(p, below.x.view().row(next++).first(x.cols), z);
    const std::span<Act> out = x.row(t);
    const std::span<const Act> rest = level.residual.view().row(t);
    for (size_t c = 0; c < x.cols; ++c) {
      out[c] = add({static_cast<int32_t>(round_shift(z[c].raw, kFiner))}, rest[c]);
    }
    w.observe_row("z", t, z);
  }
  w.observe("h", x);
}

}  // namespace tern
