// toy_test.cc: the architecture toy against its definition, and what it alone has: full texts, states saved up to their
// length.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <new>

#include "tiny_toy.h"

namespace tern {
namespace {

using test::kVocab;
using test::ToyLayer;
using test::ToyModel;
using test::ToySpec;
using test::Vector;

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

std::vector<int32_t> logits_of(Session& session) { return {session.logits().begin(), session.logits().end()}; }

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

TEST(FullContext, FeedSaysFewerAndTheTextStaysWhatItIs) {
  for (const uint64_t budget : {kNoLimit, uint64_t{2000}}) {
    const std::shared_ptr<const Model> model = toy_model();
    EXPECT_EQ(model->info().context, 50u);
    const std::vector<uint8_t> bytes = random_bytes(100, 3);
    Session session = open(model);
    EXPECT_EQ(session.room(), 49u);  // one token begins the text
    size_t fed = 0;
    while (session.room() > 0) fed += session.feed(std::span(bytes).subspan(fed), {.budget = budget});
    EXPECT_EQ(fed, 49u);
    EXPECT_EQ(session.position(), 49u);
    const std::vector<uint8_t> saved = session.save();
    EXPECT_EQ(session.feed(bytes), 0u);
    const Result<size_t> tokens = session.feed(std::span<const Token>(&kBytes.bos, 1));
    ASSERT_TRUE(tokens.ok());
    EXPECT_EQ(tokens.value(), 0u);
    const Result<Score> score = session.score(bytes);
    ASSERT_TRUE(score.ok());
    EXPECT_EQ(score.value().bytes, 0u);
    EXPECT_EQ(session.save(), saved);

    session.reset();
    EXPECT_EQ(session.room(), 49u);
    EXPECT_EQ(session.feed(bytes), 49u);
    EXPECT_EQ(session.save(), saved);
  }
}

TEST(FullContext, EndsAGenerationWithItsOwnReason) {
  const std::shared_ptr<const Model> model = toy_model();
  for (uint64_t seed = 0;; ++seed) {
    Session session = open(model);
    session.feed(random_bytes(40, 4));
    ASSERT_TRUE(session.start({.seed = seed}, 1000).ok());
    std::vector<uint8_t> out(1000);
    const size_t count = session.generate(out);
    if (session.finish_state() == Finish::kEndOfText) continue;  // by chance
    EXPECT_EQ(session.finish_state(), Finish::kContextFull);
    EXPECT_EQ(count, 9u);
    EXPECT_EQ(session.room(), 0u);
    EXPECT_EQ(session.generate(out), 0u);
    ASSERT_TRUE(session.start({.seed = seed}, 5).ok());
    EXPECT_EQ(session.generate(out), 0u);
    EXPECT_EQ(session.finish_state(), Finish::kContextFull);
    break;
  }
}

TEST(FullContext, ScoresWhatStillFits) {
  const std::shared_ptr<const Model> model = toy_model();
  const std::vector<uint8_t> bytes = random_bytes(100, 5);
  Session session = open(model), exact = open(model);
  const Result<Score> score = session.score(bytes), expected = exact.score(std::span(bytes).first(49));
  ASSERT_TRUE(score.ok() && expected.ok());
  EXPECT_EQ(score.value().bytes, 49u);
  EXPECT_EQ(score.value().bits_q32, expected.value().bits_q32);
}

TEST(FullContext, IsWhereTheCallerOfOpenWantsIt) {
  const std::shared_ptr<const Model> model = toy_model();
  const std::shared_ptr<Workspace> workspace = std::move(model->new_workspace()).value();
  for (const uint64_t most : {2u, 17u, 50u, 51u}) {
    Session session = open(model, most);
    EXPECT_EQ(session.feed(random_bytes(100, 6)), std::min<uint64_t>(most, 50) - 1);
  }
  for (const uint64_t too_few : {0u, 1u}) {
    const Result<Session> refused = Session::open(model, workspace, too_few);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kBadOption);
  }
}

TEST(SavedPoint, HasTheWordsOfThePositionsThatWereRead) {
  const std::shared_ptr<const Model> model = toy_model();
  Session session = open(model);
  const size_t empty = session.save().size();
  for (const size_t fed : {1u, 10u, 38u}) {
    const size_t before = session.save().size();
    session.feed(random_bytes(fed, fed));
    EXPECT_EQ(session.save().size() - before, fed * (2 * 40 + 1) * sizeof(int32_t));
  }
  EXPECT_EQ(session.room(), 0u);
  EXPECT_EQ(session.save().size() - empty, 49u * (2 * 40 + 1) * sizeof(int32_t));
}

TEST(SavedPoint, GoesOnInASessionOfAnotherCapacityUnlessItIsTooSmall) {
  const std::shared_ptr<const Model> model = toy_model();
  const std::vector<uint8_t> text = random_bytes(19, 7), more = random_bytes(10, 8);
  Session session = open(model);
  session.feed(text);
  const std::vector<uint8_t> saved = session.save();
  session.feed(more);
  for (const uint64_t capacity : {uint64_t{30}, kNoLimit}) {
    Session other = open(model, capacity);
    other.feed(random_bytes(25, 9));
    ASSERT_TRUE(other.restore(saved).ok());
    EXPECT_EQ(other.save(), saved);
    EXPECT_EQ(other.feed(more), more.size());
    EXPECT_EQ(other.save(), session.save());
  }
  Session exact = open(model, 20);
  ASSERT_TRUE(exact.restore(saved).ok());
  EXPECT_EQ(exact.room(), 0u);

  Session small = open(model, 19);
  small.feed(more);
  const std::vector<uint8_t> before = small.save();
  const Result<void> refused = small.restore(saved);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kBadState);
  EXPECT_NE(refused.error().message.find("fits into the context"), std::string::npos);
  EXPECT_EQ(small.save(), before);
}

