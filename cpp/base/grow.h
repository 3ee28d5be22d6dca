// grow.h: arrays that take memory as the data that fills them arrives, and say when there is none left.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/memory.h"

namespace tern {

/// Lengthens `array` to `size` items, of `most` that it will have in the end.  Its capacity doubles until an eighth of
/// them is there, and then is `most`: at most 8 times what is in it.  What was outgrown stays in the memory of a
/// WebAssembly module, which never gets smaller, so it should be little beside the whole.
/// False, with nothing changed, if there is no memory.
template <class T, class Allocator>
bool grow(std::vector<T, Allocator>& array, size_t size, size_t most, const T& value = {}) {
  if (size > array.capacity()) {
    const size_t capacity = size >= most / 8 ? most : std::max(size, 2 * array.capacity());
    if (!affords(uint64_t{capacity} * sizeof(T))) return false;
    array.reserve(capacity);
  }
  if (size > array.size()) array.resize(size, value);
  return true;
}

}  // namespace tern
