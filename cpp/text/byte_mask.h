// byte_mask.h: a set of bytes that may come next, so that rules about text can be laid over each other.
// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tern {

/// Which bytes a sampler may draw.  What several rules allow is `&` of what each of them allows.
class ByteMask {
 public:
  constexpr ByteMask() = default;  // none
  constexpr bool has(size_t byte) const { return (words_[byte / 64] >> (byte % 64) & 1) != 0; }
  constexpr void add(size_t byte) { words_[byte / 64] |= uint64_t{1} << (byte % 64); }
  constexpr void add_range(size_t first, size_t last) {
    for (size_t byte = first; byte <= last; ++byte) add(byte);
  }

  /// As Sampler::next() takes it.
  std::span<const uint64_t> words() const { return words_; }

  constexpr bool operator==(const ByteMask&) const = default;
  friend constexpr ByteMask operator&(const ByteMask& a, const ByteMask& b) {
    ByteMask both;
    for (size_t w = 0; w < both.words_.size(); ++w) both.words_[w] = a.words_[w] & b.words_[w];
    return both;
  }

 private:
  std::array<uint64_t, 256 / 64> words_{};
};

}  // namespace tern