TEST(SavedPoint, IsAForkWhoseBranchesKnowNothingOfEachOther) {
  const std::shared_ptr<const Model> model = toy_model();
  const std::vector<uint8_t> text = random_bytes(20, 10), left = random_bytes(15, 11), right = random_bytes(15, 12);
  Session one = open(model), other = open(model);
  one.feed(text);
  ASSERT_TRUE(other.restore(one.save()).ok());
  one.feed(left);
  other.feed(right);
  for (const auto& [branch, last] : {std::pair(&one, &left), std::pair(&other, &right)}) {
    Session straight = open(model);
    straight.feed(text);
    straight.feed(*last);
    EXPECT_EQ(branch->save(), straight.save());
    EXPECT_EQ(logits_of(*branch), logits_of(straight));
  }
}

TEST(SavedPoint, KnowsNothingOfABatchThatWasGivenUp) {
  const std::shared_ptr<const Model> model = toy_model({.width = 300});
  const std::vector<uint8_t> text = random_bytes(20, 13);
  Session expected = open(model);
  expected.feed(text);
  size_t stopped = 0;
  for (uint64_t budget = 1000; budget < 4'000'000; budget *= 2) {
    Session session = open(model);
    session.feed(text);
    const size_t fed = session.feed(random_bytes(16, 14), {.budget = budget});
    EXPECT_EQ(fed, session.is_inside_batch() ? 0u : 16u);
    if (!session.is_inside_batch()) continue;
    ++stopped;
    EXPECT_EQ(session.save(), expected.save());
    session.feed(random_bytes(5, 15));
    Session straight = open(model);
    straight.feed(text);
    straight.feed(random_bytes(5, 15));
    EXPECT_EQ(session.save(), straight.save());
  }
  EXPECT_GT(stopped, 5u);
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

TEST(Memory, OfAWholeConversationIsInTheModelsInfo) {
  const ModelInfo info = toy_model()->info();
  EXPECT_EQ(info.state_bytes_per_token, (2u * 40 + 1) * sizeof(int32_t));
  EXPECT_EQ(info.state_bytes, 2u * 40 * sizeof(int32_t) + 50 * info.state_bytes_per_token);
}

TEST(Memory, ALongContextCostsNothingBeforeATextIsLong) {
  const std::shared_ptr<const Model> model = toy_model({.context = ~uint32_t{0}});
  EXPECT_GT(model->info().state_bytes, uint64_t{1} << 40);
  Session session = open(model);
  session.feed(random_bytes(200, 18));
  EXPECT_EQ(session.state_bytes(), 2 * 40 * sizeof(int32_t) + 201 * model->info().state_bytes_per_token);
}

TEST(Session, IsNotTruncatedWhereAStateKnowsOnlyTheWholeText) {
  Session session = open(toy_model());
  session.feed(random_bytes(20, 19));
  const std::vector<uint8_t> saved = session.save();
  EXPECT_FALSE(session.truncate(10));
  EXPECT_EQ(session.save(), saved);
}

#ifndef __SANITIZE_ADDRESS__  // which ends a program that is refused memory
/// While it lives, this process gets `bytes` more than it has.
class MemoryLimit {
 public:
  explicit MemoryLimit(uint64_t bytes) {
    getrlimit(RLIMIT_AS, &before_);
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit limit = before_;
    limit.rlim_cur = pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) + bytes;
    setrlimit(RLIMIT_AS, &limit);
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }
  MemoryLimit(const MemoryLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(Memory, ATextThatCannotGrowEndsThereAndGoesOnWhenItCan) {
  const std::shared_ptr<const Model> model = toy_model({.blocks = 1, .width = 64, .context = 1 << 20});
  Session before = open(model), session = open(model), expected = open(model);
  const std::vector<uint8_t> text = random_bytes(8000, 17);  // 2.1 MB in pages of 16 KB
  ASSERT_EQ(before.feed(std::span(text).first(20)), 20u);
  expected.feed(text);
  const std::vector<uint8_t> whole = expected.save();
  uint64_t read = 0;
  ASSERT_TRUE(session.start({}, 5).ok());
  {
    const MemoryLimit limit(uint64_t{4} << 20);
    std::vector<std::unique_ptr<std::byte[]>> taken(10000);  // what there is, whatever was freed before
    size_t count = 0;
    while ((taken[count] = std::unique_ptr<std::byte[]>(new (std::nothrow) std::byte[96 << 10])) != nullptr) ++count;
    ASSERT_GT(count, 16u);
    for (size_t n = 0; n < 16; ++n) taken[n].reset();  // 1.5 MB
    read = session.feed(text);
    ASSERT_GT(read, 0u);
    ASSERT_LT(read, text.size());
    EXPECT_TRUE(session.lacks_memory());
    EXPECT_EQ(session.position(), read);
    EXPECT_EQ(session.feed(text), 0u);
    EXPECT_TRUE(session.lacks_memory());
    uint8_t byte = 0;
    EXPECT_EQ(session.generate({&byte, 1}), 0u);
    EXPECT_TRUE(session.lacks_memory());
    EXPECT_EQ(session.finish_state(), Finish::kNotFinished);
    const Result<void> refused = before.restore(whole);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
    EXPECT_NE(refused.error().message.find("8000 tokens"), std::string::npos) << refused.error().message;
    EXPECT_EQ(before.position(), 20u);
    EXPECT_EQ(before.feed(std::span(text).subspan(20, 20)), 20u);
  }
  EXPECT_EQ(session.feed(std::span(text).subspan(static_cast<size_t>(read))), text.size() - read);
  EXPECT_FALSE(session.lacks_memory());
  EXPECT_EQ(session.save(), whole);
}
#endif

}  // namespace
}  // namespace tern
