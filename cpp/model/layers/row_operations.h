// row_operations.h: what happens to rows of numbers between two products: norms, sums, gated products.
// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <vector>

#include "fixed/functions.h"
#include "model/layers/ternary_linear.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

/// y = x / sqrt(mean(x^2) + epsilon) * weight
struct RmsNorm {
  std::vector<NormWeight> weight;  // [cols]
  Scale epsilon;

  void list(TensorPlan& plan, const std::string& name, uint32_t cols, Scale eps) {
    epsilon = eps;
    plan.vector(name, cols, &weight);
  }
};

/// Every operation is called `name` where it is watched.  x [T][cols].
void rms_norm(Workspace& w, const char* name, Buffer<Act>& y, MatrixView<const Act> x, const RmsNorm& norm);
/// In place.
void rms_norm(Workspace& w, const char* name, MatrixView<Act> x, const RmsNorm& norm);

/// h += x.
void add(Workspace& w, const char* name, MatrixView<Act> h, MatrixView<const Act> x);

/// y = silu(gate) * up, from rows [gate | up] of twice y's width.
void gated_product(Workspace& w, const char* name, Buffer<Act>& y, MatrixView<const Act> gate_up, Sigmoid kind);

enum class Activation { kSquaredRelu, kSilu };

/// y = activation(gate) * up, whatever their size: the largest of a row keeps 31 bits.  |integers| of gate and up <=
/// 127 * 2^14, so the product of three is below 2^63.
void gated_product(Workspace& w, ScaledRows& y, const ScaledRows& gate, const ScaledRows& up, Activation activation,
                   Buffer<int64_t>& products);

enum class GateNorm { kGate, kState };  // which operand of the output gate is normed; the other goes through silu

struct OutputGate {
  RmsNorm norm;
  GateNorm order = GateNorm::kGate;
  Sigmoid kind = Sigmoid::kTable;
};

/// o = RMSNorm(one) * silu(other), of the gate g and the state s.  The state is normed in its own, finer format:
/// RMSNorm(16 s) with 256 epsilon.  g may be changed.
void output_gate(Workspace& w, const char* name, Buffer<Act>& o, MatrixView<Act> g, MatrixView<const Cell> s,
                 const OutputGate& gate);

}  // namespace tern
