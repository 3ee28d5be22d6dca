// one_text.h: what holds for one text of any model, with random bytes below 128 for a text.
// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "session/session.h"
#include "tiny_model.h"

namespace tern::test {

inline std::vector<uint8_t> random_bytes(size_t count, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.below(128));
  return bytes;
}

/// Slices of any size, stopped anywhere, leave the same state and the same prediction.
inline void expect_the_same_however_divided(const std::shared_ptr<const Model>& model) {
  const std::vector<uint8_t> bytes = random_bytes(49, 2);
  Session whole(model);
  ASSERT_EQ(whole.feed(bytes), 49u);
  for (const size_t slice : {size_t{1}, size_t{3}, size_t{16}, size_t{17}}) {
    for (const uint64_t budget : {kNoLimit, uint64_t{1}, uint64_t{4000}}) {
      Session sliced(model);
      for (std::span<const uint8_t> rest = bytes; !rest.empty();) {
        rest = rest.subspan(sliced.feed(rest.first(std::min(slice, rest.size())), {.budget = budget}));
      }
      EXPECT_EQ(sliced.save(), whole.save()) << slice << " bytes, budget " << budget;
      EXPECT_TRUE(std::ranges::equal(sliced.logits(), whole.logits()));
    }
  }
}

/// In another session, after batches that were stopped and given up, and in the same one after reset().
inline void expect_a_saved_text_goes_on(const std::shared_ptr<const Model>& model) {
  const std::vector<uint8_t> text = random_bytes(20, 3), more = random_bytes(16, 4);
  Session one(model);
  one.feed(text);
  const std::vector<uint8_t> saved = one.save();
  size_t stopped = 0;
  for (uint64_t budget = 1000; budget < 4'000'000; budget *= 2) {
    Session other(model);
    other.feed(more);
    ASSERT_TRUE(other.restore(saved).ok());
    other.feed(more, {.budget = budget});
    if (!other.is_inside_batch()) continue;
    ++stopped;
    EXPECT_EQ(other.save(), saved);
  }
  EXPECT_GT(stopped, 5u);
  Session other(model);
  ASSERT_TRUE(other.restore(saved).ok());
  one.feed(more);
  other.feed(more);
  EXPECT_EQ(one.save(), other.save());
  one.reset();
  one.feed(text);
  EXPECT_EQ(one.save(), saved);
}

}  // namespace tern::test
