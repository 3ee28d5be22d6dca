// HNet-bit: the forward pass, its memory, and what its file must contain.
// SPDX-License-Identifier: MIT
#include "model/hnetbit.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/vocabulary.h"
#include "model/settings.h"

namespace tern::hnetbit {

using hgrn::rows_of;

// ---- Forward pass ---------------------------------------------------------------------------------------------------

struct Network::Rows {
  size_t level, count;
  std::span<Memory* const> texts;

  Memory& shared() const { return *texts[0]; }  // its scratch serves all texts
  bool is_one_text() const { return texts.size() == 1; }
  Memory& text(size_t row) const { return is_one_text() ? shared() : *texts[shared().token_of[level][row]]; }
  StageState& stage(size_t row) const { return text(row).stages[level]; }
  StageScratch& routed() const { return shared().routed[level]; }

  /// The texts' states of one stack, as run_stack() takes them.
  template <class StackOf>
  hgrn::StackStates stacks(std::array<const hgrn::StackState*, kTile>& room, StackOf stack_of) const {
    const size_t texts_here = is_one_text() ? 1 : count;
    for (size_t row = 0; row < texts_here; ++row) room[row] = &stack_of(text(row));
    return std::span(room).first(texts_here);
  }
};

void Network::forward(std::span<const uint8_t> tokens, std::span<Memory* const> texts, std::span<int32_t> logits,
                      std::span<int32_t> trace) const {
  const size_t T = tokens.size(), predictions = logits.size() / kVocab;
  TERN_CHECK(T >= 1 && T <= kTile && (texts.size() == 1 || texts.size() == T));
  TERN_CHECK((predictions <= 1 || predictions == T) && (trace.empty() || T == 1));
  Memory& memory = *texts[0];
  const auto x = rows_of(memory.x[0], T, config.block(0).hidden);
  std::iota(memory.token_of[0].begin(), memory.token_of[0].end(), uint8_t{0});
  memory.boundaries.fill(0);
  memory.tokens = T;
  std::ranges::fill(trace, 0);

  hgrn::embed(weights.embedding, tokens, x);
  run_level({0, T, texts}, trace);
  for (size_t n = texts.size();
       n-- > 0 && texts.size() > 1;) {  // each text gets its own; the first, where all are, last
    texts[n]->boundaries[0] = memory.boundaries[n];
    texts[n]->tokens = 1;
  }
  if (predictions == 0) return;
  hgrn::predict(weights.output, x.slice(T - predictions, predictions), config.inner.epsilon, memory.scratch, logits);
}

/// A level's rows, in place.  A stage runs the level below on the rows that begin a chunk, and not at all without any.
void Network::run_level(const Rows& rows, std::span<int32_t>& trace) const {
  const size_t level = rows.level;
  Memory& memory = rows.shared();
  const hgrn::BlockConfig& block = config.block(level);
  const auto x = rows_of(memory.x[level], rows.count, block.hidden);
  std::array<const hgrn::StackState*, kTile> room;
  if (level == config.stages.size()) {
    const auto inner = rows.stacks(room, [](Memory& m) -> auto& { return m.inner; });
    hgrn::run_stack(block, weights.inner, inner, x, memory.scratch, trace);
    rms_norm(x, weights.inner_norm, block.epsilon, x);
    return;
  }
  const Stage& stage = weights.stages[level];
  const auto encoder = rows.stacks(room, [level](Memory& m) -> auto& { return m.stages[level].encoder; });
  hgrn::run_stack(block, stage.encoder, encoder, x, memory.scratch, trace);
  rms_norm(x, stage.encoder_norm, block.epsilon, x);
  route(stage, rows, x);
  const size_t chunks = chunk(stage, rows, x);
  if (chunks > 0) {
    run_level({level + 1, chunks, rows.texts}, trace);
  } else if (!trace.empty()) {
    const std::vector<uint32_t> skipped = trace_widths_from(level + 1);
    trace = trace.subspan(std::accumulate(skipped.begin(), skipped.end(), size_t{0}));
  }
  dechunk(rows, rows_of(memory.x[level + 1], chunks, config.block(level + 1).hidden), x);
  const auto decoder = rows.stacks(room, [level](Memory& m) -> auto& { return m.stages[level].decoder; });
  hgrn::run_stack(block, stage.decoder, decoder, x, memory.scratch, trace);
  rms_norm(x, stage.decoder_norm, block.epsilon, x);
}

/// q, k, residual and p of each row.
void Network::route(const Stage& stage, const Rows& rows, MatrixView<const Act> e) const {
  StageScratch& routed = rows.routed();
  const BitLinearScratch& scratch = rows.shared().scratch.bit_linear;
  const size_t R = rows.stage(0).q.size();
  const auto q = rows_of(routed.q, e.rows, R), k = rows_of(routed.k, e.rows, R);
  const auto residual = rows_of(routed.residual, e.rows, e.cols);
  const std::span<int8_t> codes = scratch.codes.first(padded_cols(static_cast<uint32_t>(e.cols)));
  const std::span<const NormWeight> no_norm = std::span(weights.ones).first(e.cols);
  for (size_t t = 0; t < e.rows; ++t) {
    const Scale scale = quantize_activations(e.row(t), no_norm, Scale::from_integer(1), codes).scale;
    dense_linear(stage.router_q, codes, scale, scratch.acc.first(R), q.row(t));
    dense_linear(stage.router_k, codes, scale, scratch.acc.first(R), k.row(t));
    dense_linear(stage.residual, codes, scale, scratch.acc.first(e.cols), residual.row(t));
    StageState& state = rows.stage(t);
    routed.p[t] = boundary_probability(state.q, k.row(t)).value_or(Gate{});
    if (state.started[0] == 0) routed.p[t] = kMostProbable;  // a text begins with a chunk
    state.started[0] = 1;
    std::ranges::copy(q.row(t), state.q.begin());
  }
}

/// The rows of e that begin a chunk become the rows of the level below, widened by the pad.  Answers how many.
size_t Network::chunk(const Stage& stage, const Rows& rows, MatrixView<const Act> e) {
  Memory& memory = rows.shared();
  const size_t level = rows.level;
  const auto below = rows_of(memory.x[level + 1], e.rows, e.cols + stage.pad.size());
  size_t chunks = 0;
  for (size_t t = 0; t < e.rows; ++t) {
    if (rows.routed().p[t] == Gate{}) continue;
    const std::span<Act> row = below.row(chunks);
    std::ranges::copy(e.row(t), row.begin());
    std::ranges::copy(stage.pad, row.subspan(e.cols).begin());
    const uint8_t token = memory.token_of[level][t];
    memory.token_of[level + 1][chunks] = token;
    memory.boundaries[token] = static_cast<uint8_t>(memory.boundaries[token] | 1u << level);
    ++chunks;
  }
  return chunks;
}

/// x = z + residual, where z takes in a chunk's row where the chunk begins, and stays until the next one.
void Network::dechunk(const Rows& rows, MatrixView<const Act> chunks, MatrixView<Act> x) {
  constexpr int kFiner = State::kFractionBits - Act::kFractionBits;
  const std::span<const Gate> p = rows.routed().p;
  const auto residual = rows_of(rows.routed().residual, x.rows, x.cols);
  size_t next = 0;
  for (size_t t = 0; t < x.rows; ++t) {
    const std::span<State> z = rows.stage(t).z;
    if (p[t] != Gate{}) blend_chunk(std::min(p[t], kMostProbable), chunks.row(next++).first(x.cols), z);
    const std::span<Act> out = x.row(t);
    const std::span<const Act> rest = residual.row(t);
    for (size_t c = 0; c < x.cols; ++c) {
      out[c] = add({static_cast<int32_t>(round_shift(z[c].raw, kFiner))}, rest[c]);
    }
  }
}

std::vector<uint32_t> Network::trace_widths() const { return trace_widths_from(0); }

std::vector<uint32_t> Network::trace_widths_from(size_t level) const {
  if (level == config.stages.size()) return std::vector(config.inner_blocks, config.inner.hidden);
  const StageConfig& stage = config.stages[level];
  std::vector<uint32_t> widths(stage.encoder_blocks, stage.block.hidden);
  const std::vector<uint32_t> below = trace_widths_from(level + 1);
  widths.insert(widths.end(), below.begin(), below.end());
  widths.insert(widths.end(), stage.decoder_blocks, stage.block.hidden);
  return widths;
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

uint64_t StageConfig::state_words() const {
  const uint64_t blocks = uint64_t{encoder_blocks} + decoder_blocks;
  return blocks * block.state_words() + 1 + router + block.hidden;
}

uint64_t Config::state_words() const {
  uint64_t words = inner_blocks * inner.state_words();
  for (const StageConfig& stage : stages) words += stage.state_words();
  return words;
}

namespace {

/// The largest of each width.
hgrn::BlockConfig widest(const Config& config) {
  hgrn::BlockConfig widest = config.inner;
  for (const StageConfig& stage : config.stages) {
    widest.hidden = std::max(widest.hidden, stage.block.hidden);
    widest.recurrent = std::max(widest.recurrent, stage.block.recurrent);
    widest.feed_forward = std::max(widest.feed_forward, stage.block.feed_forward);
  }
  return widest;
}

void lay_out(const Config& config, Arena& arena, Memory& memory) {
  memory.state = arena.take<int32_t>(static_cast<size_t>(config.state_words()));
  memory.scratch = hgrn::take_scratch(widest(config), arena);
  memory.x.clear();
  memory.routed.clear();
  for (size_t level = 0; level <= config.stages.size(); ++level) {
    memory.x.push_back(arena.take<Act>(kTile * config.block(level).hidden));
  }
  for (const StageConfig& stage : config.stages) {
    StageScratch routed;
    routed.q = arena.take<Act>(kTile * stage.router);
    routed.k = arena.take<Act>(kTile * stage.router);
    routed.residual = arena.take<Act>(kTile * stage.block.hidden);
    routed.p = arena.take<Gate>(kTile);
    memory.routed.push_back(routed);
  }
}

/// The next `count` state words as fixed-point numbers: what is saved are their raw values.
template <class Fixed>
std::span<Fixed> take_fixed(size_t count, std::span<int32_t>& words) {
  const std::span<Fixed> taken(reinterpret_cast<Fixed*>(words.data()), count);
  words = words.subspan(count);
  return taken;
}

}  // namespace

Memory::Memory(const Config& config) : token_of(config.stages.size() + 1) {
  Arena measure;
  lay_out(config, measure, *this);
  arena = Arena(measure.used());
  lay_out(config, arena, *this);

  std::span<int32_t> words = state;
  for (const StageConfig& stage : config.stages) {
    StageState& s = stages.emplace_back();
    s.encoder = hgrn::take_state(stage.block, stage.encoder_blocks, words);
    s.decoder = hgrn::take_state(stage.block, stage.decoder_blocks, words);
    s.started = words.first(1);
    words = words.subspan(1);
    s.q = take_fixed<Act>(stage.router, words);
    s.z = take_fixed<State>(stage.block.hidden, words);
  }
  inner = hgrn::take_state(config.inner, config.inner_blocks, words);
  TERN_CHECK(words.empty());
}

// ---- File -----------------------------------------------------------------------------------------------------------

namespace {

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

}  // namespace

Result<void> Builder::on_header(const GgufHeader& header) {
  Config& c = network_->config;
  Settings settings(header, "hnetbit.");
  const auto widths = settings.integers("embedding_length", 2, kMaxStages + 1, 1, hgrn::kMaxHidden);
  const size_t levels = widths.size(), stages = levels - 1;
  const auto recurrent = settings.integers("recurrent_length", levels, levels, 1, hgrn::kMaxInner);
  const auto feed_forward = settings.integers("feed_forward_length", levels, levels, 1, hgrn::kMaxInner);
  const auto encoders = settings.integers("encoder_block_count", stages, stages, 0, hgrn::kMaxBlocks);
  const auto decoders = settings.integers("decoder_block_count", stages, stages, 0, hgrn::kMaxBlocks);
  const auto routers = settings.integers("router_length", stages, stages, 1, hgrn::kMaxHidden);
  c.inner_blocks = settings.integer("block_count", 1, hgrn::kMaxBlocks);
  settings.integer("vocab_size", kVocab, kVocab);
  settings.optional_reals_from_one("target_chunk_length", stages);
  const hgrn::BlockConfig common = hgrn::read_common(settings, header);
  check_stages(settings, widths, routers);
  if (!settings.result().ok()) return settings.result();
  config_texts_ = settings.texts();

  for (size_t level = 0; level < levels; ++level) {
    hgrn::BlockConfig block = common;
    block.hidden = widths[level];
    block.recurrent = recurrent[level];
    block.feed_forward = feed_forward[level];
    if (level == stages) {
      c.inner = block;
    } else {
      c.stages.push_back({block, encoders[level], decoders[level], routers[level]});
    }
  }
  list_tensors(header);
  return plan_.match(header);
}

void Builder::list_tensors(const GgufHeader& header) {
  const Config& c = network_->config;
  Weights& w = network_->weights;
  const uint32_t first = c.block(0).hidden;
  w.ones.assign(widest(c).hidden, NormWeight{1 << NormWeight::kFractionBits});
  plan_.embedding("token_embd", kVocab, first, &w.embedding);
  w.stages.resize(c.stages.size());
  for (size_t s = 0; s < c.stages.size(); ++s) {
    const StageConfig& config = c.stages[s];
    const uint32_t d = config.block.hidden, widened = c.block(s + 1).hidden - d;
    const std::string at = stage_prefix(s);
    Stage& stage = w.stages[s];
    stage.encoder.resize(config.encoder_blocks);
    stage.decoder.resize(config.decoder_blocks);
    hgrn::list_tensors(plan_, at + "enc.", config.block, stage.encoder);
    plan_.vector(at + "enc_norm.weight", d, &stage.encoder_norm);
    plan_.dense(at + "router_q", config.router, d, &stage.router_q);
    plan_.dense(at + "router_k", config.router, d, &stage.router_k);
    if (widened > 0) plan_.vector(at + "pad", widened, &stage.pad);
    plan_.dense(at + "residual", d, d, &stage.residual);
    const bool has_bias =
        std::ranges::find(header.tensors, at + "residual.bias", &GgufTensor::name) != header.tensors.end();
    if (has_bias) plan_.vector(at + "residual.bias", d, &stage.residual.bias);
    hgrn::list_tensors(plan_, at + "dec.", config.block, stage.decoder);
    plan_.vector(at + "dec_norm.weight", d, &stage.decoder_norm);
  }
  w.inner.resize(c.inner_blocks);
  hgrn::list_tensors(plan_, "blk.", c.inner, w.inner);
  plan_.vector("main_norm.weight", c.inner.hidden, &w.inner_norm);
  plan_.bit_linear("output", kVocab, first, &w.output);
}

void Builder::finish(ModelInfo& info) {
  plan_.finish(info);
  info.stages = static_cast<uint32_t>(network_->config.stages.size());
  info.state_bytes = sizeof(int32_t) * network_->config.state_words();
  info.config = std::move(config_texts_);
}

}  // namespace tern::hnetbit
