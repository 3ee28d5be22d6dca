// bitmamba2_test.cc: the architecture bitmamba2 against its definition in double precision, and files that are refused.
#include <gtest/gtest.h>

#include "one_text.h"
#include "reference_model.h"
#include "tiny_model.h"

namespace tern {
namespace {

using test::kVocab;
using test::Vector;

struct MambaSpec {
  uint32_t blocks = 2;
  uint32_t hidden = 40;
  uint32_t inner = 66;
  uint32_t heads = 3;
  uint32_t taps = 4;
};

struct MambaLayer {
  test::TernaryMatrix in, out;
  Vector conv, conv_bias, dt_bias, rate, skip;  // conv [E][K]
};

/// A random model, and its file.
class MambaModel : public test::TinyParts {
 public:
  explicit MambaModel(const MambaSpec& m = {}, const test::TinySpec& tiny = {}) : TinyParts(tiny), mamba(m) {
    writer.text("general.architecture", "bitmamba2");
    writer.text("general.name", "mamba");
    writer.u32("bitmamba2.block_count", m.blocks);
    writer.u32("bitmamba2.embedding_length", m.hidden);
    writer.u32("bitmamba2.inner_length", m.inner);
    writer.u32("bitmamba2.head_count", m.heads);
    writer.u32("bitmamba2.vocab_size", kVocab);
    writer.f32_bits("bitmamba2.norm_rms_epsilon", test::f32_bits(1e-6));
    writer.u32("bitmamba2.conv_kernel", m.taps);
    writer.text("tokenizer.ggml.model", "byte");
    writer.u32("tokenizer.ggml.bos_token_id", kBytes.bos);
    writer.u32("tokenizer.ggml.eos_token_id", kBytes.eos);
    make_embedding(m.hidden);
    for (uint32_t n = 0; n < m.blocks; ++n) {
      const std::string blk = "blk." + std::to_string(n) + ".";
      MambaLayer layer;
      layer.in = make_matrix(blk + "ssm_in", size_t{2} * m.inner + size_t{3} * m.heads, m.hidden);
      layer.conv = make_vector(blk + "conv.weight", size_t{m.inner} * m.taps, -0.7, 0.7, {m.taps, m.inner});
      layer.conv_bias = make_vector(blk + "conv.bias", m.inner, -1, 1);
      layer.dt_bias = make_vector(blk + "ssm_dt.bias", m.heads, -4, 1);
      layer.rate = make_vector(blk + "ssm_rate", m.heads, 0.1, 4);
      layer.skip = make_vector(blk + "ssm_skip", m.inner, -1, 1);
      layer.out = make_matrix(blk + "ssm_out", m.hidden, m.inner);
      layers.push_back(std::move(layer));
    }
    output_norm = make_vector("output_norm.weight", m.hidden, 0.5, 1.5);
    output = make_matrix("output", kVocab, m.hidden);
    file = writer.build();
  }

  MambaSpec mamba;
  std::vector<MambaLayer> layers;
  Vector output_norm;
};

using test::random_bytes;

double silu(double x) { return x / (1 + std::exp(-x)); }

/// One text; no code shared with the engine.
class Reference {
 public:
  explicit Reference(const MambaModel& model)
      : m_(model),
        s_(model.layers.size(), Vector(model.mamba.inner, 0)),
        windows_(model.layers.size(), std::vector<Vector>(model.mamba.taps - 1, Vector(model.mamba.inner, 0))) {}

  Vector step(uint8_t token) {
    Vector h = test::embedding_row(m_, token);
    for (size_t n = 0; n < m_.layers.size(); ++n) {
      const Vector mixed = block(m_.layers[n], h, s_[n], windows_[n]);
      for (size_t c = 0; c < h.size(); ++c) h[c] += mixed[c];
    }
    return test::bit_linear(m_.output, test::rms_norm(h, m_.output_norm));
  }

 private:
  Vector block(const MambaLayer& layer, const Vector& h, Vector& s, std::vector<Vector>& window) {
    const size_t inner = m_.mamba.inner, heads = m_.mamba.heads, taps = m_.mamba.taps;
    const Vector u = test::bit_linear(layer.in, h);
    const auto at = [&](size_t first) { return u.begin() + static_cast<std::ptrdiff_t>(first); };
    window.emplace_back(at(inner), at(2 * inner));
    Vector y(inner);
    for (size_t c = 0; c < inner; ++c) {
      const size_t g = c / (inner / heads);
      const double b = u[2 * inner + g], gain = u[2 * inner + heads + g];
      const double t = std::log1p(std::exp(u[2 * inner + 2 * heads + g] + layer.dt_bias[g]));
      double sum = layer.conv_bias[c];
      for (size_t k = 0; k < taps; ++k) sum += layer.conv[c * taps + k] * window[k][c];
      const double a = silu(sum);
      s[c] = std::exp(-layer.rate[g] * t) * s[c] + t * b * a;
      y[c] = (s[c] * gain + layer.skip[c] * a) * silu(u[c]);
    }
    window.erase(window.begin());
    return test::bit_linear(layer.out, y);
  }

