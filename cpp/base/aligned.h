// aligned.h: vectors whose memory begins at a cache line.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace tern {

inline constexpr size_t kCacheLine = 64;  ///< bytes; enough for any vector load, too

/// Allocates for std::vector as std::allocator does, but at multiples of kCacheLine.
template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT(*-explicit-*): what the standard asks for

  T* allocate(size_t count) { return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kCacheLine})); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t{kCacheLine}); }

  bool operator==(const AlignedAllocator&) const { return true; }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace tern
