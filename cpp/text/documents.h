// documents.h: the one reading of text files: the tokens of the documents that are in a file's bytes.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace tern {

/// The rules are those of "Text files" in models/FORMAT.md: a byte order mark at the beginning is no text, a line ends
/// with LF however it ended in the file, and a line <|endoftext|> is the one token 255.  kBadFile if the text is in
/// UTF-16 or UTF-32; other bytes that are not UTF-8 stay as they are.
Result<std::vector<uint8_t>> read_documents(std::span<const uint8_t> file);

/// Bytes of the text that read_documents() makes these tokens of, with LF line ends: 255 stands for 14 bytes.
uint64_t raw_bytes(std::span<const uint8_t> tokens);

}  // namespace tern
