// state_space.h: a linear recurrence whose heads decide at each token how far their state moves on.
// SPDX-License-Identifier: MIT
//
// Source: Dao and Gu, "Transformers are SSMs", arXiv 2405.21060, with a state of one number per channel, as
// github.com/Zhayr1/bitmamba.cpp has it.
#pragma once

#include <string>
#include <vector>

#include "kernels/rows/rows.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

/// Of each of the G heads of E / G channels, t = softplus(dt + dt_bias): s = exp(-rate t) s + t B a and
/// y = (s C + skip a) silu(z).  |s| is at most the largest |B a| times the largest t plus 1 / rate: a sum of t
/// exp(-rate (later t's), which exceeds its integral, 1 / rate, by at most one term.  What Cell does not hold
/// saturates.
struct StateSpace {
  std::vector<Scale> rate;       // [G] how fast a head forgets
  std::vector<Act> dt_bias;      // [G]
  std::vector<NormWeight> skip;  // [E]
  size_t state = 0;              // where s is, [E] Cell

  void list(TensorPlan& plan, const std::string& blk, uint32_t heads, uint32_t width);
};

/// What a head does at a token with these numbers; t B keeps 31 bits.
StateSpaceHead state_space_head(Scale rate, Act dt, Act dt_bias, Act b, Act c);

/// y [T][E] of the gates z [T][E], the inputs a [T][E] and the heads' B, C and dt [T][3G].
void state_space(Workspace& w, const char* name, Buffer<Act>& y, MatrixView<const Act> z, MatrixView<const Act> a,
                 MatrixView<const Act> heads, const StateSpace& space);

}  // namespace tern
