// memory.h: how much memory there is, asked before it is taken: the engine has no exceptions to fail with afterwards.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace tern {

/// The most memory a model and a conversation may claim here; WebAssembly has 2 GB, of which the rest needs some.
uint64_t most_memory();

/// Whether `bytes` more can be had now, with some to spare for small things.
bool affords(uint64_t bytes);

}  // namespace tern
