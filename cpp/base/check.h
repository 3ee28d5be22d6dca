// check.h: broken promises between parts of the engine stop the program; bad data never does (that is result.h).
#pragma once

/// Traps when a caller broke the contract of a function.  Always on: a trap is the only safe answer to memory misuse.
#define TERN_CHECK(condition)        \
  do {                               \
    if (!(condition)) [[unlikely]] { \
      __builtin_trap();              \
    }                                \
  } while (false)

/// The same for conditions that are too expensive to test in a release build.
#ifdef NDEBUG
#define TERN_DCHECK(condition) \
  do {                         \
  } while (false)
#else
#define TERN_DCHECK(condition) TERN_CHECK(condition)
#endif
