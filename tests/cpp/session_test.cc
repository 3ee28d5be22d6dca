// session_test.cc: one conversation: slices, generation, scoring, saving; and many at once.
#include "session/session.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <thread>

#include "tiny_hnet.h"

namespace tern {
namespace {

using test::kBos;
using test::kEos;
using test::kVocab;
using test::TinyModel;
using test::TinySpec;

const std::shared_ptr<const Model>& tiny_model() {
  static const std::shared_ptr<const Model> model = test::load_or_fail(TinyModel(TinySpec{}).file);
  return model;
}

std::vector<int32_t> logits_of(Session& session) { return {session.logits().begin(), session.logits().end()}; }

/// What feed() and generate() say of chunks.
std::vector<uint8_t> feed_with_masks(Session& session, std::span<const uint8_t> bytes) {
  std::vector<uint8_t> masks(bytes.size());
  ChunkMasks observer(masks, session.position() + 1);
  EXPECT_EQ(session.feed(bytes, {.observer = &observer}), bytes.size());
  return masks;
}

std::vector<uint8_t> generate(Session& session, const SampleOptions& options, uint64_t max_bytes, size_t slice) {
  EXPECT_TRUE(session.start(options, max_bytes).ok());
  std::vector<uint8_t> text;
  std::vector<uint8_t> out(slice);
  while (session.finish_state() == Finish::kNotFinished) {
    const size_t size = session.generate(out);
    EXPECT_TRUE(size == slice || session.finish_state() != Finish::kNotFinished);
    text.insert(text.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(size));
  }
  EXPECT_EQ(session.generate(out), 0u);
  return text;
}

std::vector<uint8_t> every_byte_value() {
  std::vector<uint8_t> bytes(256);
  for (size_t b = 0; b < 256; ++b) bytes[b] = static_cast<uint8_t>(b);
  return bytes;
}

TEST(Session, SlicingOfThePromptChangesNothing) {
  const std::vector<uint8_t> prompt = every_byte_value();
  Session whole(tiny_model());
  whole.feed(prompt);
  for (const size_t slice : {size_t{1}, size_t{5}, size_t{16}, size_t{64}, size_t{255}}) {
    Session sliced(tiny_model());
    for (size_t at = 0; at < prompt.size(); at += slice) {
      sliced.feed(std::span(prompt).subspan(at, std::min(slice, prompt.size() - at)));
    }
    EXPECT_EQ(logits_of(sliced), logits_of(whole));
    EXPECT_EQ(sliced.save(), whole.save());
    EXPECT_EQ(sliced.position(), 256u);
  }
}

TEST(Session, TheSameSeedGivesTheSameBytesWhateverTheSlice) {
  SampleOptions options;
  options.seed = 5;
  options.temperature_q16 = 2 * 65536;
  options.repetition_penalty_q16 = 65536 + 6553;
  std::vector<uint8_t> first;
  for (const size_t slice : {size_t{1}, size_t{3}, size_t{100}, size_t{1000}}) {
    Session session(tiny_model());
    session.feed(test::bytes_of("Once upon a time"));
    const std::vector<uint8_t> text = generate(session, options, 300, slice);
    if (first.empty()) first = text;
    EXPECT_EQ(text, first);
  }
  EXPECT_GT(first.size(), 10u);
  Session session(tiny_model());
  session.feed(test::bytes_of("Once upon a time"));
  ++options.seed;
  EXPECT_NE(generate(session, options, 300, 100), first);
}

TEST(Session, AnEmptyPromptIsTheBeginningOfAText) {
  Session session(tiny_model());
  const std::vector<int32_t> at_start = logits_of(session);
  session.feed(std::span<const uint8_t>());
  EXPECT_EQ(logits_of(session), at_start);
  EXPECT_EQ(session.position(), 0u);
  const std::vector<uint8_t> text = generate(session, {}, 10, 10);
  EXPECT_EQ(session.position(), text.size());
}

TEST(Session, ReadsAMegabyteInConstantMemory) {
  const TinyModel tiny(TinySpec{.layers = 1, .hidden = 16, .recurrent = 16, .feed_forward = 16});
  Session session(test::load_or_fail(tiny.file));
  test::Random random(9);
  std::vector<uint8_t> megabyte(1 << 20);
  for (uint8_t& byte : megabyte) byte = static_cast<uint8_t>(random.next());
  session.feed(megabyte);
  EXPECT_EQ(session.position(), megabyte.size());
  EXPECT_LT(session.save().size(), 4000u);
}

TEST(Session, ResetForgetsEverything) {
  Session used(tiny_model());
  used.feed(test::bytes_of("something else entirely"));
  ASSERT_TRUE(used.start({}, 100).ok());
  uint8_t out[10];
  used.generate(out);
  used.reset();
  Session fresh(tiny_model());
  EXPECT_EQ(used.save(), fresh.save());
  EXPECT_EQ(logits_of(used), logits_of(fresh));
  EXPECT_EQ(used.save(), fresh.save()) << "what was read before lies on in the snapshot";
  EXPECT_EQ(used.position(), 0u);
  EXPECT_EQ(used.finish_state(), Finish::kMaxBytes);
  EXPECT_EQ(used.generate(out), 0u);
}

TEST(Session, GenerationCanBeAbandonedAndTheTextContinued) {
  Session session(tiny_model());
  session.feed(test::bytes_of("abc"));
  ASSERT_TRUE(session.start({.seed = 1}, 1000).ok());
  uint8_t out[7];
  ASSERT_EQ(session.generate(out), 7u);
  session.feed(test::bytes_of("def"));

  Session replay(tiny_model());
  replay.feed(test::bytes_of("abc"));
  replay.feed(out);
  replay.feed(test::bytes_of("def"));
  EXPECT_EQ(logits_of(session), logits_of(replay));
  EXPECT_EQ(session.position(), 13u);
}

TEST(Session, GeneratesNothingBeforeStartAndWithoutBytes) {
  Session session(tiny_model());
  uint8_t out[4];
  EXPECT_EQ(session.finish_state(), Finish::kMaxBytes);
  EXPECT_EQ(session.generate(out), 0u);
  ASSERT_TRUE(session.start({}, 0).ok());
  EXPECT_EQ(session.finish_state(), Finish::kMaxBytes);
}

TEST(Session, EndsAtEndOfTextWithoutWritingIt) {
  Session session(tiny_model());
  SampleOptions options{.temperature_q16 = 100 * 65536};  // nearly uniform: 255 comes soon
  const std::vector<uint8_t> text = generate(session, options, 100000, 64);
  EXPECT_EQ(session.finish_state(), Finish::kEndOfText);
  EXPECT_EQ(std::ranges::count(text, kEos), 0);
  EXPECT_EQ(std::ranges::count(text, kBos), 0);
  EXPECT_EQ(session.position(), text.size());
}

/// 60 runs at temperature 2 and above of random weights: without a mask hardly any byte continues a character.
TEST(Session, WritesWellFormedUtf8UnlessRawIsAsked) {
  size_t ill_formed = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    for (const bool raw : {false, true}) {
      Session session(tiny_model());
      SampleOptions options{.temperature_q16 = 131072 + static_cast<uint32_t>(seed) * 65536, .seed = seed, .raw = raw};
      std::vector<uint8_t> text = generate(session, options, 200, 7);
      const size_t valid = valid_utf8_prefix(text);
      if (raw) {
        ill_formed += text.size() - valid > 3;
        continue;
      }
      Utf8Position position;
      for (const uint8_t byte : text) ASSERT_TRUE(position.push(byte)) << "seed " << seed;
      if (session.finish_state() == Finish::kEndOfText) {
        EXPECT_EQ(valid, text.size()) << "seed " << seed;
      }
    }
  }
  EXPECT_GT(ill_formed, 50u);
}

TEST(Session, FinishesTheCharacterInWhichThePromptEnds) {
  const std::string owl = "\xF0\x9F\xA6\x89";
  for (size_t cut = 1; cut < owl.size(); ++cut) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      Session session(tiny_model());
      const std::string prompt = "An owl: " + owl.substr(0, cut);
      session.feed(test::bytes_of(prompt));
      Session restored(tiny_model());
      ASSERT_TRUE(restored.restore(session.save()).ok());
      const SampleOptions options{.temperature_q16 = 6 * 65536, .seed = seed};
      std::vector<uint8_t> text(prompt.begin(), prompt.end());
      for (const uint8_t byte : generate(session, options, 40, 40)) text.push_back(byte);
      EXPECT_GT(valid_utf8_prefix(text), prompt.size() - cut) << "cut " << cut << " seed " << seed;
      EXPECT_LT(text.size() - valid_utf8_prefix(text), 4u);
      std::vector<uint8_t> again(prompt.begin(), prompt.end());
      for (const uint8_t byte : generate(restored, options, 40, 1)) again.push_back(byte);
      EXPECT_EQ(again, text);
    }
  }
}

