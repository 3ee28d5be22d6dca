// state.h: what a model remembers of one conversation: all of it, and nothing that only a computation needs.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/arena.h"
#include "base/memory.h"
#include "base/vocabulary.h"

namespace tern {

/// Words of a conversation, raw fixed-point numbers of 32 bits.
struct StateLayout {
  size_t fixed = 0;         ///< whatever its length
  size_t per_position = 0;  ///< for each token that was read, up to a capacity; the last of them is the token
  uint64_t words(uint64_t positions) const { return fixed + per_position * positions; }
};

/// The words per position lie in pages, taken one by one as a text grows: it never moves, so there is never a second
/// copy of it, and a short text costs little whatever the capacity.
class State {
 public:
  static constexpr size_t kPage = 64;  ///< positions of a page

  /// Zeroed, of length 0.  capacity: how many tokens it can hold; it only counts where a layout has words per position.
  State(const StateLayout& layout, uint64_t capacity)
      : layout_(layout),
        capacity_(layout.per_position == 0 ? ~uint64_t{0} : capacity),
        fixed_memory_(sizeof(int32_t) * layout.fixed),
        fixed_(fixed_memory_.take<int32_t>(layout.fixed)) {}

  uint64_t length() const { return length_; }  ///< tokens read, the one that begins the text among them
  uint64_t capacity() const { return capacity_; }
  uint64_t room() const { return capacity_ - length_; }
  const StateLayout& layout() const { return layout_; }

  static uint64_t page_bytes(const StateLayout& layout) { return sizeof(int32_t) * kPage * layout.per_position; }
  /// Takes the memory of that many positions, at most the capacity.  False if there is not enough: then the text stays
  /// as it is.
  bool reserve(uint64_t positions) {
    TERN_CHECK(positions <= capacity_);
    if (layout_.per_position == 0) return true;
    while (pages_.size() * kPage < positions) {
      const auto bytes = static_cast<size_t>(page_bytes(layout_));
      if (!affords(bytes)) return false;
      memory_.emplace_back(bytes);
      pages_.push_back(memory_.back().take<int32_t>(kPage * layout_.per_position).data());
    }
    return true;
  }

  /// Positions that memory was reserved for.
  uint64_t reserved() const {
    return layout_.per_position == 0 ? capacity_ : std::min<uint64_t>(capacity_, pages_.size() * kPage);
  }

  std::span<int32_t> fixed() { return fixed_; }
  /// Of a position that memory was reserved for.
  std::span<int32_t> at(uint64_t position) {
    const auto p = static_cast<size_t>(position);
    return {pages_[p / kPage] + p % kPage * layout_.per_position, layout_.per_position};
  }
  /// Where the words of each page's positions begin.
  std::span<int32_t* const> pages() const { return pages_; }
  /// What there is to save: the fixed words, then those of the positions up to the length.
  std::vector<std::span<int32_t>> pieces() {
    std::vector<std::span<int32_t>> all{fixed_};
    for (uint64_t first = 0; layout_.per_position > 0 && first < length_; first += kPage) {
      const auto count = static_cast<size_t>(std::min<uint64_t>(kPage, length_ - first));
      all.emplace_back(pages_[static_cast<size_t>(first / kPage)], count * layout_.per_position);
    }
    return all;
  }

  /// Words of the fixed part as numbers of a format.
  template <class Fixed>
  std::span<Fixed> numbers(size_t first, size_t count) {
    return {reinterpret_cast<Fixed*>(fixed().subspan(first, count).data()), count};
  }

  /// Of a text of any length, the token at a position.  Only where a layout has words per position.
  Token token_at(uint64_t position) { return static_cast<Token>(at(position).back()); }
  /// The text is longer by these tokens, whose other words were written before.
  void append(std::span<const Token> tokens) {
    for (size_t n = 0; layout_.per_position > 0 && n < tokens.size(); ++n) {
      at(length_ + n).back() = static_cast<int32_t>(tokens[n]);
    }
    set_length(length_ + tokens.size());
  }
  /// Memory was reserved for it.
  void set_length(uint64_t length) {
    TERN_CHECK(length <= capacity_ && (layout_.per_position == 0 || length <= pages_.size() * kPage));
    length_ = length;
  }
  /// Keeps its pages.
  void reset() {
    std::ranges::fill(fixed_, 0);
    length_ = 0;
  }

 private:
  StateLayout layout_;
  uint64_t capacity_;
  uint64_t length_ = 0;
  Arena fixed_memory_;
  std::span<int32_t> fixed_;
  std::vector<Arena> memory_;  // of each page
  std::vector<int32_t*> pages_;
};

}  // namespace tern
