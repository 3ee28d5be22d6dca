// embedding.cc: the first and the last operation of a model.
// SPDX-License-Identifier: MIT
#include "model/layers/embedding.h"

#include "base/check.h"

namespace tern {

void embed(Workspace& w, Buffer<Act>& h, std::span<const Token> tokens, const Embedding& embedding) {
  const MatrixView<Act> out = h.shape(tokens.size(), embedding.width);
  if (!w.turn(out)) return;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto row = std::span(embedding.rows).subspan(size_t{tokens[t]} * out.cols, out.cols);
    std::ranges::copy(row, out.row(t).begin());
  }
}

void predict(Workspace& w, const Batch& batch, MatrixView<Act> h, const RmsNorm* norm, const BitLinear& head) {
  w.part("head");
  const size_t wanted = batch.wanted();
  if (wanted == 0) return;
  const Texts all = w.texts;
  w.texts = all.last(wanted);
  const MatrixView<Act> last = h.slice(h.rows - wanted, wanted);
  if (norm != nullptr) rms_norm(w, "norm", last, *norm);
  bit_linear(w, "logits", {reinterpret_cast<Act*>(batch.logits.data()), wanted, head.rows}, last, head);
  w.texts = all;
}

}  // namespace tern
