// ternary_linear.h: ternary matrices that share the codes of one row, and rows of integers that no format has to hold.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

/// Rows [T][cols] of integers, each row with a scale: number = integer * scale.  So neither small nor large numbers
/// lose digits.
struct ScaledRows {
  explicit ScaledRows(Workspace& w) : integers(w) {}
  Buffer<int32_t> integers;
  std::array<Scale, kTile> scales{};
};

/// What rows go through before they become codes: an RMSNorm, or nothing.
struct InputNorm {
  std::vector<NormWeight> weight;  // [cols], with
  int fraction_bits = NormWeight::kFractionBits;
  bool is_norm = true;  // else ones, and rows as they are
  Scale epsilon;

  void list(TensorPlan& plan, const std::string& name, uint32_t cols, Scale eps) {
    epsilon = eps;
    plan.norm(name, cols, &weight, &fraction_bits);
  }
  void none(uint32_t cols) {
    is_norm = false;
    weight.assign(cols, NormWeight{1 << NormWeight::kFractionBits});
  }
};

/// int8 codes of the rows, in w.codes, w.scales and w.code_sums: what the products that come next read.
void quantize(Workspace& w, MatrixView<const Act> x, const InputNorm& norm);
void quantize(Workspace& w, const ScaledRows& x, const InputNorm& norm);

/// A matrix and its scale.
struct TernaryLinear {
  uint32_t rows = 0, cols = 0;
  PackedTernary weight;  // [rows][cols]
  Scale scale;

  void list(TensorPlan& plan, const std::string& name, uint32_t rows_, uint32_t cols_) {
    rows = rows_;
    cols = cols_;
    plan.ternary(name, rows, cols, &weight, &scale);
  }
};

/// Of the rows that were quantised last: y [T][rows], |integers| <= 127 cols.
void ternary_linear(Workspace& w, ScaledRows& y, const TernaryLinear& layer);
/// The same as Acts.
void ternary_linear(Workspace& w, const char* name, Buffer<Act>& y, const TernaryLinear& layer);

// ---- In pieces ------------------------------------------------------------------------------------------------------

inline constexpr uint32_t kRowsTogether = 64;  // a multiple of what the kernels pack together

inline uint32_t rows_of_piece(uint32_t rows, uint64_t macs_of_row, uint64_t macs) {
  const uint64_t fit = macs / macs_of_row / kRowsTogether * kRowsTogether;
  return static_cast<uint32_t>(std::clamp<uint64_t>(fit, kRowsTogether, std::max(rows, kRowsTogether)));
}

/// The products of w.codes [T][padded cols] with a matrix [rows][cols], a piece of rows after the other, so that a
/// large one can stop between two: take(first row, sums [T][count]).
template <class Take>
void products(Workspace& w, size_t T, uint32_t rows, uint32_t cols, const PackedTernary& weight, const Take& take) {
  const MatrixView<const int8_t> codes = w.codes;
  const uint32_t piece = rows_of_piece(rows, uint64_t{cols} * T, w.piece());
  const MatrixView<int32_t> room = w.sums.shape(T, std::min(piece, rows));
  for (uint32_t first = 0; first < rows; first += piece) {
    const uint32_t count = std::min(piece, rows - first);
    if (!w.turn(uint64_t{cols} * T * count)) continue;
    // Four weights are a byte.
    const TernaryView part{weight.view().tiles + size_t{first} * padded_cols(cols) / 4, count, cols};
    const MatrixView<int32_t> sums(room.data, T, count);
    if (T == 1) {
      ternary_matvec(part, codes.row(0), w.code_sums[0], sums.row(0));
    } else {
      ternary_matmul(part, codes, std::span(w.code_sums).first(T), sums);
    }
    take(first, sums);
  }
}

}  // namespace tern
