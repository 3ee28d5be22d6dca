// stack.h: how large the stacks are that the engine runs on, and how much of one a function may take.
#pragma once

#include <cstddef>

namespace tern {

/// cpp/bindings/CMakeLists.txt reads the number here for the stack of the thread that instantiates a WebAssembly
/// module.
inline constexpr size_t kStackBytes = 262144;

/// Scratch of more than 16 KB, which the compiler refuses elsewhere (-Wframe-larger-than in CMakeLists.txt), says that
/// it fits: static_assert(sizeof(...) <= kMostOnStack).  Such functions do not call each other, and what is left is
/// enough for all that call them.
inline constexpr size_t kMostOnStack = kStackBytes * 5 / 8;

}  // namespace tern
