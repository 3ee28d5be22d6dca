// conformance.h: the functions and operations of models/SPEC.md by name, for the vectors of tests/conformance.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace tern {

/// What the engine computes for one call; nothing for an unknown name.  SPEC.md lists the names and what their numbers
/// mean; a wrong count of inputs is a broken promise.  64 unsigned bits are passed as the signed number of the same
/// bits.
std::optional<std::vector<int64_t>> evaluate_operation(std::string_view name, std::span<const int64_t> inputs);

}  // namespace tern
