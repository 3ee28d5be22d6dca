// embedding.h: where tokens become rows, and where rows become predictions of tokens.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "model/layers/bit_linear.h"
#include "model/layers/dense_linear.h"
#include "model/layers/row_operations.h"

namespace tern {

struct Embedding {
  uint32_t width = 0;
  std::vector<Act> rows;      // [vocabulary][width], or empty where the file has
  std::vector<int8_t> codes;  // [vocabulary][width]
  std::vector<Scale> scales;  // [vocabulary], of codes and of integers in rows: they become Acts when they are read

  void list(TensorPlan& plan, const std::string& name, uint32_t vocabulary, uint32_t cols) {
    width = cols;
    plan.embedding(name, vocabulary, cols, &rows, &codes, &scales);
  }
};

/// h [T][width]: the tokens' rows.
void embed(Workspace& w, Buffer<Act>& h, std::span<const Token> tokens, const Embedding& embedding);

/// The same of int8 rows, each with a scale, as a head that is tied to them has them.
void embed(Workspace& w, Buffer<Act>& h, std::span<const Token> tokens, const DenseLinear& table);

/// The logits that the batch wants, of h [T][width].  norm: before it, of these rows only and in place; or null.
void predict(Workspace& w, const Batch& batch, MatrixView<Act> h, const RmsNorm* norm, const BitLinear& head);

/// The same with an int8 matrix, which reads rows as codes of 11 bits, since the published ones do not round them at
/// all. width <= 2^14.  codes: room for them.
void predict(Workspace& w, const Batch& batch, MatrixView<Act> h, const RmsNorm& norm, const DenseLinear& head,
             Buffer<int16_t>& codes);

}  // namespace tern
