// Measures a model's steps with different numbers of threads.
// SPDX-License-Identifier: MIT
#include "session/choose_threads.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "session/session.h"

namespace tern {

#ifdef TERN_THREADS

uint32_t choose_threads(const std::shared_ptr<const Model>& model, uint32_t most, uint32_t (*microseconds)()) {
  TERN_CHECK(most >= 1 && most <= kMaxThreads);
  struct Candidate {
    uint32_t threads;
    uint64_t nanoseconds = UINT64_MAX;  // of a step, the fastest round
  };
  std::vector<Candidate> candidates;
  for (uint32_t count = 1; count < most; count *= 2) candidates.push_back({count});
  candidates.push_back({most});
  if (candidates.size() > 1) {
    constexpr uint32_t kEnough = 1500;                  // microseconds of a measurement
    constexpr uint32_t kRounds = 3, kPatience = 60000;  // rounds, and microseconds after which one has to do
    const Token token = model->info().vocabulary.bos;
    Session session(model);
    const auto step = [&] {
      if (session.room() == 0) session.reset();
      TERN_CHECK(session.feed(std::span(&token, 1)).ok());
    };
    const uint32_t begin = microseconds();
    for (uint32_t round = 0; round < kRounds && (round == 0 || microseconds() - begin < kPatience); ++round) {
      for (Candidate& candidate : candidates) {  // in turn, so that a busy moment does not fall on one of them alone
        set_threads(candidate.threads);
        step();  // the threads are awake, and each has its weights in its cache
        uint64_t steps = 0;
        uint32_t passed = 0;
        for (const uint32_t start = microseconds(); passed < kEnough; passed = microseconds() - start) {
          step();
          ++steps;
        }
        candidate.nanoseconds = std::min(candidate.nanoseconds, uint64_t{passed} * 1000 / steps);
      }
    }
  }
  const Candidate* best = candidates.data();
  for (const Candidate& candidate : candidates) {
    if (candidate.nanoseconds / 9 < best->nanoseconds / 10) best = &candidate;
  }
  set_threads(best->threads);
  return best->threads;
}

#else

uint32_t choose_threads(const std::shared_ptr<const Model>&, uint32_t, uint32_t (*)()) { return 1; }

#endif

}  // namespace tern
