// decimal.h: floats of a file as people write them, for messages and cards; no float arithmetic, no printf.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

namespace tern {

/// Six significant digits without zeros at their end: "1.5", "-0.02", "1e-6", "infinity", "not a number".
std::string f32_text(uint32_t bits);
std::string f16_text(uint16_t bits);

}  // namespace tern
