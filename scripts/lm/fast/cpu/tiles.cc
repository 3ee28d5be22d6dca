// Asks the system for the tile registers.

#include "tiles.h"

#include <atomic>
#if defined(__AMX_INT8__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace lm {
namespace {

// Linux gives a process the 8 KB of tiles, which every change of thread would have to save, only if it asks.
bool granted() {
#if defined(__AMX_INT8__) && defined(__linux__)
  constexpr long kAskForPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool given = syscall(SYS_arch_prctl, kAskForPermission, kTileData) == 0;
  return given;
#else
  return false;
#endif
}

std::atomic<bool> wanted{true};

}  // namespace

bool tiles_in_use() { return wanted.load(std::memory_order_relaxed) && granted(); }

}  // namespace lm

extern "C" {

/// Lets products run on tiles (the default) or not; returns whether they now do.
int use_tiles(int wanted) {
  lm::wanted = wanted != 0;
  return lm::tiles_in_use();
}
}
