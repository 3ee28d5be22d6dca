// embedding.cc: the first and the last operation of a model.
// SPDX-License-Identifier: MIT
#include "model/layers/embedding.h"

#include "base/check.h"

namespace tern {

void embed(Workspace& w, Buffer<Act>& h, std::span<const Token> tokens, const Embedding& embedding) {
  const MatrixView<Act> out = h.shape(tokens.size(), embedding.width);
  if (!w.turn(out)) return;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const size_t first = size_t{tokens[t]} * out.cols;
    if (embedding.codes.empty()) {
      std::ranges::copy(std::span(embedding.rows).subspan(first, out.cols), out.row(t).begin());
      continue;
    }
    const Rescale scale(embedding.scales[tokens[t]], Act::kFractionBits);
    for (size_t c = 0; c < out.cols; ++c) out.row(t)[c].raw = scale(embedding.codes[first + c]);
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
