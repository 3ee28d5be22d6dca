// bitnet_test.cc: the operations of attention against double, extreme numbers, texts of the architecture bitnet, and
// files that are refused.  Whole models are held against float in tests/py/test_golden.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <numbers>

#include "base/parallel.h"
#include "model/layers/attention.h"
#include "model/layers/row_operations.h"
#include "one_text.h"
#include "tiny_model.h"

namespace tern {
namespace {

double value_of(Scale s) { return std::ldexp(s.mantissa, s.exponent); }

// ---- Operations -----------------------------------------------------------------------------------------------------

TEST(Rotation, IsWithinItsErrorAtTheLastPositionOf2B4T) {
  constexpr uint32_t kWidth = 128, kLast = 4095;
  test::Random random(1);
  std::vector<int32_t> x(kWidth), y(kWidth);
  for (int32_t& v : x) v = static_cast<int32_t>(random.below(1 << 22)) - (1 << 21);
  std::vector<Turn> turns;
  for (uint32_t c = 0; c < kWidth / 2; ++c) {
    const double turn = std::pow(500000.0, -2.0 * c / kWidth) / (2 * std::numbers::pi);
    turns.push_back(turn_of(kLast, static_cast<uint32_t>(std::llround(turn * 4294967296.0))));
    EXPECT_NEAR(turns[c].cos / 1073741824.0, std::cos(2 * std::numbers::pi * turn * kLast), 4e-6);
    EXPECT_NEAR(turns[c].sin / 1073741824.0, std::sin(2 * std::numbers::pi * turn * kLast), 4e-6);
  }
  rotate(x, turns, y);
  for (size_t c = 0; c < kWidth / 2; ++c) {
    const double cos = turns[c].cos / 1073741824.0, sin = turns[c].sin / 1073741824.0;
    EXPECT_NEAR(y[c] / 256.0, x[c] * cos - x[c + 64] * sin, 0.01);
    EXPECT_NEAR(y[c + 64] / 256.0, x[c + 64] * cos + x[c] * sin, 0.01);
  }
}

TEST(Rotation, IsThatOfTheExactAngleAtAnyPosition) {
  for (const uint32_t position : {1u, 4095u, 4096u, 65535u, (1u << 20) - 1, ~0u}) {
    for (const uint32_t frequency : {683565276u, 1u, 0x80000001u, 0x12345677u}) {
      const Turn turn = turn_of(position, frequency);
      const auto phase = static_cast<double>(static_cast<uint32_t>(uint64_t{position} * frequency));
      const double angle = 2 * std::numbers::pi * phase / 4294967296.0;
      EXPECT_NEAR(turn.cos / 1073741824.0, std::cos(angle), 1e-6) << position << " x " << frequency;
      EXPECT_NEAR(turn.sin / 1073741824.0, std::sin(angle), 1e-6) << position << " x " << frequency;
    }
  }
}

struct Positions {
  uint32_t width;
  std::vector<int32_t> words;

