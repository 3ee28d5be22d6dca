// hgrnbit.cc: HGRN-bit, the MatMul-free language model: one stack of gated linear recurrence and gated MLP.
// SPDX-License-Identifier: MIT
//
// The block, its source and its differences: model/layers/hgrn_block.h.  Here bytes take the place of a tokenizer.
//
// Glossary: H hidden width; T tokens of a tile; h [T][H] residual stream, Q16.16.
#include "model/layers/embedding.h"
#include "model/layers/hgrn_block.h"
#include "model/network.h"

namespace tern {
namespace {

struct HgrnWorkspace : hgrn::Workspace {
  Buffer<Act> h{*this};
};

class HgrnBit : public Network {
 public:
  void read(Settings& settings, ModelInfo& info) override {
    layers_ = settings.integer("block_count", 1, hgrn::kMaxBlocks);
    block_.hidden = settings.integer("embedding_length", 1, hgrn::kMaxHidden);
    block_.recurrent = settings.integer("recurrent_length", 1, hgrn::kMaxInner);
    block_.feed_forward = settings.integer("feed_forward_length", 1, hgrn::kMaxInner);
    info.vocabulary.size = settings.vocabulary_size();
    block_.read_common(settings);
  }

  void list(TensorPlan& plan, const Vocabulary& vocabulary) override {
    embedding_.list(plan, "token_embd", vocabulary.size, block_.hidden);
    stack_.list(plan, "blk.", "blk.", layers_, block_);
    output_norm_.list(plan, "output_norm.weight", block_.hidden, block_.epsilon);
    output_.list(plan, "output", vocabulary.size, block_.hidden, block_.epsilon);
  }

  std::unique_ptr<Workspace> make_workspace() const override { return std::make_unique<HgrnWorkspace>(); }

  void forward(const Batch& batch, Workspace& workspace) const override {
    auto& w = static_cast<HgrnWorkspace&>(workspace);
    embed(w, w.h, batch.tokens, embedding_);
    stack_.run(w, w.h);
    predict(w, batch, w.h, &output_norm_, output_);
  }

 private:
  uint32_t layers_ = 0;
  hgrn::BlockConfig block_;

  Embedding embedding_;
  hgrn::Stack stack_;
  RmsNorm output_norm_;
  BitLinear output_;
};

}  // namespace

std::unique_ptr<Network> make_hgrnbit() { return std::make_unique<HgrnBit>(); }

}  // namespace tern