  const MambaModel& m_;
  std::vector<Vector> s_;
  std::vector<std::vector<Vector>> windows_;
};

// The tolerances are those of model_test.cc, with the same reasons: now and then an int8 code falls on the other side.
TEST(BitMamba2, ComputesWhatItsDefinitionSays) {
  for (const MambaSpec& spec : {MambaSpec{}, MambaSpec{.hidden = 33, .inner = 50, .heads = 50, .taps = 2},
                                MambaSpec{.blocks = 3, .inner = 64, .heads = 1, .taps = 8}}) {
    const MambaModel mamba(spec);
    const std::shared_ptr<const Model> model = test::load_or_fail(mamba.file);
    std::optional<Reference> reference;
    std::optional<test::Text> text;
    double smallest = 1;
    size_t position = 0;
    for (const uint8_t byte : random_bytes(60, 1)) {
      if (position++ % 12 == 0) {
        reference.emplace(mamba);
        text.emplace(*model);
      }
      const Vector expected = reference->step(byte);
      std::vector<int32_t> logits(kVocab);
      text->step(byte, logits);
      double difference = 0, size = 0;
      for (size_t k = 0; k < kVocab; ++k) {
        difference += std::pow(logits[k] / 65536.0 - expected[k], 2);
        size += expected[k] * expected[k];
      }
      const double error = std::sqrt(difference / size);
      EXPECT_LT(error, 0.1) << "position " << position;
      smallest = std::min(smallest, error);
    }
    EXPECT_LT(smallest, 2e-4);
  }
}

TEST(BitMamba2, IsTheSameHoweverATextIsDividedAndWhereverWorkStops) {
  test::expect_the_same_however_divided(test::load_or_fail(MambaModel().file));
}

TEST(BitMamba2, ASavedTextGoesOnElsewhereAndAStoppedBatchLeavesNothing) {
  test::expect_a_saved_text_goes_on(test::load_or_fail(MambaModel({.inner = 300}).file));
}

TEST(BitMamba2, TextsOfOneBatchKnowNothingOfEachOther) {
  const std::shared_ptr<const Model> model = test::load_or_fail(MambaModel().file);
  const auto shared = std::shared_ptr<Workspace>(std::move(model->new_workspace()).value());
  std::vector<Session> together, alone;
  for (size_t n = 0; n < 3; ++n) {
    for (std::vector<Session>* sessions : {&together, &alone}) {
      sessions->push_back(std::move(Session::open(model, shared)).value());
      sessions->back().feed(random_bytes(7 * n, n));
      ASSERT_TRUE(sessions->back().start({.seed = n}, 20).ok());
    }
  }
  for (size_t step = 0; step < 20; ++step) {
    Session* each[] = {&together[0], &together[1], &together[2]};
    std::optional<Token> tokens[3];
    Session::generate_each(each, tokens);
    for (size_t n = 0; n < 3; ++n) {
      Token token = 0;
      EXPECT_EQ(alone[n].generate({&token, 1}) == 1 ? std::optional(token) : std::nullopt, tokens[n]);
    }
  }
  for (size_t n = 0; n < 3; ++n) EXPECT_EQ(together[n].save(), alone[n].save());
}

TEST(BitMamba2, SurvivesExtremeStates) {
  const std::shared_ptr<const Model> model = test::load_or_fail(MambaModel().file);
  for (const int32_t extreme : {INT32_MIN, INT32_MAX, -1, 0x55555555}) {
    test::Text text(*model);
    text.fill_state(extreme);
    std::vector<int32_t> logits(kVocab);
    for (int t = 0; t < 20; ++t) text.step('x', logits);
  }
}

TEST(BitMamba2, CountsItsStateAndItsParameters) {
  const MambaModel mamba;
  const ModelInfo info = test::load_or_fail(mamba.file)->info();
  EXPECT_EQ(info.architecture, "bitmamba2");
  EXPECT_EQ(info.state_bytes, 2u * (66 + 3 * 66) * sizeof(int32_t));
  const uint64_t matrices = uint64_t{141} * 40 + 40 * 66, vectors = 40 + 66 * 4 + 66 + 3 + 3 + 66 + 66;
  EXPECT_EQ(info.parameters, 256u * 40 + 2 * (matrices + vectors) + 40 + 256 * 40 + 40);
}

std::string refusal(std::span<const uint8_t> file) {
  const Result<std::shared_ptr<const Model>> model = test::load(file);
  return model.ok() ? "accepted" : model.error().message;
}

void expect_parts(const std::string& message, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
}

TEST(BitMamba2File, SettingsThatDoNotFitAreNamed) {
  expect_parts(refusal(MambaModel({.heads = 4}).file), {"bitmamba2.head_count", "a divisor of inner_length 66", "4"});
  expect_parts(refusal(MambaModel({.taps = 1}).file), {"bitmamba2.conv_kernel", "2 to 8", "1"});
  expect_parts(refusal(MambaModel({.taps = 9}).file), {"bitmamba2.conv_kernel", "2 to 8", "9"});
}

TEST(BitMamba2File, RatesBelowZeroOrNotFiniteAreRefused) {
  for (const double wrong : {-0.5, double{INFINITY}, double{NAN}}) {
    MambaModel mamba;
    for (auto& tensor : mamba.writer.tensors()) {
      if (tensor.name != "blk.1.ssm_rate") continue;
      tensor.bytes.resize(8);
      test::put_f32(tensor.bytes, wrong);
    }
    expect_parts(refusal(mamba.writer.build()), {"blk.1.ssm_rate", "finite", ">= 0", "column 2"});
  }
}

TEST(BitMamba2File, AMissingTensorIsNamed) {
  for (const char* name : {"blk.0.conv.bias", "blk.1.ssm_rate", "blk.1.ssm_dt.bias", "blk.0.ssm_skip"}) {
    MambaModel mamba;
    std::erase_if(mamba.writer.tensors(), [&](const auto& tensor) { return tensor.name == name; });
    expect_parts(refusal(mamba.writer.build()), {"expected a tensor", name, "found none"});
  }
}

}  // namespace
}  // namespace tern