  size_t stride() const { return Attention::words(1, width); }
  std::vector<int32_t*> pages() {
    std::vector<int32_t*> all;
    for (size_t at = 0; at < words.size(); at += State::kPage * stride()) all.push_back(&words[at]);
    return all;
  }
  void push(std::span<const int8_t> key, Scale key_scale, std::span<const int8_t> value, Scale value_scale) {
    const size_t first = words.size();
    words.resize(first + stride());
    auto* codes = reinterpret_cast<int8_t*>(&words[first]);
    std::ranges::copy(key, codes);
    std::ranges::copy(value, codes + width);
    const Scale both[] = {key_scale, value_scale};
    for (size_t n = 0; n < 2; ++n) {
      words[first + width / 2 + 2 * n] = static_cast<int32_t>(both[n].mantissa);
      words[first + width / 2 + 2 * n + 1] = both[n].exponent;
    }
  }
};

/// What attention gives for random codes, beside the same in double; `spread`: of the scales of values, in octaves.
void expect_attention(uint32_t width, size_t count, int spread, uint64_t seed) {
  test::Random random(seed);
  Positions positions{width, {}};
  std::vector<int16_t> query(width);
  for (int16_t& code : query) code = static_cast<int16_t>(static_cast<int>(random.below(65535)) - 32767);
  const Scale one = Scale::from_integer(1 + random.below(1000), -24);
  std::vector<double> score(count), expected(width);
  std::vector<std::vector<int8_t>> values;
  std::vector<double> value_scales;
  for (size_t p = 0; p < count; ++p) {
    std::vector<int8_t> key(width), value(width);
    for (int8_t& code : key) code = static_cast<int8_t>(static_cast<int>(random.below(255)) - 127);
    for (int8_t& code : value) code = static_cast<int8_t>(static_cast<int>(random.below(255)) - 127);
    const Scale key_scale = Scale::from_integer(1000 + random.below(1000), -16);
    const Scale value_scale = Scale::from_integer(1000 + random.below(1000),
                                                  -static_cast<int>(random.below(static_cast<uint64_t>(spread) + 1)));
    positions.push(key, key_scale, value, value_scale);
    for (size_t c = 0; c < width; ++c) score[p] += query[c] * double{static_cast<double>(key[c])};
    score[p] *= value_of(one) * value_of(key_scale) / std::sqrt(width);
    values.push_back(value);
    value_scales.push_back(value_of(value_scale));
  }
  const double largest = *std::ranges::max_element(score);
  double total = 0;
  for (double& s : score) total += s = std::exp(s - largest);
  double size = 0;
  for (size_t p = 0; p < count; ++p) {
    for (size_t c = 0; c < width; ++c) expected[c] += score[p] / total * value_scales[p] * values[p][c];
    size = std::max(size, 127 * value_scales[p] * score[p] / total);
  }
  std::vector<int32_t> weights(count);
  std::vector<int64_t> sums(width);
  const Scale factor = attend_to(query, one, {positions.pages(), 0, positions.stride(), count}, weights, sums);
  for (size_t c = 0; c < width; ++c) {
    EXPECT_NEAR(static_cast<double>(sums[c]) * value_of(factor), expected[c], 3e-5 * size * std::sqrt(count));
  }
}

TEST(Attention, IsTheMeanOfTheValues) {
  for (uint64_t seed = 0; seed < 5; ++seed) {
    for (const size_t count : {size_t{1}, size_t{2}, size_t{100}, size_t{4096}, size_t{4200}}) {
      expect_attention(16, count, 0, seed);
      expect_attention(4, count, 12, seed);
    }
    expect_attention(256, 300, 3, seed);
  }
}

TEST(Attention, HoldsTheLargestSumsOfAnyLength) {
  for (const size_t count : {size_t{4096}, size_t{4097}, size_t{9000}}) {
    Positions positions{4, {}};
    const int8_t codes[] = {127, -127, -128, 1};
    for (size_t p = 0; p < count; ++p) positions.push(codes, {~uint32_t{0}, -32}, codes, {~uint32_t{0}, -32});
    std::vector<int32_t> weights(count);
    std::vector<int64_t> sums(4);
    const int16_t query[] = {0, 0, 0, 0};
    attend_to(query, {}, {positions.pages(), 0, positions.stride(), count}, weights, sums);
    for (size_t c = 0; c < 4; ++c) EXPECT_EQ(sums[c], static_cast<int64_t>(count) * codes[c] * (1 << 24));
  }
}

TEST(GatedProduct, KeepsWhatIsFarBeyondTheFormatsAndFarBelow) {
  for (const int exponent : {-60, -30, -12, 0}) {
    Workspace workspace(Workspace::kGrows);
    ScaledRows gate(workspace), up(workspace), y(workspace);
    Buffer<int64_t> products(workspace);
    const int32_t g[] = {127 << 14, -5, 300, 1}, u[] = {-(127 << 14), 7, 2000, 127 << 14};
    std::ranges::copy(g, gate.integers.shape(1, 4).data);
    std::ranges::copy(u, up.integers.shape(1, 4).data);
    gate.scales[0] = up.scales[0] = Scale::from_integer(1, exponent);
    gated_product(workspace, y, gate, up, Activation::kSquaredRelu, products);
    const double largest = std::pow(std::ldexp(127 << 14, exponent), 3);
    for (size_t c = 0; c < 4; ++c) {
      const double a = std::ldexp(std::max(g[c], 0), exponent), expected = a * a * std::ldexp(u[c], exponent);
      EXPECT_NEAR(y.integers.view().row(0)[c] * value_of(y.scales[0]), expected, largest * 1e-9);
    }
  }
}

TEST(InputNorm, TinyWeightsGiveTheSameCodesWithASmallerScale) {
  test::Random random(3);
  InputNorm large, small;
  std::vector<Act> x(40);
  for (Act& v : x) {
    v.raw = static_cast<int32_t>(random.next() >> 44);
    large.weight.push_back({static_cast<int32_t>(random.next() >> 34)});
  }
  large.epsilon = Scale::from_integer(1, -17);
  small = large;
  large.fraction_bits = 30;
  small.fraction_bits = 42;
  Workspace workspace(Workspace::kGrows);
  quantize(workspace, MatrixView<const Act>(x.data(), 1, x.size()), large);
  const std::span<const int8_t> row = workspace.codes.view().row(0);
  const std::vector<int8_t> codes(row.begin(), row.end());
  const Scale scale = workspace.scales[0];
  quantize(workspace, MatrixView<const Act>(x.data(), 1, x.size()), small);
  EXPECT_TRUE(std::ranges::equal(codes, workspace.codes.view().row(0)));
  EXPECT_EQ(workspace.scales[0], (Scale{scale.mantissa, scale.exponent - 12}));
  EXPECT_EQ(*std::ranges::max_element(codes, {}, [](int8_t code) { return std::abs(code); }), 127);
}

// ---- Models ---------------------------------------------------------------------------------------------------------

struct BitNetSpec {
  uint32_t blocks = 2, hidden = 40, inner = 56, heads = 6, kv_heads = 3, width = 8, context = 64;
  bool sub_norms = true, tied = true;
  std::string activation = "relu2";
  double norm = 1;  // size of the norms before a matrix
};

/// A random model, and its file.
class BitNetModel : public test::TinyParts {
 public:
  explicit BitNetModel(const BitNetSpec& m = {}) : TinyParts({}) {
    writer.text("general.architecture", "bitnet");
    writer.u32("bitnet.block_count", m.blocks);
    writer.u32("bitnet.embedding_length", m.hidden);
    writer.u32("bitnet.feed_forward_length", m.inner);
    writer.u32("bitnet.head_count", m.heads);
    writer.u32("bitnet.head_count_kv", m.kv_heads);
    writer.u32("bitnet.head_length", m.width);
    writer.u32("bitnet.context_length", m.context);
    std::vector<uint32_t> frequencies;
    for (uint32_t c = 0; c < m.width / 2; ++c) frequencies.push_back(683565276u >> std::min(2 * c, 31u));
    writer.u32s("bitnet.rope_frequencies", frequencies);
    writer.text("bitnet.activation", m.activation);
    writer.u32("bitnet.vocab_size", test::kVocab);
    writer.f32_bits("bitnet.norm_rms_epsilon", test::f32_bits(1e-5));
    writer.text("tokenizer.ggml.model", "byte");
    writer.u32("tokenizer.ggml.bos_token_id", kBytes.bos);
    writer.u32("tokenizer.ggml.eos_token_id", kBytes.eos);
    make_embedding(m.hidden);
    const uint32_t queries = m.heads * m.width, keys = m.kv_heads * m.width;
    for (uint32_t n = 0; n < m.blocks; ++n) {
      const std::string blk = "blk." + std::to_string(n) + ".";
      make_norm(blk + "attn_norm.weight", m.hidden, m.norm);
      make_matrix(blk + "attn_q", queries, m.hidden);
      make_matrix(blk + "attn_k", keys, m.hidden);
      make_matrix(blk + "attn_v", keys, m.hidden);
      make_matrix(blk + "attn_o", m.hidden, queries);
      make_norm(blk + "ffn_norm.weight", m.hidden, m.norm);
      make_matrix(blk + "ffn_gate", m.inner, m.hidden);
      make_matrix(blk + "ffn_up", m.inner, m.hidden);
      make_matrix(blk + "ffn_down", m.hidden, m.inner);
      if (!m.sub_norms) continue;
      make_norm(blk + "attn_sub_norm.weight", queries, m.norm);
      make_norm(blk + "ffn_sub_norm.weight", m.inner, m.norm);
    }
    make_vector("output_norm.weight", m.hidden, 0.5, 1.5);
    std::erase_if(writer.tensors(), [](const auto& tensor) { return tensor.name.ends_with("in_norm.weight"); });
    file = writer.build();
  }

