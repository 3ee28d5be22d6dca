// parallel_test.cc: every part is done once, whatever the threads do, and the number of threads never changes a byte.
#include "base/parallel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <random>
#include <thread>

#include "base/mailbox.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "session/choose_threads.h"
#include "tiny_hnet.h"
#include "tiny_toy.h"
#include "tools/files.h"

namespace tern {
namespace {

constexpr uint32_t kCounts[] = {2, 3, 8};

/// Threads for one test; also where a product would not be worth them.
struct Threads {
  explicit Threads(uint32_t count) {
    set_threads(count);
    dispatch().products_per_thread = 1;
  }
  ~Threads() {
    set_threads(1);
    dispatch().products_per_thread = Dispatch{}.products_per_thread;
  }
};

// ---- The threads ----------------------------------------------------------------------------------------------------

TEST(Parallel, DoesEveryPartOnceAndIsDoneWhenItReturns) {
  for (const uint32_t count : {1u, 2u, 3u, 8u, kMaxThreads}) {
    const Threads threads(count);
    for (uint32_t round = 0; round < 2000 / count; ++round) {
      for (const uint32_t parts : {1u, count / 2 + 1, count}) {
        std::array<uint32_t, kMaxThreads> done{};  // not atomic: a thread sanitizer would see a part that is late
        parallel(parts, [&](uint32_t part) { ++done[part]; });
        EXPECT_EQ(std::count(done.begin(), done.end(), 1u), parts);
        EXPECT_EQ(std::count(done.begin(), done.end(), 0u), kMaxThreads - parts);
      }
    }
  }
}

/// A clockwork that goes through one helper's waiting on one thread: `on_wait` happens while the helper sleeps.
struct Clockwork {
  static constexpr int kSpins = 3;
  static inline std::function<void()> on_pause = [] {}, on_wait;
  static inline int waits = 0, wakes = 0;
  static void pause() { on_pause(); }
  static void wait(std::atomic<uint32_t>&, uint32_t) {
    ++waits;
    on_wait();
  }
  static void wake(std::atomic<uint32_t>&) { ++wakes; }
};

TEST(Mailbox, AHelperThatIsWokenForNothingGoesToSleepAgain) {
  Mailbox<Clockwork> box;
  Clockwork::waits = Clockwork::wakes = 0;
  int pauses = 0;
  Clockwork::on_pause = [&] {
    if (++pauses > 100) box.offer();  // spins on and on
  };
  Clockwork::on_wait = [&] {  // the first two times a notification of a part that is long done
    if (Clockwork::waits == 3) box.offer();
  };
  EXPECT_TRUE(box.next());
  EXPECT_EQ(Clockwork::waits, 3);
  EXPECT_EQ(Clockwork::wakes, 1);
  EXPECT_LE(pauses, Clockwork::kSpins);
}

TEST(Mailbox, APartIsTakenOnceAndTheEndIsTheEnd) {
  Mailbox<Clockwork> box;
  Clockwork::on_pause = [] {};
  Clockwork::waits = Clockwork::wakes = 0;
  box.offer();
  EXPECT_TRUE(box.take());
  EXPECT_FALSE(box.take());
  box.offer();
  EXPECT_TRUE(box.next());
  EXPECT_EQ(Clockwork::wakes, 0) << "nobody slept";
  Clockwork::on_wait = [&] { box.end(); };
  EXPECT_FALSE(box.next());
  EXPECT_FALSE(box.next());
  EXPECT_EQ(Clockwork::wakes, 1);
  box.clear();
  box.offer();
  EXPECT_TRUE(box.next());
}

TEST(Parallel, WakesThreadsThatHaveGoneToSleep) {
  const Threads threads(2);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    // The first part does not end before the second has begun: it would be the caller's otherwise.
    std::atomic<bool> begun = false;
    parallel(2, [&](uint32_t part) {
      if (part == 1) begun = true;
      while (!begun) std::this_thread::yield();
    });
  }
}

TEST(Parallel, OfTwoCallersTheSecondDoesEverythingItself) {
  const Threads threads(2);
  std::atomic<bool> inside = false, release = false;
  std::thread other([&] {
    parallel(2, [&](uint32_t) {
      inside = true;
      while (!release) std::this_thread::yield();
    });
  });
  while (!inside) std::this_thread::yield();
  std::array<std::thread::id, 2> who;
  parallel(2, [&](uint32_t part) { who[part] = std::this_thread::get_id(); });
  EXPECT_EQ(who[0], std::this_thread::get_id());
  EXPECT_EQ(who[1], std::this_thread::get_id());
  release = true;
  other.join();
}

TEST(Parallel, StartsAndEndsThreadsAsOftenAsOneLikes) {
  for (uint32_t round = 0; round < 30; ++round) {
    set_threads(round % 5 + 1);
    std::atomic<uint32_t> parts = 0;
    parallel(threads(), [&](uint32_t) { ++parts; });
    EXPECT_EQ(parts, threads());
  }
  set_threads(1);
}

TEST(Parallel, SplitsIntoPartsThatCoverEverything) {
  for (const uint32_t parts : {1u, 2u, 3u, 7u}) {
    for (const uint32_t count : {7u, 8u, 100u, UINT32_MAX}) {
      EXPECT_EQ(part_begin(count, 0, parts), 0u);
      EXPECT_EQ(part_begin(count, parts, parts), count);
      for (uint32_t part = 0; part < parts; ++part) {
        EXPECT_LT(part_begin(count, part, parts), part_begin(count, part + 1, parts));
      }
    }
  }
  const Threads threads(3);
  EXPECT_EQ(parts_for(0, 10), 1u);
  EXPECT_EQ(parts_for(19, 10), 1u);
  EXPECT_EQ(parts_for(20, 10), 2u);
  EXPECT_EQ(parts_for(UINT64_MAX, 10), 3u);
}

TEST(ParallelDeathTest, MorePartsThanThreadsTrap) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(run_parts(2, [](const void*, uint32_t) {}, nullptr), "");
  EXPECT_DEATH(set_threads(0), "");
  EXPECT_DEATH(set_threads(kMaxThreads + 1), "");
}