TEST(Session, AWrongOptionIsAnErrorAndChangesNothing) {
  Session session(tiny_model());
  ASSERT_TRUE(session.start({.seed = 3}, 50).ok());
  SampleOptions wrong;
  wrong.top_k = 0;
  const Result<void> refused = session.start(wrong, 10);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kBadOption);
  EXPECT_EQ(session.finish_state(), Finish::kNotFinished);
  Session other(tiny_model());
  uint8_t a[20];
  const size_t size = session.generate(a);
  EXPECT_EQ(generate(other, {.seed = 3}, size, 64), std::vector<uint8_t>(a, a + size));
}

TEST(Session, ThePenaltyCountsTheLast256BytesOfTheText) {
  std::vector<uint8_t> text(44, 'z');  // out of the window by the end
  for (size_t n = 0; n < 256; ++n) text.push_back(static_cast<uint8_t>('a' + n % 20));
  Session session(tiny_model());
  session.feed(text);
  size_t changed_by_penalty = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const SampleOptions options{.repetition_penalty_q16 = 10 * 65536, .seed = seed, .raw = true};
    Sampler expected(kBytes, options);
    for (const uint8_t byte : std::span(text).last(256)) expected.observe(byte);
    const auto byte = static_cast<uint8_t>(expected.next(session.logits()));
    changed_by_penalty += byte != Sampler(kBytes, {.seed = seed}).next(session.logits());

    Session copy(tiny_model());
    ASSERT_TRUE(copy.restore(session.save()).ok());
    const std::vector<uint8_t> made = generate(copy, options, 1, 1);
    EXPECT_EQ(made, byte == kEos ? std::vector<uint8_t>() : std::vector<uint8_t>{byte});
  }
  EXPECT_GT(changed_by_penalty, 0u);
}

