// vocabulary.h: what a token is, and which tokens a model has; from its file, never a constant of the engine.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace tern {

using Token = uint32_t;

struct Vocabulary {
  uint32_t size;  ///< tokens are 0 .. size - 1
  Token bos;      ///< begins a text: fed first, never drawn unless it is `eos`, too
  Token eos;      ///< ends a document: may be drawn, ends a generation

  bool operator==(const Vocabulary&) const = default;
};

/// Of models whose token is the byte: begin and end are bytes that never occur in UTF-8 (models/FORMAT.md).
inline constexpr Vocabulary kBytes{256, 254, 255};

}  // namespace tern
