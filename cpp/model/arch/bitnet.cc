// bitnet.cc: BitNet b1.58, a ternary transformer: grouped-query attention and a gated MLP, each after a norm.
// SPDX-License-Identifier: MIT
//
// Source: microsoft/bitnet-b1.58-2B-4T as huggingface/transformers computes it; without sub-norms and with SiLU,
// Falcon-E. Different here: everything in integers, a text remembers keys and values as int8 codes, the head reads
// codes of 11 bits.
//
// Glossary: H hidden, I feed-forward width; N query heads, G key/value heads, W width of a head; T tokens of a tile.
//   h  [T][H] residual stream, Q16.16      q  [T][N W], k, v [T][G W], gate, up [T][I], o [T][N W], mlp [T][I]:
//   ScaledRows
#include "model/layers/attention.h"
#include "model/layers/embedding.h"
#include "model/network.h"

namespace tern {
namespace {

struct BitNetWorkspace : Workspace {
  Buffer<Act> h{*this}, mixed{*this};
  ScaledRows q{*this}, k{*this}, v{*this}, o{*this}, gate{*this}, up{*this}, mlp{*this};
  AttentionRoom room{*this};
  Buffer<int64_t> products{*this};  // of the MLP's gate
  Buffer<int16_t> codes{*this};     // of the head
};

struct BitNetBlock {
  std::string part;
  InputNorm attn_norm, attn_sub_norm, ffn_norm, ffn_sub_norm;
  TernaryLinear q, k, v, o;      // H -> N W, G W, G W; N W -> H
  TernaryLinear gate, up, down;  // H -> I, I; I -> H
  Attention attention;

  void run(BitNetWorkspace& w, uint32_t context, Activation activation) const {
    w.part(part);
    w.observe_input("in", w.h.view());
    quantize(w, w.h, attn_norm);
    ternary_linear(w, w.q, q);
    ternary_linear(w, w.k, k);
    ternary_linear(w, w.v, v);
    remember(w, w.room, w.k, w.v, attention);
    attend(w, w.room, w.o, w.q, attention, context);
    quantize(w, w.o, attn_sub_norm);
    ternary_linear(w, "mixed", w.mixed, o);
    add(w, "h1", w.h, w.mixed);

    quantize(w, w.h, ffn_norm);
    ternary_linear(w, w.gate, gate);
    ternary_linear(w, w.up, up);
    gated_product(w, w.mlp, w.gate, w.up, activation, w.products);
    quantize(w, w.mlp, ffn_sub_norm);
    ternary_linear(w, "down", w.mixed, down);
    add(w, "out", w.h, w.mixed);
  }
};

class BitNet : public Network {
 public:
  void read(Settings& settings, ModelInfo& info) override {
    blocks_.resize(settings.integer("block_count", 1, 256));
    hidden_ = settings.integer("embedding_length", 1, kMaxHidden);
    inner_ = settings.integer("feed_forward_length", 1, 65536);
    heads_ = settings.integer("head_count", 1, 1024);
    kv_heads_ = settings.integer("head_count_kv", 1, 1024);
    width_ = settings.integer("head_length", 4, kMaxHeadWidth);
    info.context = context_ = settings.integer("context_length", 2, 1 << 20);
    if (heads_ % kv_heads_ != 0) {
      settings.refuse("head_count_kv", "a divisor of head_count " + std::to_string(heads_), std::to_string(kv_heads_));
    }
    if (width_ % 4 != 0) settings.refuse("head_length", "a multiple of 4", std::to_string(width_));
    frequencies_ = settings.integers("rope_frequencies", width_ / 2, width_ / 2, 0, ~uint32_t{0});
    activation_ = settings.choice("activation", {"relu2", "silu"}) == 0 ? Activation::kSquaredRelu : Activation::kSilu;
    info.vocabulary.size = settings.vocabulary_size();
    epsilon_ = settings.real("norm_rms_epsilon");
    sub_norms_ = settings.has_tensor("_sub_norm.weight");
    tied_ = !settings.has_tensor("output.weight") && !settings.has_tensor("output.scale");
    settings.note("sub_norms", sub_norms_ ? "true" : "false");
    settings.note("tied", tied_ ? "true" : "false");
  }

  void list(TensorPlan& plan, const Vocabulary& vocabulary) override {
    embedding_.list(plan, "token_embd", vocabulary.size, hidden_, DenseLinear::Bias::kNone);
    const uint32_t queries = heads_ * width_, keys = kv_heads_ * width_;
    for (size_t n = 0; n < blocks_.size(); ++n) {
      BitNetBlock& block = blocks_[n];
      block.part = "blk." + std::to_string(n);
      const std::string blk = block.part + ".";
      block.attn_norm.list(plan, blk + "attn_norm.weight", hidden_, epsilon_);
      block.q.list(plan, blk + "attn_q.weight", queries, hidden_);
      block.k.list(plan, blk + "attn_k.weight", keys, hidden_);
      block.v.list(plan, blk + "attn_v.weight", keys, hidden_);
      block.attention = {heads_, kv_heads_, width_};
      block.attention.list(plan);
      sub_norm(block.attn_sub_norm, plan, blk + "attn_sub_norm.weight", queries);
      block.o.list(plan, blk + "attn_o.weight", hidden_, queries);
      block.ffn_norm.list(plan, blk + "ffn_norm.weight", hidden_, epsilon_);
      block.gate.list(plan, blk + "ffn_gate.weight", inner_, hidden_);
      block.up.list(plan, blk + "ffn_up.weight", inner_, hidden_);
      sub_norm(block.ffn_sub_norm, plan, blk + "ffn_sub_norm.weight", inner_);
      block.down.list(plan, blk + "ffn_down.weight", hidden_, inner_);
    }
    output_norm_.list(plan, "output_norm.weight", hidden_, epsilon_);
    if (!tied_) output_.list(plan, "output", vocabulary.size, hidden_, DenseLinear::Bias::kNone);
  }

  std::unique_ptr<Workspace> make_workspace() const override { return std::make_unique<BitNetWorkspace>(); }

  void forward(const Batch& batch, Workspace& workspace) const override {
    auto& w = static_cast<BitNetWorkspace&>(workspace);
    embed(w, w.h, batch.tokens, embedding_);
    find_turns(w, w.room, batch.tokens.size(), frequencies_);
    for (const BitNetBlock& block : blocks_) block.run(w, context_, activation_);
    predict(w, batch, w.h, output_norm_, tied_ ? embedding_ : output_, w.codes);
  }

 private:
  static constexpr uint32_t kMaxHidden = 1 << 14;  // see gated_product and dense_matvec

  void sub_norm(InputNorm& norm, TensorPlan& plan, const std::string& name, uint32_t cols) const {
    if (sub_norms_) return norm.list(plan, name, cols, epsilon_);
    norm.none(cols);
  }

  uint32_t hidden_ = 0, inner_ = 0, heads_ = 1, kv_heads_ = 1, width_ = 0, context_ = 0;
  std::vector<uint32_t> frequencies_;  // [W/2] in 2^-32 of a turn
  Activation activation_ = Activation::kSquaredRelu;
  bool sub_norms_ = false, tied_ = false;
  Scale epsilon_;

  DenseLinear embedding_, output_;
  std::vector<BitNetBlock> blocks_;
  RmsNorm output_norm_;
};

}  // namespace

std::unique_ptr<Network> make_bitnet() { return std::make_unique<BitNet>(); }

}  // namespace tern