// ---- The engine with threads ----------------------------------------------------------------------------------------

TEST(Threads, DoNotChangeAProductOfAnyShape) {
  std::mt19937 random(20261121);
  for (const uint32_t rows : {1u, 7u, 8u, 9u, 16u, 17u, 40u, 63u, 200u}) {
    for (const uint32_t cols : {1u, 15u, 16u, 33u, 300u}) {
      for (const size_t tokens : {size_t{1}, size_t{2}, size_t{11}, size_t{16}, size_t{17}}) {
        PackedTernary w(rows, cols);
        std::vector<uint8_t> codes(cols);
        for (uint32_t r = 0; r < rows; ++r) {
          for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % 3);
          w.pack_row(r, codes);
        }
        const size_t padded = padded_cols(cols), y_stride = rows + 3;
        std::vector<int8_t> x(tokens * padded);
        std::vector<int32_t> sums(tokens);
        for (size_t t = 0; t < tokens; ++t) {
          for (size_t c = 0; c < cols; ++c) {
            sums[t] += x[t * padded + c] = static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
          }
        }
        const auto run = [&] {
          std::vector<int32_t> y(tokens * y_stride, 0x5A5A5A5A), one(rows);  // what lies between the rows stays
          ternary_matmul(w.view(), {x.data(), tokens, padded}, sums, {y.data(), tokens, rows, y_stride});
          ternary_matvec(w.view(), std::span<const int8_t>(x).first(padded), sums[0], one);
          y.insert(y.end(), one.begin(), one.end());
          return y;
        };
        const std::vector<int32_t> expected = run();
        for (const uint32_t count : kCounts) {
          const Threads threads(count);
          EXPECT_EQ(run(), expected) << rows << "x" << cols << ", " << tokens << " tokens, " << count << " threads";
        }
      }
    }
  }
}

