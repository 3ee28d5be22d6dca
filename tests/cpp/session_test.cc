// session_test.cc: one conversation: slices, generation, scoring, saving; and many at once.
#include "session/session.h"

#include <gtest/gtest.h>

#include <cmath>
#include <thread>

#include "tiny_hnet.h"

namespace tern {
namespace {

using test::TinyModel;
using test::TinySpec;

const std::shared_ptr<const Model>& tiny_model() {
  static const std::shared_ptr<const Model> model = test::load_or_fail(TinyModel(TinySpec{}).file);
  return model;
}

std::vector<int32_t> logits_of(const Session& session) { return {session.logits().begin(), session.logits().end()}; }

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
  session.feed({});
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
  const Session fresh(tiny_model());
  EXPECT_EQ(logits_of(used), logits_of(fresh));
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
    const SampleOptions options{.repetition_penalty_q16 = 10 * 65536, .seed = seed};
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
    stepped.feed({&byte, 1});
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
  Context context(*tiny_hnet());
  std::vector<int32_t> logits(kVocab);
  tiny_hnet()->step(kBos, context, logits);
  for (const uint8_t byte : text) {
    tiny_hnet()->step(byte, context, logits);
    stepped.push_back(context.boundaries()[0]);
  }
  EXPECT_GT(std::ranges::count(stepped, 0), 20);  // every kind of byte occurs
  EXPECT_GT(std::ranges::count(stepped, 1), 20);
  EXPECT_GT(std::ranges::count(stepped, 3), 20);
  for (const size_t slice : {size_t{1}, size_t{7}, size_t{16}, size_t{100}, size_t{256}}) {
    Session session(tiny_hnet());
    std::vector<uint8_t> masks(text.size(), 0xff);
    for (size_t at = 0; at < text.size(); at += slice) {
      const size_t size = std::min(slice, text.size() - at);
      session.feed(std::span(text).subspan(at, size), std::span(masks).subspan(at, size));
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
  uint8_t masks[100];
  const size_t size = session.generate(out, masks);
  ASSERT_GT(size, 10u);
  Session replay(tiny_hnet());
  replay.feed(test::bytes_of("Once"));
  std::vector<uint8_t> fed(size);
  replay.feed({out, size}, fed);
  EXPECT_EQ(std::vector<uint8_t>(masks, masks + size), fed);
}

TEST(Boundaries, OfAFlatModelAreNone) {
  Session session(tiny_model());
  std::vector<uint8_t> masks(40, 0xff);
  session.feed(std::vector<uint8_t>(40, 'a'), masks);
  EXPECT_EQ(masks, std::vector<uint8_t>(40, 0));
}

TEST(Session, OfAHierarchicalModelIsRestoredInTheMiddleOfAChunk) {
  const std::vector<uint8_t> text = every_byte_value();
  size_t inside = 0;
  for (size_t at = 1; at < 60; ++at) {
    Session session(tiny_hnet());
    std::vector<uint8_t> masks(at);
    session.feed(std::span(text).first(at), masks);
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
    std::vector<std::optional<uint8_t>> bytes(count);
    for (int step = 0; step < 45; ++step) {
      Session::generate_each(all, bytes);
      for (size_t n = 0; n < count; ++n) {
        uint8_t byte = 0;
        const size_t size = alone[n].generate({&byte, 1});
        ASSERT_EQ(bytes[n], size == 1 ? std::optional(byte) : std::nullopt) << count << " sessions, session " << n;
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
  std::optional<uint8_t> bytes[2];
  EXPECT_DEATH(Session::generate_each(both, bytes), "");
}

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
