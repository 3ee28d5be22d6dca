// hnetbit.cc: HNet-bit, the hierarchical language model: stages of HGRN-bit blocks around an inner network that runs
// once per chunk. SPDX-License-Identifier: MIT
//
// Source: Hwang et al., "Dynamic Chunking for End-to-End Hierarchical Sequence Modeling", arXiv 2507.07955, with the
// blocks of model/layers/hgrn_block.h in place of attention and Mamba-2.  Different here: int8 matrices around the
// router, the router may be narrower than its stage, and everything in integers.
//
// Levels 0 .. S - 1 are stages; level S is the innermost stack.  Each level sees one row per chunk of the level before;
// level 0 sees one row per token.
//
// Glossary: S stages; d width of a level, not decreasing; R router width; T rows of a tile.
//   x  [T][d] a level's rows, Q16.16: what comes in, then e behind the encoder, then what goes out
//   q, k  [T][R] router      p  [T] probability of a chunk's begin, 0 = none      z  [d] average over chunks, Q12.20
#include <algorithm>
#include <numeric>

#include "model/layers/chunking.h"
#include "model/layers/dense_linear.h"
#include "model/layers/embedding.h"
#include "model/layers/hgrn_block.h"
#include "model/network.h"

namespace tern {
namespace {

struct HnetWorkspace : hgrn::Workspace {
  std::vector<ChunkLevel> levels;
};

struct Stage {
  std::string name;
  hgrn::BlockConfig block;  // of encoder and decoder
  uint32_t encoder_blocks = 0, decoder_blocks = 0, router = 0;

  hgrn::Stack encoder, decoder;
  RmsNorm encoder_norm, decoder_norm;
  DenseLinear router_q, router_k, residual;  // d -> R, R, d
  std::vector<Act> pad;                      // [d of the next level - d]
  std::vector<NormWeight> ones;              // [d]
  ChunkMemory memory;
};

std::string stage_prefix(size_t stage) { return "stage." + std::to_string(stage) + "."; }

/// What no single setting can tell: whether the stages fit together.
void check_stages(Settings& settings, const std::vector<uint32_t>& widths, const std::vector<uint32_t>& routers) {
  for (size_t s = 0; s + 1 < widths.size(); ++s) {
    const std::string stage = stage_prefix(s);
    const std::string below = s + 2 < widths.size() ? stage_prefix(s + 1) + "enc_norm.weight" : "main_norm.weight";
    if (widths[s + 1] < widths[s]) {
      settings.refuse("embedding_length",
                      "widths that do not decrease, since tensor \"" + stage + "pad\" can only widen the rows of \"" +
                          stage + "enc_norm.weight\" to those of \"" + below + "\"",
                      std::to_string(widths[s]) + " before " + std::to_string(widths[s + 1]));
    }
    if (routers[s] > widths[s]) {
      settings.refuse("router_length",
                      "at most " + std::to_string(widths[s]) + ", the width of stage " + std::to_string(s) +
                          ", for tensors \"" + stage + "router_q.weight\" and \"" + stage + "router_k.weight\"",
                      std::to_string(routers[s]));
    }
  }
}

class HnetBit : public Network {
 public:
  void read(Settings& settings, ModelInfo& info) override {
    const auto widths = settings.integers("embedding_length", 2, kMaxStages + 1, 1, hgrn::kMaxHidden);
    const size_t levels = widths.size(), stages = levels - 1;
    const auto recurrent = settings.integers("recurrent_length", levels, levels, 1, hgrn::kMaxInner);
    const auto feed_forward = settings.integers("feed_forward_length", levels, levels, 1, hgrn::kMaxInner);
    const auto encoders = settings.integers("encoder_block_count", stages, stages, 0, hgrn::kMaxBlocks);
    const auto decoders = settings.integers("decoder_block_count", stages, stages, 0, hgrn::kMaxBlocks);
    const auto routers = settings.integers("router_length", stages, stages, 1, hgrn::kMaxHidden);
    inner_blocks_ = settings.integer("block_count", 1, hgrn::kMaxBlocks);
    info.vocabulary.size = settings.vocabulary_size();
    info.stages = static_cast<uint32_t>(stages);
    settings.optional_reals_from_one("target_chunk_length", stages);
    inner_config_.read_common(settings);
    check_stages(settings, widths, routers);
    for (size_t level = 0; level < levels; ++level) {
      hgrn::BlockConfig block = inner_config_;
      block.hidden = widths[level];
      block.recurrent = recurrent[level];
      block.feed_forward = feed_forward[level];
      if (level == stages) {
        inner_config_ = block;
      } else {
        Stage& stage = stages_.emplace_back();
        stage.name = stage_prefix(level);
        stage.block = block;
        stage.encoder_blocks = encoders[level];
        stage.decoder_blocks = decoders[level];
        stage.router = routers[level];
      }
    }
  }

