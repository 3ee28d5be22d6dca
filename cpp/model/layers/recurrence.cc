// recurrence.cc: a tile's rows are one text's, or one row of each text; the loops are those of kernels/rows/rows.h.
// SPDX-License-Identifier: MIT
#include "model/layers/recurrence.h"

#include "base/check.h"
#include "kernels/rows/rows.h"

namespace tern {

void ShortConvolution::list(TensorPlan& plan, const std::string& name, uint32_t kernel, uint32_t width,
                            Sigmoid sigmoid) {
  kind = sigmoid;
  if (kernel == 0) return;
  before = kernel - 1;
  plan.taps(name, kernel, width, &taps);
  state = plan.state(size_t{before} * width);
}

void short_convolution(Workspace& w, const char* name, MatrixView<Act> x, const ShortConvolution& conv) {
  if (conv.before == 0) return;
  const size_t run = w.texts.run(), width = x.cols, remembered = conv.before * width;
  const MatrixView<Act> window = w.window.shape(conv.before + run, width);
  if (!w.turn(x)) return;
  for (size_t first = 0; first < x.rows; first += run) {
    const std::span<Act> memory = w.texts[first].numbers<Act>(conv.state, remembered);
    std::ranges::copy(memory, window.data);
    for (size_t t = 0; t < run; ++t) std::ranges::copy(x.row(first + t), window.row(conv.before + t).begin());
    for (size_t t = 0; t < run; ++t) {
      rows::convolution(conv.taps, conv.bias, window.row(t).data(), width, conv.kind, x.row(first + t));
    }
    std::copy_n(window.row(run).data(), remembered, memory.data());
  }
  w.observe(name, x);
}

void Recurrence::list(TensorPlan& plan, const std::string& lower_bound, bool has_bound, uint32_t width,
                      Sigmoid sigmoid) {
  kind = sigmoid;
  if (has_bound) plan.lower_bound(lower_bound, width, &keep);
  state = plan.state(width);
}

void gated_recurrence(Workspace& w, const char* name, Buffer<Cell>& after, MatrixView<const Act> i,
                      MatrixView<const Act> z, const Recurrence& recurrence) {
  const MatrixView<Cell> out = after.shape(i.rows, i.cols);
  if (!w.turn(i)) return;
  for (size_t t = 0; t < i.rows; ++t) {
    const std::span<Cell> s = w.texts[t].numbers<Cell>(recurrence.state, i.cols);
    rows::recurrence(i.row(t), z.row(t), recurrence.keep, recurrence.kind, s, out.row(t));
  }
  w.observe(name, out);
}

}  // namespace tern