TEST(Session, ScoresWhatTheLogitsSay) {
  const std::vector<uint8_t> text = every_byte_value();
  Session stepped(tiny_model());
  double bits = 0;
  uint64_t top1 = 0;
  uint64_t top5 = 0;
  for (const uint8_t byte : text) {
    const std::vector<int32_t> logits = logits_of(stepped);
    const double largest = *std::ranges::max_element(logits) / 65536.0;
    double sum = 0;
    for (const int32_t logit : logits) sum += std::exp(logit / 65536.0 - largest);
    bits += (std::log(sum) + largest - logits[byte] / 65536.0) / std::log(2.0);
    const auto better = std::ranges::count_if(logits, [&](int32_t logit) { return logit > logits[byte]; });
    top1 += better < 1;
    top5 += better < 5;
    stepped.feed(std::span(&byte, 1));
  }
  for (const size_t slice : {size_t{1}, size_t{10}, size_t{16}, size_t{256}}) {
    Session session(tiny_model());
    Score total;
    for (size_t at = 0; at < text.size(); at += slice) {
      const Result<Score> part = session.score(std::span(text).subspan(at, std::min(slice, text.size() - at)));
      ASSERT_TRUE(part.ok());
      total.bytes += part.value().bytes;
      total.bits_q32 += part.value().bits_q32;
      total.top1 += part.value().top1;
      total.top5 += part.value().top5;
    }
    EXPECT_EQ(total.bytes, 256u);
    EXPECT_NEAR(static_cast<double>(total.bits_q32) / 4294967296.0, bits, 256 * 1e-5);
    EXPECT_EQ(total.top1, top1);
    EXPECT_EQ(total.top5, top5);
    EXPECT_EQ(logits_of(session), logits_of(stepped));
    EXPECT_EQ(session.position(), 256u);
  }
}

TEST(Session, RestoreContinuesExactly) {
  Session session(tiny_model());
  session.feed(every_byte_value());
  session.feed(test::bytes_of("and more, so that the ring of recent bytes has wrapped"));
  const std::vector<uint8_t> saved = session.save();
  SampleOptions options{.repetition_penalty_q16 = 2 * 65536, .seed = 8};
  const std::vector<uint8_t> expected = generate(session, options, 60, 60);

  Session other(tiny_model());
  other.feed(test::bytes_of("another text"));
  ASSERT_TRUE(other.start({}, 100).ok());
  ASSERT_TRUE(other.restore(saved).ok());
  EXPECT_EQ(other.finish_state(), Finish::kMaxBytes);
  EXPECT_EQ(other.position(), 256u + 54);
  EXPECT_EQ(other.save(), saved);
  EXPECT_EQ(generate(other, options, 60, 13), expected);
}

