// How many threads make a model fastest here.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>

#include "model/model.h"

namespace tern {

/// Measures single steps with 1, 2, 4, ... up to `most` threads, which must be able to start or have started (see
/// base/parallel.h), and uses the count that wins: more only where they save a tenth.  Takes some ten milliseconds, or
/// a few steps of a model that needs longer.  Not while another thread computes.
///   microseconds  a clock that may wrap
uint32_t choose_threads(const std::shared_ptr<const Model>& model, uint32_t most, uint32_t (*microseconds)());

}  // namespace tern
