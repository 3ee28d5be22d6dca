// bitmamba2.cc: BitMamba-2, a stack of state space blocks without norms between them and without MLPs.
// SPDX-License-Identifier: MIT
//
// Source: the published checkpoints and their engine (github.com/Zhayr1/bitmamba.cpp).  Different here: everything in
// integers, and the largest activation is not made larger by 1e-5 before it is divided by.
//
// Glossary: H hidden width, E inner width, G heads, K convolution taps; T tokens of a tile.
//   h [T][H] residual stream      u [T][2E + 3G] what a block reads: z, x, B, C, dt      y [T][E] what it gives back
#include "model/layers/embedding.h"
#include "model/layers/recurrence.h"
#include "model/layers/state_space.h"
#include "model/network.h"

namespace tern {
namespace {

struct MambaWorkspace : Workspace {
  Buffer<Act> h{*this}, u{*this}, y{*this}, out{*this};
};

struct MambaBlock {
  std::string part;
  BitLinear in;  // H -> 2E + 3G
  ShortConvolution conv;
  StateSpace space;
  BitLinear out;  // E -> H

  void run(MambaWorkspace& w) const {
    const size_t inner = out.cols;
    w.part(part);
    w.observe_input("in", w.h.view());
    bit_linear(w, w.h, {{"u", in, w.u}});
    const MatrixView<Act> u = w.u, z = u.columns(0, inner), x = u.columns(inner, inner);
    short_convolution(w, "conv", x, conv);
    state_space(w, "y", w.y, z, x, u.columns(2 * inner, u.cols - 2 * inner), space);
    bit_linear(w, w.y, {{"mixed", out, w.out}});
    add(w, "out", w.h, w.out);
  }
};

class BitMamba2 : public Network {
 public:
  void read(Settings& settings, ModelInfo& info) override {
    blocks_.resize(settings.integer("block_count", 1, 256));
    hidden_ = settings.integer("embedding_length", 1, 16384);
    inner_ = settings.integer("inner_length", 1, 65536);
    heads_ = settings.integer("head_count", 1, 65536);
    if (inner_ % heads_ != 0) {
      settings.refuse("head_count", "a divisor of inner_length " + std::to_string(inner_), std::to_string(heads_));
    }
    info.vocabulary.size = settings.vocabulary_size();
    epsilon_ = settings.real("norm_rms_epsilon");
    conv_kernel_ = settings.integer("conv_kernel", 2, kMaxTaps);
  }

  void list(TensorPlan& plan, const Vocabulary& vocabulary) override {
    embedding_.list(plan, "token_embd", vocabulary.size, hidden_);
    for (size_t n = 0; n < blocks_.size(); ++n) {
      MambaBlock& block = blocks_[n];
      block.part = "blk." + std::to_string(n);
      const std::string blk = block.part + ".";
      block.in.list(plan, blk + "ssm_in", 2 * inner_ + 3 * heads_, hidden_, epsilon_);
      block.conv.list(plan, blk + "conv.weight", conv_kernel_, inner_, Sigmoid::kTable);
      plan.vector(blk + "conv.bias", inner_, &block.conv.bias);
      block.space.list(plan, blk, heads_, inner_);
      block.out.list(plan, blk + "ssm_out", hidden_, inner_, epsilon_);
    }
    output_norm_.list(plan, "output_norm.weight", hidden_, epsilon_);
    output_.list(plan, "output", vocabulary.size, hidden_, epsilon_);
  }

  std::unique_ptr<Workspace> make_workspace() const override { return std::make_unique<MambaWorkspace>(); }

  void forward(const Batch& batch, Workspace& workspace) const override {
    auto& w = static_cast<MambaWorkspace&>(workspace);
    embed(w, w.h, batch.tokens, embedding_);
    for (const MambaBlock& block : blocks_) block.run(w);
    predict(w, batch, w.h, &output_norm_, output_);
  }

 private:
  uint32_t hidden_ = 0, inner_ = 0, heads_ = 1, conv_kernel_ = 0;
  Scale epsilon_;

  Embedding embedding_;
  std::vector<MambaBlock> blocks_;
  RmsNorm output_norm_;
  BitLinear output_;
};

}  // namespace

std::unique_ptr<Network> make_bitmamba2() { return std::make_unique<BitMamba2>(); }

}  // namespace tern
