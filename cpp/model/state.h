// state.h: what a model remembers of one conversation: all of it, and nothing that only a computation needs.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/arena.h"

namespace tern {

/// Words of a conversation, raw fixed-point numbers of 32 bits.
struct StateLayout {
  size_t fixed = 0;         ///< whatever its length
  size_t per_position = 0;  ///< for each token that was read, up to a capacity
  uint64_t words(uint64_t positions) const { return fixed + per_position * positions; }
};

class State {
 public:
  /// Zeroed, of length 0.  capacity: how many tokens it can hold; it only counts where a layout has words per position.
  State(const StateLayout& layout, uint64_t capacity)
      : layout_(layout),
        capacity_(layout.per_position == 0 ? ~uint64_t{0} : capacity),
        arena_(sizeof(int32_t) * static_cast<size_t>(layout.words(layout.per_position == 0 ? 0 : capacity))),
        words_(arena_.take<int32_t>(static_cast<size_t>(layout.words(layout.per_position == 0 ? 0 : capacity)))) {}

  uint64_t length() const { return length_; }  ///< tokens read, the one that begins the text among them
  uint64_t capacity() const { return capacity_; }
  uint64_t room() const { return capacity_ - length_; }
  const StateLayout& layout() const { return layout_; }

  std::span<int32_t> fixed() { return words_.first(layout_.fixed); }
  std::span<int32_t> at(uint64_t position) {
    return words_.subspan(static_cast<size_t>(layout_.words(position)), layout_.per_position);
  }
  /// What there is to save: the fixed words, then those of the positions up to the length.
  std::span<int32_t> words() { return words_.first(static_cast<size_t>(layout_.words(length_))); }

  /// Words of the fixed part as numbers of a format.
  template <class Fixed>
  std::span<Fixed> numbers(size_t first, size_t count) {
    return {reinterpret_cast<Fixed*>(fixed().subspan(first, count).data()), count};
  }

  void set_length(uint64_t length) {
    TERN_CHECK(length <= capacity_);
    length_ = length;
  }
  void reset() {
    std::ranges::fill(words(), 0);
    length_ = 0;
  }

 private:
  StateLayout layout_;
  uint64_t capacity_;
  uint64_t length_ = 0;
  Arena arena_;
  std::span<int32_t> words_;
};

}  // namespace tern
