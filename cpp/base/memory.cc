// memory.cc: asks the allocator and the machine.
// SPDX-License-Identifier: MIT
#include "base/memory.h"

#include <cstdlib>

#ifndef __EMSCRIPTEN__
#include <unistd.h>
#endif

namespace tern {

uint64_t most_memory() {
#ifdef __EMSCRIPTEN__
  return (uint64_t{1} << 31) - (uint64_t{1} << 26);
#else
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE));
#endif
}

bool affords(uint64_t bytes) {
  constexpr uint64_t kSpare = uint64_t{1} << 16;
  if (bytes > most_memory()) return false;
  void* volatile memory = std::malloc(static_cast<size_t>(bytes + kSpare));  // volatile: or the pair is optimised away
  std::free(memory);
  return memory != nullptr;
}

}  // namespace tern
