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
    if (embedding.scales.empty()) {
      std::ranges::copy(std::span(embedding.rows).subspan(first, out.cols), out.row(t).begin());
      continue;
    }
    const Rescale scale(embedding.scales[tokens[t]], Act::kFractionBits);
    const bool short_codes = embedding.rows.empty();
    for (size_t c = first; c < first + out.cols; ++c) {
      out.row(t)[c - first].raw = scale(short_codes ? embedding.codes[c] : embedding.rows[c].raw);
    }
  }
}

void embed(Workspace& w, Buffer<Act>& h, std::span<const Token> tokens, const DenseLinear& table) {
  const MatrixView<Act> out = h.shape(tokens.size(), table.cols);
  if (!w.turn(out)) return;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const Rescale scale(table.scale[tokens[t]], Act::kFractionBits);
    const int8_t* codes = table.weight.view().codes + size_t{tokens[t]} * padded_cols(table.cols);
    for (size_t c = 0; c < out.cols; ++c) out.row(t)[c].raw = scale(codes[c]);
  }
}

namespace {

/// Calls head(rows, logits) for the rows that the batch wants, as if they were all there are.
template <class Head>
void for_wanted(Workspace& w, const Batch& batch, MatrixView<Act> h, size_t vocabulary, const Head& head) {
  w.part("head");
  const size_t wanted = batch.wanted();
  if (wanted == 0) return;
  const Texts all = w.texts;
  w.texts = all.last(wanted);
  head(h.slice(h.rows - wanted, wanted), {reinterpret_cast<Act*>(batch.logits.data()), wanted, vocabulary});
  w.texts = all;
}

}  // namespace

void predict(Workspace& w, const Batch& batch, MatrixView<Act> h, const RmsNorm* norm, const BitLinear& head) {
  for_wanted(w, batch, h, head.rows, [&](MatrixView<Act> last, MatrixView<Act> logits) {
    if (norm != nullptr) rms_norm(w, "norm", last, *norm);
    bit_linear(w, "logits", logits, last, head);
  });
}

void predict(Workspace& w, const Batch& batch, MatrixView<Act> h, const RmsNorm& norm, const DenseLinear& head,
             Buffer<int16_t>& codes) {
  for_wanted(w, batch, h, head.rows, [&](MatrixView<Act> last, MatrixView<Act> logits) {
    rms_norm(w, "norm", last, norm);
    dense_linear(w, "logits", logits, last, head, codes);
  });
}

}  // namespace tern
