// arena.h: one allocation handed out in pieces, so that nothing is allocated per token.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

#include "base/check.h"

namespace tern {

/// Pieces of one block of memory, each aligned to 64 bytes (a cache line, and enough for any vector load).
/// Lay out twice with the same calls: first on an empty Arena, which only counts and hands out spans without memory,
/// then on Arena(used()).
class Arena {
 public:
  Arena() = default;
  /// Zeroed.
  explicit Arena(size_t bytes) : memory_(new std::byte[bytes + kAlignment]()), capacity_(bytes) {
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    base_ = memory_.get() + (kAlignment - address % kAlignment);
  }

  template <class T>
  std::span<T> take(size_t count) {
    static_assert(std::is_trivially_destructible_v<T> && alignof(T) <= kAlignment);
    const size_t at = used_;
    used_ += (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    if (base_ == nullptr) return {};
    TERN_CHECK(at + count * sizeof(T) <= capacity_);
    return {reinterpret_cast<T*>(base_ + at), count};
  }

  size_t used() const { return used_; }

 private:
  static constexpr size_t kAlignment = 64;
  std::unique_ptr<std::byte[]> memory_;
  std::byte* base_ = nullptr;
  size_t capacity_ = 0;
  size_t used_ = 0;
};

}  // namespace tern