 private:
  void make_norm(const std::string& name, size_t cols, double size) { make_vector(name, cols, 0.5 * size, 1.5 * size); }
};

/// The beginning of a file of llama.cpp.
struct ModelOfOthers : test::TinyParts {
  explicit ModelOfOthers(const char* architecture) : TinyParts({}) {
    writer.text("general.architecture", architecture);
    writer.u32("bitnet.attention.head_count", 4);
    make_vector("output_norm.weight", 8, 0.5, 1.5);
    file = writer.build();
  }
};

using test::random_bytes;

std::shared_ptr<const Model> bitnet(const BitNetSpec& spec = {}) { return test::load_or_fail(BitNetModel(spec).file); }

std::vector<int32_t> logits_after(const std::shared_ptr<const Model>& model, std::span<const uint8_t> bytes) {
  Session session(model);
  session.feed(bytes);
  return {session.logits().begin(), session.logits().end()};
}

TEST(BitNet, IsTheSameHoweverATextIsDividedAndWhereverWorkStops) { test::expect_the_same_however_divided(bitnet()); }

TEST(BitNet, ASavedTextGoesOnElsewhereAndAStoppedBatchLeavesNothing) {
  test::expect_a_saved_text_goes_on(bitnet({.inner = 300}));
}

TEST(BitNet, TextsOfDifferentLengthsGoThroughOneBatchAsEachAloneUntilTheyAreFull) {
  const std::shared_ptr<const Model> model = bitnet();
  const auto shared = std::shared_ptr<Workspace>(std::move(model->new_workspace()).value());
  std::vector<Session> together, alone;
  for (size_t n = 0; n < 3; ++n) {
    for (std::vector<Session>* sessions : {&together, &alone}) {
      sessions->push_back(std::move(Session::open(model, shared)).value());
      sessions->back().feed(random_bytes(7 * n, n));
      ASSERT_TRUE(sessions->back().start({.seed = n}, kNoLimit).ok());
    }
  }
  for (size_t step = 0; step < 70; ++step) {
    Session* each[] = {&together[0], &together[1], &together[2]};
    std::optional<Token> tokens[3];
    Session::generate_each(each, tokens);
    for (size_t n = 0; n < 3; ++n) {
      Token token = 0;
      EXPECT_EQ(alone[n].generate({&token, 1}) == 1 ? std::optional(token) : std::nullopt, tokens[n]);
      EXPECT_EQ(alone[n].finish_state(), together[n].finish_state());
    }
  }
  for (size_t n = 0; n < 3; ++n) EXPECT_EQ(together[n].save(), alone[n].save());
}

// Texts that end before, at and behind the end of a page.
constexpr size_t kLengths[] = {1, State::kPage - 2, State::kPage - 1, State::kPage, 2 * State::kPage - 1, 150, 199};

TEST(BitNet, ATextGrowsOverPagesAsItIsWhateverIsReadTogether) {
  const std::shared_ptr<const Model> model = bitnet({.context = 200});
  const std::vector<uint8_t> text = random_bytes(199, 21);
  Session whole(model), steps(model);
  ASSERT_EQ(whole.feed(text), 199u);
  EXPECT_EQ(whole.room(), 0u);
  size_t read = 0;
  for (const size_t length : kLengths) {
    for (; read < length; ++read) steps.feed(std::span(text).subspan(read, 1));
    Session at_once(model), other(model);
    at_once.feed(std::span(text).first(length));
    const std::vector<uint8_t> saved = at_once.save();
    ASSERT_EQ(saved, steps.save()) << length;
    EXPECT_EQ(steps.state_bytes(), (length + 1) * model->info().state_bytes_per_token);
    ASSERT_TRUE(other.restore(saved).ok());
    other.feed(std::span(text).subspan(length));
    EXPECT_EQ(other.save(), whole.save()) << length;
  }
}

TEST(BitNet, ATruncatedTextIsAsIfTheRestHadNeverBeenRead) {
  const std::shared_ptr<const Model> model = bitnet({.context = 400});
  const std::vector<uint8_t> text = random_bytes(390, 22), more = random_bytes(9, 23);
  Session whole(model);
  whole.feed(text);
  const std::vector<uint8_t> saved = whole.save();
  for (const size_t length :
       {size_t{0}, size_t{2}, State::kPage - 1, State::kPage, size_t{258}, size_t{300}, size_t{390}}) {
    Session cut(model), expected(model);
    ASSERT_TRUE(cut.restore(saved).ok());
    ASSERT_TRUE(cut.start({.seed = 1}, 5).ok());
    ASSERT_TRUE(cut.truncate(length));
    EXPECT_EQ(cut.finish_state(), Finish::kMaxBytes);
    expected.feed(std::span(text).first(length));
    ASSERT_EQ(cut.save(), expected.save()) << length;
    for (Session* session : {&cut, &expected}) {
      session->feed(more);
      ASSERT_TRUE(session->start({.repetition_penalty_q16 = 1 << 17, .seed = 4}, kNoLimit).ok());
      uint8_t byte = 0;
      session->generate({&byte, 1});
    }
    EXPECT_EQ(cut.save(), expected.save()) << length;
  }
  EXPECT_FALSE(whole.truncate(391));
  EXPECT_EQ(whole.save(), saved);
  EXPECT_EQ(whole.feed(more, {.budget = 1000}), 0u);  // is inside a batch
  ASSERT_TRUE(whole.truncate(390));
  EXPECT_EQ(whole.save(), saved);
}

TEST(BitNet, ThreadsChangeNoBit) {
  const std::shared_ptr<const Model> model = bitnet({.heads = 7, .kv_heads = 7, .width = 64, .context = 400});
  const std::vector<uint8_t> text = random_bytes(399, 24);
  Session one(model);
  one.feed(text);
  for (const uint32_t count : {2u, 3u, 16u}) {
    set_threads(count);
    Session session(model);
    session.feed(text);
    EXPECT_EQ(session.save(), one.save()) << count;
  }
  set_threads(1);
}

TEST(BitNet, ATokenChangesNoPredictionBeforeItAndAllAfterIt) {
  const std::shared_ptr<const Model> model = bitnet();
  std::vector<uint8_t> bytes = random_bytes(30, 5);
  const std::vector<int32_t> before = logits_after(model, std::span(bytes).first(10)),
                             after = logits_after(model, bytes);
  bytes[10] ^= 1;
  EXPECT_EQ(logits_after(model, std::span(bytes).first(10)), before);
  EXPECT_NE(logits_after(model, bytes), after);
}

TEST(BitNet, NormsNear1e32GiveNothingAndAreNoFault) {
  const std::shared_ptr<const Model> model = bitnet({.norm = 1e-32});
  const std::vector<int32_t> logits = logits_after(model, random_bytes(20, 7));
  EXPECT_EQ(logits, logits_after(model, random_bytes(20, 7)));
  // The blocks add nothing, so only the last token counts.
  EXPECT_EQ(logits_after(model, std::vector<uint8_t>{'a', 'b'}), logits_after(model, std::vector<uint8_t>{'c', 'b'}));
  EXPECT_NE(logits_after(model, std::vector<uint8_t>{'a', 'b'}), logits_after(model, std::vector<uint8_t>{'a', 'c'}));
}

TEST(BitNet, SurvivesExtremeStates) {
  const std::shared_ptr<const Model> model = bitnet();
  for (const int32_t extreme : {INT32_MIN, INT32_MAX, -1, 0x55555555}) {
    test::Text text(*model);
    std::vector<int32_t> logits(test::kVocab);
    for (int t = 0; t < 10; ++t) text.step('x', logits);
    text.fill_state(extreme);
    for (int t = 0; t < 10; ++t) text.step('x', logits);
  }
}

TEST(BitNet, CountsItsStateAndItsParameters) {
  const ModelInfo info = bitnet()->info();
  EXPECT_EQ(info.architecture, "bitnet");
  EXPECT_EQ(info.context, 64u);
  EXPECT_EQ(info.state_bytes_per_token, 2u * 3 * (2 * 8 + 16) + sizeof(Token));
  EXPECT_EQ(info.state_bytes, 64 * info.state_bytes_per_token);
  const uint64_t matrices = uint64_t{40} * (48 + 24 + 24 + 48 + 3 * 56), norms = 40 + 48 + 40 + 56;
  EXPECT_EQ(info.parameters, 256u * 40 + 2 * (matrices + norms) + 40);
}

TEST(BitNetFile, ASmallEmbeddingIsWarnedOf) {
  const auto warnings_with = [](double scale) {
    BitNetModel made;
    const auto tensor = std::ranges::find(made.writer.tensors(), "token_embd.scale", &test::GgufWriter::Tensor::name);
    EXPECT_NE(tensor, made.writer.tensors().end());
    tensor->bytes.clear();
    for (uint32_t row = 0; row < test::kVocab; ++row) test::put_f32(tensor->bytes, scale);
    return test::load_or_fail(made.writer.build())->info().warnings;
  };
  EXPECT_TRUE(warnings_with(0.01).empty());
  ASSERT_EQ(warnings_with(1e-6).size(), 1u);
  EXPECT_EQ(warnings_with(1e-6)[0].key, "token_embd.weight");
}

TEST(BitNetFile, WhatDoesNotFitIsNamed) {
  const auto expect_refusal = [](std::span<const uint8_t> file, std::initializer_list<const char*> parts) {
    const Result<std::shared_ptr<const Model>> model = test::load(file);
    const std::string message = model.ok() ? "accepted" : model.error().message;
    for (const char* part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  };
  expect_refusal(BitNetModel({.heads = 4}).file, {"bitnet.head_count_kv", "a divisor of head_count 4", "3"});
  expect_refusal(BitNetModel({.width = 6}).file, {"bitnet.head_length", "a multiple of 4", "6"});
  expect_refusal(BitNetModel({.activation = "gelu"}).file, {"bitnet.activation", "relu2", "silu", "gelu"});
  expect_refusal(BitNetModel({.context = 1}).file, {"bitnet.context_length", "2 to", "1"});
  expect_refusal(BitNetModel({.norm = 1e10}).file, {"attn_norm.weight", "finite"});
  for (const char* name : {"blk.1.attn_sub_norm.weight", "blk.0.ffn_sub_norm.weight", "blk.0.attn_q.weight"}) {
    BitNetModel made;
    std::erase_if(made.writer.tensors(), [&](const auto& tensor) { return tensor.name == name; });
    expect_refusal(made.writer.build(), {"expected a tensor", name, "found none"});
  }
  for (const char* name : {"bitnet-25", "bitnet-b1.58", "llama", "bitnet"}) {
    expect_refusal(ModelOfOthers(name).file, {"a model file of llama.cpp", name, "scripts/convert.py", "load()"});
  }
}

}  // namespace
}  // namespace tern