/// What a model does with some text: every logit, and everything it remembers.
std::vector<uint8_t> record_of(const std::shared_ptr<const Model>& model) {
  Session session(model);
  std::vector<uint8_t> record;
  const auto note = [&] {
    const std::vector<uint8_t> saved = session.save();
    record.insert(record.end(), saved.begin(), saved.end());
  };
  std::vector<uint8_t> masks(20);
  ChunkMasks observer(masks, 1);
  session.feed(test::bytes_of("Once upon a time, th"), {.observer = &observer});
  record.insert(record.end(), masks.begin(), masks.end());
  note();
  for (const uint8_t byte : test::bytes_of("ere was")) {
    session.feed(std::span(&byte, 1));
    note();
  }
  EXPECT_TRUE(session.start({.seed = 4}, 30).ok());
  std::vector<Token> out(30);
  out.resize(session.generate(out));
  record.insert(record.end(), out.begin(), out.end());
  EXPECT_TRUE(session.score(test::bytes_of(" a little dog.")).ok());
  note();
  return record;
}

TEST(Threads, DoNotChangeAByteOfAnyGoldenModel) {
  size_t models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TERN_SOURCE_DIR "/tests/golden")) {
    if (entry.path().extension() != ".gguf") continue;
    const auto model = load_model(entry.path());
    ASSERT_TRUE(model.ok()) << model.error().message;
    const std::vector<uint8_t> expected = record_of(model.value());
    for (const uint32_t count : kCounts) {
      const Threads threads(count);
      EXPECT_EQ(record_of(model.value()), expected) << entry.path() << " with " << count << " threads";
    }
    ++models;
  }
  EXPECT_GE(models, 4u);
}

TEST(Threads, AreSharedByConversationsOnThreadsOfTheirOwn) {
  const auto model = test::load_or_fail(test::TinyModel(test::TinySpec{}).file);
  const std::vector<uint8_t> expected = record_of(model);
  const Threads threads(3);
  std::array<std::vector<uint8_t>, 4> records;
  std::vector<std::thread> conversations;
  for (std::vector<uint8_t>& record : records) conversations.emplace_back([&] { record = record_of(model); });
  for (std::thread& conversation : conversations) conversation.join();
  for (const std::vector<uint8_t>& record : records) EXPECT_EQ(record, expected);
}

uint32_t g_now;  // a clock that only tests turn

TEST(ChooseThreads, TakesTheCountThatIsFastestAndOnlyWhatHelps) {
  const auto model = test::load_or_fail(test::TinyModel(test::TinySpec{}).file);
  // Each call of the clock is a step later; how long the steps are depends on how many threads take part.
  g_now = UINT32_MAX - 1000;  // wraps
  EXPECT_EQ(choose_threads(model, 8, [] { return g_now += threads() == 4 ? 500u : 1000u; }), 4u);
  EXPECT_EQ(threads(), 4u);
  EXPECT_EQ(choose_threads(model, 3, [] { return g_now += threads() == 3 ? 500u : 1000u; }), 3u);
  EXPECT_EQ(choose_threads(model, 8, [] { return g_now += threads() == 1 ? 1000u : 950u; }), 1u);
  EXPECT_EQ(threads(), 1u);
  EXPECT_EQ(choose_threads(model, 1, [] { return g_now += 1000; }), 1u);
}

uint32_t g_products, g_idle;  // since the clock was read; readings without any

void counted_matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  ++g_products;
  kernel_levels()[0].matvec(w, x, sum_x, y);
}

TEST(ChooseThreads, MeasuresStepsAlsoWhereATextIsFullAfterOne) {
  const auto model = test::load_or_fail(test::ToyModel({.context = 2}).file);
  const KernelLevel counted{"counted", kernel_levels()[0].is_exact, counted_matvec, nullptr};
  const KernelLevel* const level = std::exchange(dispatch().level, &counted);
  g_products = g_idle = 0;
  choose_threads(model, 2, [] {
    g_idle += std::exchange(g_products, 0) == 0;
    return g_now += 100;
  });
  dispatch().level = level;
  set_threads(1);
  EXPECT_LT(g_idle, 20u);  // the clock is read once more at the beginning of each measurement
}

}  // namespace
}  // namespace tern
