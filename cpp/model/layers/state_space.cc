// state_space.cc: heads are computed here, their channels in kernels/rows.
// SPDX-License-Identifier: MIT
#include "model/layers/state_space.h"

#include "base/check.h"
#include "fixed/functions.h"

namespace tern {

void StateSpace::list(TensorPlan& plan, const std::string& blk, uint32_t heads, uint32_t width) {
  plan.rates(blk + "ssm_rate", heads, &rate);
  plan.vector(blk + "ssm_dt.bias", heads, &dt_bias);
  plan.vector(blk + "ssm_skip", width, &skip);
  state = plan.state(width);
}

StateSpaceHead state_space_head(Scale rate, Act dt, Act dt_bias, Act b, Act c) {
  const Step t = softplus(add(dt, dt_bias));
  const uint64_t gain = static_cast<uint64_t>(t.raw) * static_cast<uint64_t>(b.raw < 0 ? -int64_t{b.raw} : b.raw);
  Rescale input(Scale::from_integer(gain, -Step::kFractionBits - Act::kFractionBits),
                Cell::kFractionBits - Act::kFractionBits);
  if (b.raw < 0) input.mantissa = -input.mantissa;
  return {exp_negative({Rescale(rate, 0)(t.raw)}), input, c};
}

void state_space(Workspace& w, const char* name, Buffer<Act>& y, MatrixView<const Act> z, MatrixView<const Act> a,
                 MatrixView<const Act> heads, const StateSpace& space) {
  const MatrixView<Act> out = y.shape(a.rows, a.cols);
  if (!w.turn(a)) return;
  const size_t count = space.rate.size(), width = a.cols / count;
  for (size_t t = 0; t < a.rows; ++t) {
    const std::span<Cell> s = w.texts[t].numbers<Cell>(space.state, a.cols);
    const std::span<const Act> b = heads.row(t), c = b.subspan(count), dt = c.subspan(count);
    for (size_t g = 0; g < count; ++g) {
      const auto of_head = [&](auto row) { return row.subspan(g * width, width); };
      const StateSpaceHead head = state_space_head(space.rate[g], dt[g], space.dt_bias[g], b[g], c[g]);
      rows::state_space(of_head(a.row(t)), of_head(z.row(t)), of_head(std::span(space.skip)), head, of_head(s),
                        of_head(out.row(t)));
    }
    w.observe_row("state", t, s);
  }
  w.observe(name, out);
}

}  // namespace tern