  void list(TensorPlan& plan, const Vocabulary& vocabulary) override {
    embedding_.list(plan, "token_embd", vocabulary.size, width(0));
    for (size_t s = 0; s < stages_.size(); ++s) {
      Stage& stage = stages_[s];
      const uint32_t d = width(s), widened = width(s + 1) - d;
      const std::string& at = stage.name;
      stage.encoder.list(plan, at + "enc.", at + "enc.", stage.encoder_blocks, stage.block);
      stage.decoder.list(plan, at + "dec.", at + "dec.", stage.decoder_blocks, stage.block);
      stage.memory.list(plan, stage.router, d);
      stage.encoder_norm.list(plan, at + "enc_norm.weight", d, stage.block.epsilon);
      stage.decoder_norm.list(plan, at + "dec_norm.weight", d, stage.block.epsilon);
      stage.router_q.list(plan, at + "router_q", stage.router, d, DenseLinear::Bias::kNone);
      stage.router_k.list(plan, at + "router_k", stage.router, d, DenseLinear::Bias::kNone);
      stage.residual.list(plan, at + "residual", d, d, DenseLinear::Bias::kOptional);
      if (widened > 0) plan.vector(at + "pad", widened, &stage.pad);
      stage.ones.assign(d, NormWeight{1 << NormWeight::kFractionBits});
    }
    inner_.list(plan, "blk.", "main.", inner_blocks_, inner_config_);
    inner_norm_.list(plan, "main_norm.weight", inner_config_.hidden, inner_config_.epsilon);
    output_.list(plan, "output", vocabulary.size, width(0), inner_config_.epsilon);
  }

  std::unique_ptr<Workspace> make_workspace() const override {
    auto w = std::make_unique<HnetWorkspace>();
    for (size_t level = 0; level <= stages_.size(); ++level) w->levels.emplace_back(*w);
    return w;
  }

  void forward(const Batch& batch, Workspace& workspace) const override {
    auto& w = static_cast<HnetWorkspace&>(workspace);
    w.levels[0].rows = batch.tokens.size();
    std::ranges::copy(w.texts.tokens, w.levels[0].tokens.begin());
    embed(w, w.levels[0].x, batch.tokens, embedding_);
    run_level(w, 0);
    predict(w, batch, w.levels[0].x, nullptr, output_);
  }

 private:
  /// A level's rows, in place.  A stage runs the level below on the rows that begin a chunk, and not at all without
  /// any.
  void run_level(HnetWorkspace& w, uint32_t s) const {
    ChunkLevel& level = w.levels[s];
    if (s == stages_.size()) {
      inner_.run(w, level.x);
      w.part("main_norm");
      return rms_norm(w, "norm", level.x.view(), inner_norm_);
    }
    const Stage& stage = stages_[s];
    ChunkLevel& below = w.levels[s + 1];
    stage.encoder.run(w, level.x);
    w.part(stage.name + "router");
    rms_norm(w, "norm", level.x.view(), stage.encoder_norm);
    quantize(w, level.x, stage.ones);
    dense_linear(w, "q", level.q, stage.router_q);
    dense_linear(w, "k", level.k, stage.router_k);
    dense_linear(w, "residual", level.residual, stage.residual);
    find_chunks(w, "p", level, stage.memory);
    chunk(w, level, s, below, width(s + 1), stage.pad);
    if (below.rows > 0) {
      const Texts here = w.texts;
      w.texts = below.texts(here.states.size() == 1);
      run_level(w, s + 1);
      w.texts = here;
    }
    w.part(stage.name + "chunks");
    dechunk(w, level, below, stage.memory);
    stage.decoder.run(w, level.x);
    w.part(stage.name + "out");
    rms_norm(w, "norm", level.x.view(), stage.decoder_norm);
  }

  uint32_t width(size_t level) const {
    return level < stages_.size() ? stages_[level].block.hidden : inner_config_.hidden;
  }

  hgrn::BlockConfig inner_config_;
  uint32_t inner_blocks_ = 0;

  Embedding embedding_;
  std::vector<Stage> stages_;
  hgrn::Stack inner_;
  RmsNorm inner_norm_;
  BitLinear output_;
};

}  // namespace

std::unique_ptr<Network> make_hnetbit() { return std::make_unique<HnetBit>(); }

}  // namespace tern
