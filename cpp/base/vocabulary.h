// vocabulary.h: the tokens of a byte-level model, known to the sampler, the models and the tools alike.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace tern {

inline constexpr uint32_t kVocab = 256;  ///< the token is the byte
inline constexpr uint8_t kBos = 254;     ///< begins a text; never occurs in UTF-8, fed first, never drawn
inline constexpr uint8_t kEos = 255;     ///< ends a document; never occurs in UTF-8, may be drawn, ends a generation

}  // namespace tern
