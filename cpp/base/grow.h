// grow.h: arrays that take memory as the data that fills them arrives, and say when there is none left.
// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/memory.h"

namespace tern {

/// Lengthens `array` to `size` items, of `most` that it will have in the end.  Its capacity doubles, up to `most`
/// exactly: at most 2.5 times what is in it, and one half beside the whole when it grows for the last time.
/// False, with nothing changed, if there is no memory.
template <class T, class Allocator>
bool grow(std::vector<T, Allocator>& array, size_t size, size_t most, const T& value = {}) {
  if (size > array.capacity()) {
    const size_t capacity = std::min(most, std::max(size, 2 * array.capacity()));
    if (!affords(uint64_t{capacity} * sizeof(T))) return false;
    array.reserve(capacity);
  }
  if (size > array.size()) array.resize(size, value);
  return true;
}

}  // namespace tern
