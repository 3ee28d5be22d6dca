// toy_test.cc: the architecture toy equals its definition within a tolerance, and itself, however it is run, exactly.
#include <gtest/gtest.h>

#include "reference_model.h"
#include "tiny_model.h"

namespace tern {
namespace {

using test::kVocab;
using test::Vector;

struct ToySpec {
  uint32_t blocks = 2;
  uint32_t width = 40;
  uint32_t context = 50;
};

struct ToyLayer {
  Vector norm;
  test::TernaryMatrix in, forget, out;
};

/// A random model, and its file.
class ToyModel : public test::TinyParts {
 public:
  explicit ToyModel(const ToySpec& toy) : TinyParts({}) {
    writer.text("general.architecture", "toy");
    writer.text("general.name", "toy");
    writer.u32("toy.block_count", toy.blocks);
    writer.u32("toy.embedding_length", toy.width);
    writer.u32("toy.context_length", toy.context);
    writer.u32("toy.vocab_size", kVocab);
    writer.f32_bits("toy.norm_rms_epsilon", test::f32_bits(1e-6));
    writer.text("tokenizer.ggml.model", "byte");
    writer.u32("tokenizer.ggml.bos_token_id", kBytes.bos);
    writer.u32("tokenizer.ggml.eos_token_id", kBytes.eos);
    make_embedding(toy.width);
    for (uint32_t n = 0; n < toy.blocks; ++n) {
      const std::string blk = "blk." + std::to_string(n) + ".";
      layers.push_back(
          {make_vector(blk + "norm.weight", toy.width, 0.5, 1.5), make_matrix(blk + "in", toy.width, toy.width),
           make_matrix(blk + "forget", toy.width, toy.width), make_matrix(blk + "out", toy.width, toy.width)});
    }
    output_norm = make_vector("output_norm.weight", toy.width, 0.5, 1.5);
    output = make_matrix("output", kVocab, toy.width);
    file = writer.build();
  }

  std::vector<ToyLayer> layers;
  Vector output_norm;
};

std::shared_ptr<const Model> toy_model(const ToySpec& spec = {}) { return test::load_or_fail(ToyModel(spec).file); }

/// A session with a workspace of its own, for texts of at most so many tokens.
Session open(const std::shared_ptr<const Model>& model, uint64_t most_tokens = kNoLimit) {
  return std::move(Session::open(model, std::move(model->new_workspace()).value(), most_tokens)).value();
}

std::vector<uint8_t> random_bytes(size_t count, uint64_t seed) {
  test::Random random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(128));
  return bytes;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The tolerances are those of model_test.cc, with the same reasons.
TEST(Toy, ComputesWhatItsDefinitionSays) {
  const ToyModel toy({});
  const std::shared_ptr<const Model> model = test::load_or_fail(toy.file);
  const std::vector<uint8_t> bytes = random_bytes(50, 1);
  test::Text text(*model);
  std::vector<std::vector<Vector>> s(toy.layers.size(), {Vector(40, 0)});  // of each block and position, from 0 before
  double smallest = 1;
  for (size_t t = 0; t < bytes.size(); ++t) {
    const double* row = &toy.embedding[size_t{40} * bytes[t]];
    Vector h(row, row + 40);
    for (size_t n = 0; n < toy.layers.size(); ++n) {
      const ToyLayer& layer = toy.layers[n];
      const Vector a = test::rms_norm(h, layer.norm);
      const Vector i = test::bit_linear(layer.in, a), z = test::bit_linear(layer.forget, a);
      Vector now = s[n].back();
      for (size_t c = 0; c < 40; ++c) now[c] += sigmoid(-z[c]) * (i[c] * sigmoid(i[c]) - now[c]);
      s[n].push_back(now);
      for (size_t c = 0; c < 40; ++c) now[c] += s[n][1 + t / 2][c];
      const Vector mixed = test::bit_linear(layer.out, now);
      for (size_t c = 0; c < 40; ++c) h[c] += mixed[c];
    }
    const Vector expected = test::bit_linear(toy.output, test::rms_norm(h, toy.output_norm));
    std::vector<int32_t> logits(kVocab);
    text.step(bytes[t], logits);
    double difference = 0, size = 0;
    for (size_t k = 0; k < kVocab; ++k) {
      difference += std::pow(logits[k] / 65536.0 - expected[k], 2);
      size += expected[k] * expected[k];
    }
    const double error = std::sqrt(difference / size);
    EXPECT_LT(error, 0.08) << "position " << t;
    smallest = std::min(smallest, error);
  }
  EXPECT_LT(smallest, 2e-4);
}

TEST(Toy, IsTheSameHoweverATextIsDividedAndWhereverWorkStops) {
  const std::shared_ptr<const Model> model = toy_model();
  const std::vector<uint8_t> bytes = random_bytes(49, 2);
  Session whole = open(model);
  ASSERT_EQ(whole.feed(bytes), 49u);
  for (const size_t slice : {size_t{1}, size_t{3}, size_t{16}, size_t{17}}) {
    for (const uint64_t budget : {kNoLimit, uint64_t{1}, uint64_t{4000}}) {
      Session sliced = open(model);
      for (std::span<const uint8_t> rest = bytes; !rest.empty();) {
        rest = rest.subspan(sliced.feed(rest.first(std::min(slice, rest.size())), {.budget = budget}));
      }
      EXPECT_EQ(sliced.save(), whole.save()) << slice << " bytes, budget " << budget;
    }
  }
}

TEST(Toy, TextsOfDifferentLengthsGoThroughOneBatchAsEachAlone) {
  const std::shared_ptr<const Model> model = toy_model();
  const auto shared = std::shared_ptr<Workspace>(std::move(model->new_workspace()).value());
  std::vector<Session> together, alone;
  for (size_t n = 0; n < 5; ++n) {
    for (std::vector<Session>* sessions : {&together, &alone}) {
      sessions->push_back(std::move(Session::open(model, shared)).value());
      sessions->back().feed(random_bytes(7 * n, n));
      ASSERT_TRUE(sessions->back().start({.seed = n}, kNoLimit).ok());
    }
  }
  for (size_t step = 0; step < 60; ++step) {
    Session* each[] = {&together[0], &together[1], &together[2], &together[3], &together[4]};
    std::optional<Token> tokens[5];
    Session::generate_each(each, tokens);
    for (size_t n = 0; n < 5; ++n) {
      Token token = 0;
      EXPECT_EQ(alone[n].generate({&token, 1}) == 1 ? std::optional(token) : std::nullopt, tokens[n]);
      EXPECT_EQ(alone[n].finish_state(), together[n].finish_state());
    }
  }
  for (size_t n = 0; n < 5; ++n) {
    EXPECT_NE(together[n].finish_state(), Finish::kNotFinished);
    EXPECT_EQ(together[n].save(), alone[n].save());
  }
}

}  // namespace
}  // namespace tern
