// toy.cc: a gated linear recurrence that also looks back to the middle of its text, for the tests: a model with a
// context. SPDX-License-Identifier: MIT
//
// Glossary: H width; T tokens of a tile; h [T][H] residual stream, a [T][H] normed, i and z [T][H] input and forget
// gate; s [T][H] recurrent state; m [T][H] what is remembered of a position, added to what was at half of it.
#include "kernels/rows/rows.h"
#include "model/layers/embedding.h"
#include "model/layers/recurrence.h"
#include "model/network.h"

namespace tern {
namespace {

struct ToyWorkspace : Workspace {
  Buffer<Act> h{*this}, a{*this}, i{*this}, z{*this}, m{*this}, out{*this};
  Buffer<Cell> s{*this};
};

struct ToyBlock {
  std::string part;
  RmsNorm norm;
  BitLinear in, forget, out;  // H -> H
  Recurrence recurrence;
  size_t memory = 0;  // where m is in the words of a position, [H] Act
};

/// y = m + m at half the position, rounded down; m is s as Act, and kept for the rest of the text.
void look_back(ToyWorkspace& w, const char* name, Buffer<Act>& y, MatrixView<const Cell> s, size_t memory) {
  const MatrixView<Act> out = y.shape(s.rows, s.cols);
  if (!w.turn(s)) return;
  for (size_t t = 0; t < s.rows; ++t) {
    const uint64_t here = w.position(t);
    const auto kept_at = [&](uint64_t position) { return w.texts[t].at(position).subspan(memory, s.cols); };
    for (size_t c = 0; c < s.cols; ++c) {
      out.row(t)[c].raw = round_shift_32(s.row(t)[c].raw, Cell::kFractionBits - Act::kFractionBits);
      kept_at(here)[c] = out.row(t)[c].raw;
    }
    for (size_t c = 0; c < s.cols; ++c) out.row(t)[c] = add(out.row(t)[c], Act{kept_at(here / 2)[c]});
  }
  w.observe(name, out);
}

class Toy : public Network {
 public:
  void read(Settings& settings, ModelInfo& info) override {
    blocks_.resize(settings.integer("block_count", 1, 256));
    width_ = settings.integer("embedding_length", 1, 16384);
    info.context = settings.integer("context_length", 2, ~uint32_t{0});
    info.vocabulary.size = settings.vocabulary_size();
    epsilon_ = settings.real("norm_rms_epsilon");
  }

  void list(TensorPlan& plan, const Vocabulary& vocabulary) override {
    embedding_.list(plan, "token_embd", vocabulary.size, width_);
    for (size_t n = 0; n < blocks_.size(); ++n) {
      ToyBlock& block = blocks_[n];
      block.part = "blk." + std::to_string(n);
      block.norm.list(plan, block.part + ".norm.weight", width_, epsilon_);
      block.in.list(plan, block.part + ".in", width_, width_, epsilon_);
      block.forget.list(plan, block.part + ".forget", width_, width_, epsilon_);
      block.recurrence.list(plan, "", false, width_, Sigmoid::kTable);
      block.memory = plan.state_per_position(width_);
      block.out.list(plan, block.part + ".out", width_, width_, epsilon_);
    }
    output_norm_.list(plan, "output_norm.weight", width_, epsilon_);
    output_.list(plan, "output", vocabulary.size, width_, epsilon_);
  }

  std::unique_ptr<Workspace> make_workspace() const override { return std::make_unique<ToyWorkspace>(); }

  void forward(const Batch& batch, Workspace& workspace) const override {
    auto& w = static_cast<ToyWorkspace&>(workspace);
    embed(w, w.h, batch.tokens, embedding_);
    for (const ToyBlock& block : blocks_) {
      w.part(block.part);
      rms_norm(w, "norm", w.a, w.h, block.norm);
      bit_linear(w, w.a, {{"in", block.in, w.i}, {"forget", block.forget, w.z}});
      gated_recurrence(w, "state", w.s, w.i, w.z, block.recurrence);
      look_back(w, "look_back", w.m, w.s, block.memory);
      bit_linear(w, w.m, {{"mixed", block.out, w.out}});
      add(w, "out", w.h, w.out);
    }
    predict(w, batch, w.h, &output_norm_, output_);
  }

 private:
  uint32_t width_ = 0;
  Scale epsilon_;

  Embedding embedding_;
  std::vector<ToyBlock> blocks_;
  RmsNorm output_norm_;
  BitLinear output_;
};

}  // namespace

std::unique_ptr<Network> make_toy() { return std::make_unique<Toy>(); }

}  // namespace tern