TEST(Session, RestoreRefusesEveryDamagedBlobAndChangesNothing) {
  Session session(tiny_model());
  session.feed(test::bytes_of("state worth keeping"));
  const std::vector<uint8_t> saved = session.save();
  Session other(tiny_model());
  other.feed(test::bytes_of("other"));
  const std::vector<uint8_t> before = other.save();
  const auto expect_refused = [&](std::span<const uint8_t> blob) {
    const Result<void> result = other.restore(blob);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ErrorCode::kBadState);
  };
  for (size_t at = 0; at < saved.size(); ++at) {
    std::vector<uint8_t> damaged = saved;
    damaged[at] ^= 0x10;
    expect_refused(damaged);
  }
  for (size_t size = 0; size < saved.size(); size += 13) expect_refused(std::span(saved).first(size));
  std::vector<uint8_t> longer = saved;
  longer.push_back(0);
  expect_refused(longer);
  EXPECT_EQ(other.save(), before);
}

TEST(Session, RestoreRefusesABlobOfAnotherModel) {
  Session session(tiny_model());
  Session other(test::load_or_fail(TinyModel(TinySpec{.seed = 99}).file));
  const Result<void> result = other.restore(session.save());
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("fingerprint"), std::string::npos);
}

TEST(Session, SessionsOfOneModelAreIndependentAlsoOnThreads) {
  constexpr size_t kSessions = 4;
  std::vector<std::vector<uint8_t>> alone(kSessions);
  for (size_t n = 0; n < kSessions; ++n) {
    Session session(tiny_model());
    alone[n] = generate(session, {.seed = n}, 200, 50);
  }
  std::vector<std::vector<uint8_t>> together(kSessions);
  std::vector<std::thread> threads;
  for (size_t n = 0; n < kSessions; ++n) {
    threads.emplace_back([n, &together] {
      Session session(tiny_model());
      together[n] = generate(session, {.seed = n}, 200, 1 + n);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(together, alone);
}

// ---- hierarchical models --------------------------------------------------------------------------------------------

const std::shared_ptr<const Model>& tiny_hnet() {
  static const std::shared_ptr<const Model> model = test::load_or_fail(test::TinyHnet(test::two_stages()).file);
  return model;
}

TEST(Boundaries, AreTheSameHoweverTheTextIsSliced) {
  const std::vector<uint8_t> text = every_byte_value();
  std::vector<uint8_t> stepped;
  test::Text context(*tiny_hnet());
  std::vector<int32_t> logits(kVocab);
  context.step(kBos, logits);
  for (const uint8_t byte : text) {
    context.step(byte, logits);
    stepped.push_back(context.boundaries()[0]);
  }
  EXPECT_GT(std::ranges::count(stepped, 0), 20);  // every kind of byte occurs
  EXPECT_GT(std::ranges::count(stepped, 1), 20);
  EXPECT_GT(std::ranges::count(stepped, 3), 20);
  for (const size_t slice : {size_t{1}, size_t{7}, size_t{16}, size_t{100}, size_t{256}}) {
    Session session(tiny_hnet());
    std::vector<uint8_t> masks;
    for (size_t at = 0; at < text.size(); at += slice) {
      const size_t size = std::min(slice, text.size() - at);
      const std::vector<uint8_t> of_slice = feed_with_masks(session, std::span(text).subspan(at, size));
      masks.insert(masks.end(), of_slice.begin(), of_slice.end());
    }
    EXPECT_EQ(masks, stepped);
    EXPECT_EQ(logits_of(session), logits);
  }
}

TEST(Boundaries, OfGeneratedBytesAreThoseOfTheSameBytesFed) {
  Session session(tiny_hnet());
  session.feed(test::bytes_of("Once"));
  ASSERT_TRUE(session.start({.seed = 4}, 100).ok());
  uint8_t out[100];
  std::vector<uint8_t> masks(100);
  ChunkMasks observer(masks, session.position() + 1);
  const size_t size = session.generate(out, {.observer = &observer});
  ASSERT_GT(size, 10u);
  Session replay(tiny_hnet());
  replay.feed(test::bytes_of("Once"));
  masks.resize(size);
  EXPECT_EQ(masks, feed_with_masks(replay, {out, size}));
}

TEST(Boundaries, OfAFlatModelAreNone) {
  Session session(tiny_model());
  EXPECT_EQ(feed_with_masks(session, std::vector<uint8_t>(40, 'a')), std::vector<uint8_t>(40, 0));
}

TEST(Session, OfAHierarchicalModelIsRestoredInTheMiddleOfAChunk) {
  const std::vector<uint8_t> text = every_byte_value();
  size_t inside = 0;
  for (size_t at = 1; at < 60; ++at) {
    Session session(tiny_hnet());
    const std::vector<uint8_t> masks = feed_with_masks(session, std::span(text).first(at));
    inside += masks.back() == 0;
    const std::vector<uint8_t> saved = session.save();
    Session other(tiny_hnet());
    other.feed(test::bytes_of("something else"));
    ASSERT_TRUE(other.restore(saved).ok());
    EXPECT_EQ(other.save(), saved);
    session.feed(std::span(text).subspan(at, 40));
    other.feed(std::span(text).subspan(at, 40));
    EXPECT_EQ(other.save(), session.save());
  }
  EXPECT_GT(inside, 5u);
}

// ---- several sessions at once ---------------------------------------------------------------------------------------

/// `count` sessions in different places of different texts, generating; some end early.
std::vector<Session> differing_sessions(const std::shared_ptr<const Model>& model, size_t count) {
  std::vector<Session> sessions;
  const std::vector<uint8_t> text = every_byte_value();
  for (size_t n = 0; n < count; ++n) {
    Session& session = sessions.emplace_back(model);
    session.feed(std::span(text).subspan(7 * n % 50, n % 20));
    SampleOptions options;
    options.seed = 3 * n;
    options.greedy = n % 4 == 1;
    EXPECT_TRUE(session.start(options, n % 3 == 2 ? 3 * n : 40).ok());
  }
  return sessions;
}

void expect_together_as_alone(const std::shared_ptr<const Model>& model) {
  for (const size_t count : {size_t{1}, size_t{2}, size_t{5}, kTile, kTile + 3}) {
    std::vector<Session> alone = differing_sessions(model, count), together = differing_sessions(model, count);
    std::vector<Session*> all;
    for (Session& session : together) all.push_back(&session);
    std::vector<std::optional<Token>> bytes(count);
    for (int step = 0; step < 45; ++step) {
      Session::generate_each(all, bytes);
      for (size_t n = 0; n < count; ++n) {
        uint8_t byte = 0;
        const size_t size = alone[n].generate(std::span(&byte, 1));
        ASSERT_EQ(bytes[n], size == 1 ? std::optional<Token>(byte) : std::nullopt)
            << count << " sessions, session " << n;
        ASSERT_EQ(alone[n].finish_state(), together[n].finish_state());
      }
      if (step % 11 != 0) continue;
      for (size_t n = 0; n < count; ++n) {  // as generation leaves them, and after other work in between
        ASSERT_EQ(alone[n].save(), together[n].save()) << count << " sessions, session " << n;
        ASSERT_EQ(logits_of(alone[n]), logits_of(together[n]));
      }
      alone[0].feed(every_byte_value());
      together[0].feed(every_byte_value());
    }
    for (size_t n = 0; n < count; ++n) EXPECT_EQ(alone[n].save(), together[n].save());
  }
}

TEST(GenerateEach, DoesToEachSessionWhatItWouldDoAlone) { expect_together_as_alone(tiny_model()); }

TEST(GenerateEach, KnowsModelsWithoutAConvolution) {
  expect_together_as_alone(test::load_or_fail(TinyModel(TinySpec{.conv_kernel = 0}).file));
}

TEST(GenerateEach, LetsEveryTextOfAHierarchicalModelHaveItsOwnChunks) {
  for (const auto& spec : {test::one_stage(), test::two_stages()}) {
    expect_together_as_alone(test::load_or_fail(test::TinyHnet(spec).file));
  }
}

TEST(GenerateEach, OfNobodyDoesNothing) { Session::generate_each({}, {}); }

TEST(GenerateEachDeathTest, SessionsOfDifferentModelsTrap) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Session one(tiny_model()), other(test::load_or_fail(TinyModel(TinySpec{}).file));
  Session* const both[] = {&one, &other};
  std::optional<Token> bytes[2];
  EXPECT_DEATH(Session::generate_each(both, bytes), "");
}

// ---- work that stops ------------------------------------------------------------------------------------------------

const std::shared_ptr<const Model>& wide_hnet() {  // wide enough for products of several pieces
  static const std::shared_ptr<const Model> model = [] {
    test::TinyHnetSpec spec = test::one_stage();
    spec.levels = {{128, 96, 160}, {256, 192, 320}};
    return test::load_or_fail(test::TinyHnet(spec).file);
  }();
  return model;
}

/// What a text costs to read, in multiply-adds and about.
constexpr uint64_t kMostBudget = 3'000'000;

/// Budgets from a single operation to several tiles.
uint64_t some_budget(test::Random& random) { return 1 + random.next() % (kMostBudget >> random.below(20)); }

TEST(Budget, ReadingInStepsOfAnySizeIsReadingAtOnce) {
  test::Random random(12);
  const std::vector<uint8_t> text = every_byte_value();
  for (const auto& model : {tiny_model(), tiny_hnet(), wide_hnet()}) {
    Session whole(model);
    const std::vector<uint8_t> expected = feed_with_masks(whole, text);
    for (int repeat = 0; repeat < 4; ++repeat) {
      Session sliced(model);
      std::vector<uint8_t> masks(text.size());
      size_t fed = 0, calls = 0;
      for (; fed < text.size(); ++calls) {
        ChunkMasks observer{std::span(masks).subspan(fed), 1 + fed};
        fed += sliced.feed(std::span(text).subspan(fed), {.budget = some_budget(random), .observer = &observer});
        ASSERT_EQ(sliced.position(), fed);
      }
      EXPECT_GT(calls, 30u);
      EXPECT_EQ(masks, expected);
      EXPECT_EQ(sliced.save(), whole.save());
    }
  }
}

TEST(Budget, WritingInStepsOfAnySizeIsWritingAtOnce) {
  test::Random random(13);
  const SampleOptions options{.repetition_penalty_q16 = 2 * 65536, .seed = 21};
  for (const auto& model : {tiny_model(), tiny_hnet(), wide_hnet()}) {
    Session whole(model);
    const std::vector<uint8_t> expected = generate(whole, options, 100, 100);
    Session sliced(model);
    ASSERT_TRUE(sliced.start(options, 100).ok());
    std::vector<uint8_t> text, out(100);
    size_t calls = 0;
    for (; sliced.finish_state() == Finish::kNotFinished; ++calls) {
      const size_t size = sliced.generate(out, {.budget = some_budget(random)});
      text.insert(text.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(size));
      ASSERT_EQ(sliced.position(), text.size());
    }
    EXPECT_GT(calls, 30u);
    EXPECT_EQ(text, expected);
    EXPECT_EQ(sliced.finish_state(), whole.finish_state());
    EXPECT_EQ(sliced.save(), whole.save());
  }
}

TEST(Budget, WritingTogetherInStepsOfAnySizeIsWritingAlone) {
  test::Random random(17);
  for (const auto& model : {tiny_model(), tiny_hnet(), wide_hnet()}) {
    const auto workspace = std::shared_ptr(std::move(model->new_workspace()).value());
    std::vector<Session> alone, together;
    std::vector<Session*> all;
    for (size_t n = 0; n < 5; ++n) {
      alone.emplace_back(model);
      together.push_back(std::move(Session::open(model, workspace)).value());
      const SampleOptions options{.repetition_penalty_q16 = 2 * 65536, .seed = n};
      for (Session* each : {&alone[n], &together[n]}) ASSERT_TRUE(each->start(options, 20 + 3 * n).ok());
    }
    for (Session& session : together) all.push_back(&session);
    std::vector<std::optional<Token>> tokens(all.size());
    size_t stops = 0;
    for (int step = 0; step < 30; ++step) {
      for (bool done = false; !done; stops += !done) {
        uint64_t budget = some_budget(random);
        done = Session::generate_each(all, tokens, budget);
        if (!done && stops % 7 == 3) together[stops % 5].save();  // what is done of the step is thrown away
      }
      for (size_t n = 0; n < all.size(); ++n) {
        Token token = 0;
        const size_t size = alone[n].generate(std::span(&token, 1));
        ASSERT_EQ(tokens[n], size == 1 ? std::optional(token) : std::nullopt) << "session " << n << " step " << step;
        ASSERT_EQ(alone[n].finish_state(), together[n].finish_state());
      }
    }
    EXPECT_GT(stops, 30u);
    for (size_t n = 0; n < all.size(); ++n) EXPECT_EQ(alone[n].save(), together[n].save());
  }
}

TEST(Budget, ScoringInStepsOfAnySizeIsScoringAtOnce) {
  test::Random random(14);
  const std::vector<uint8_t> text = every_byte_value();
  for (const auto& model : {tiny_model(), wide_hnet()}) {
    Session whole(model), sliced(model);
    const Result<Score> expected = whole.score(text);
    Score sum;
    while (sum.bytes < text.size()) {
      const auto rest = std::span(text).subspan(static_cast<size_t>(sum.bytes));
      ASSERT_TRUE(sum.add(sliced.score(rest, {.budget = some_budget(random)}).value()));
    }
    EXPECT_EQ(sum.bits_q32, expected.value().bits_q32);
    EXPECT_EQ(sum.top1, expected.value().top1);
    EXPECT_EQ(sum.top5, expected.value().top5);
    EXPECT_EQ(sliced.save(), whole.save());
  }
}

TEST(Budget, TheScoresOfTokensAddUpToThatOfTheText) {
  test::Random random(15);
  const std::vector<uint8_t> text = every_byte_value();
  const std::vector<Token> tokens(text.begin(), text.end());
  for (const auto& model : {tiny_model(), wide_hnet()}) {
    Session whole(model), sliced(model), stepped(model);
    const Result<Score> expected = whole.score(text);
    std::vector<TokenScore> scores(tokens.size());
    std::vector<Likely> top(3 * tokens.size());
    for (size_t done = 0; done < tokens.size();) {
      done += sliced.score_each(std::span(tokens).subspan(done), std::span(scores).subspan(done),
                                std::span(top).subspan(3 * done), {.budget = some_budget(random)});
    }
    Score sum;
    for (size_t n = 0; n < tokens.size(); ++n) {
      const std::vector<int32_t> logits = logits_of(stepped);
      ASSERT_EQ(top[3 * n].token, std::ranges::max_element(logits) - logits.begin());
      stepped.feed(std::span(tokens).subspan(n, 1)).value();
      ASSERT_TRUE(sum.add({1, scores[n].bits_q32, scores[n].rank < 1, scores[n].rank < 5}));
    }
    EXPECT_EQ(sum.bits_q32, expected.value().bits_q32);
    EXPECT_EQ(sum.top1, expected.value().top1);
    EXPECT_EQ(sum.top5, expected.value().top5);
    EXPECT_EQ(sliced.save(), whole.save());
  }
}

TEST(Budget, CodingInStepsOfAnySizeIsCodingAtOnce) {
  test::Random random(16);
  const std::vector<uint8_t> text = every_byte_value();
  const std::vector<Token> tokens(text.begin(), text.end());
  for (const auto& model : {tiny_model(), wide_hnet()}) {
    Session whole(model), sliced(model), back(model);
    Encoder one, other;
    ASSERT_EQ(whole.encode(tokens, one), tokens.size());
    for (size_t done = 0; done < tokens.size();) {
      done += sliced.encode(std::span(tokens).subspan(done), other, {.budget = some_budget(random)});
    }
    std::vector<uint8_t> code = one.finish();
    EXPECT_EQ(other.finish(), code);
    Decoder decoder(std::move(code));
    std::vector<Token> found(tokens.size());
    bool damaged = false;
    for (size_t done = 0; done < tokens.size() && !damaged;) {
      done += back.decode(std::span(found).subspan(done), decoder, damaged, {.budget = some_budget(random)});
    }
    EXPECT_FALSE(damaged);
    EXPECT_EQ(found, tokens);
    EXPECT_EQ(back.save(), whole.save());
    EXPECT_EQ(sliced.save(), whole.save());
  }
}

TEST(Budget, WhatWasNotAnsweredForHasNotHappened) {
  test::Random random(15);
  const std::vector<uint8_t> text = every_byte_value();
  for (const auto& model : {tiny_model(), tiny_hnet()}) {
    for (int repeat = 0; repeat < 60; ++repeat) {
      Session given_up(model);
      size_t fed = 0;
      for (int calls = 0; calls < 4; ++calls) {
        fed += given_up.feed(std::span(text).subspan(fed), {.budget = some_budget(random)});
      }
      Session expected(model);
      expected.feed(std::span(text).first(fed));
      switch (repeat % 4) {
        case 0:
          break;
        case 1:  // other bytes than those that were begun
          given_up.feed(test::bytes_of("another end"));
          expected.feed(test::bytes_of("another end"));
          break;
        case 2:
          EXPECT_EQ(generate(given_up, {.seed = 2}, 9, 3), generate(expected, {.seed = 2}, 9, 9));
          break;
        default:
          given_up.reset();
          expected.reset();
      }
      ASSERT_EQ(given_up.save(), expected.save());
    }
  }
}

TEST(Budget, ConversationsThatShareAWorkspaceCanStopAnywhere) {
  test::Random random(16);
  const std::shared_ptr<const Model>& model = tiny_hnet();
  const std::shared_ptr<Workspace> workspace = std::move(model->new_workspace()).value();
  const std::vector<uint8_t> text = every_byte_value();
  std::vector<Session> sessions;
  for (int n = 0; n < 3; ++n) sessions.push_back(std::move(Session::open(model, workspace)).value());
  std::array<size_t, 3> fed{};
  for (size_t turn = 0; *std::ranges::min_element(fed) < text.size(); ++turn) {
    const size_t n = turn % fed.size(), from = 40 * n;  // each a text of its own
    const auto rest = std::span(text).subspan(std::min(fed[n], text.size() - 1), 1);
    if (fed[n] < text.size()) fed[n] += sessions[n].feed(rest, {.budget = some_budget(random) + from});
  }
  Session whole(model);
  whole.feed(text);
  for (Session& session : sessions) EXPECT_EQ(session.save(), whole.save());
  ASSERT_EQ(sessions.back().feed(text, {.budget = 1000}), 0u);
  sessions.pop_back();  // in the middle of its work
  sessions[0].feed(test::bytes_of("on"));
  whole.feed(test::bytes_of("on"));
  EXPECT_EQ(sessions[0].save(), whole.save());
}

TEST(Budget, SeveralTextsAtOnceCanStopAnywhere) {
  test::Random random(17);
  for (const auto& model : {tiny_model(), tiny_hnet(), wide_hnet()}) {
    const auto workspace = std::move(model->new_workspace()).value();
    std::vector<std::unique_ptr<State>> at_once, in_steps;
    std::vector<State*> these, those;
    for (size_t n = 0; n < 5; ++n) {
      at_once.push_back(std::move(model->new_state(kNoLimit)).value());
      in_steps.push_back(std::move(model->new_state(kNoLimit)).value());
      these.push_back(at_once.back().get());
      those.push_back(in_steps.back().get());
    }
    std::vector<int32_t> expected(5 * kVocab), found(5 * kVocab);
    for (Token step = 0; step < 30; ++step) {
      const Token tokens[] = {254 - step, 3 * step, 7 * step, 32, 97 + step};
      model->run({.tokens = tokens, .states = these, .want = Want::kAll, .logits = expected}, *workspace);
      for (uint64_t budget = 0; !model->run({.tokens = tokens, .states = those, .want = Want::kAll, .logits = found},
                                            *workspace, budget = some_budget(random), 1000);) {
      }
      ASSERT_EQ(found, expected);
    }
    for (size_t n = 0; n < 5; ++n) EXPECT_EQ(test::words_of(*these[n]), test::words_of(*those[n]));
  }
}

TEST(Session, CutsWorkByTheBudgetOfTheCallAndNotByWhatIsLeftOfIt) {
  const std::shared_ptr<const Model>& model = wide_hnet();
  const std::shared_ptr<Workspace> workspace = std::move(model->new_workspace()).value();
  Session session = std::move(Session::open(model, workspace)).value();
  const std::string text(200, 'x');
  std::span<const uint8_t> rest = test::bytes_of(text);
  constexpr uint64_t kBudget = 3'000'001;
  for (size_t calls = 0; !rest.empty(); ++calls) {
    ASSERT_LT(calls, 10'000u);
    rest = rest.subspan(session.feed(rest, {.budget = kBudget}));
    ASSERT_EQ(workspace->piece(), kBudget / 4);
  }
}

#ifndef __SANITIZE_ADDRESS__  // whose allocator mallinfo2 does not see
TEST(Session, CostsWhatTheModelSaysAndAFewKilobytes) {
  const std::shared_ptr<const Model>& model = wide_hnet();
  const std::shared_ptr<Workspace> workspace = std::move(model->new_workspace()).value();
  std::vector<Session> sessions;
  const size_t before = mallinfo2().uordblks;
  constexpr size_t kCount = 200;
  sessions.reserve(kCount);
  for (size_t n = 0; n < kCount; ++n) {
    sessions.push_back(std::move(Session::open(model, workspace)).value());
    sessions.back().feed(test::bytes_of("a few words"));
  }
  const size_t each = (mallinfo2().uordblks - before) / kCount;
  EXPECT_GE(each, model->info().state_bytes);
  EXPECT_LE(each, model->info().state_bytes + 4096);
}
#endif

TEST(Session, KeepsItsModelAlive) {
  std::shared_ptr<const Model> model = test::load_or_fail(TinyModel(TinySpec{}).file);
  const std::weak_ptr<const Model> watch = model;
  {
    Session session(std::move(model));
    model.reset();
    EXPECT_FALSE(watch.expired());
    session.feed(test::bytes_of("still here"));
  }
  EXPECT_TRUE(watch.expired());  // and with the last session its memory goes
}

}  // namespace
}  // namespace tern
