// other_files.h: what a file is that is no GGUF file, from its first bytes, and what to do about it.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tern {

/// One sentence for a message; `start` holds up to 24 of the file's first bytes, fewer if it has no more.
std::string describe_other_file(std::span<const uint8_t> start);

}  // namespace tern
