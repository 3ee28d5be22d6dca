// utf8.h: which bytes form complete, well-formed UTF-8 characters; bytes are the truth, text is a view of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "text/byte_mask.h"

namespace tern {

/// Where a text stands inside a character: what may come next if it is to stay well-formed UTF-8 (Unicode 15, table
/// 3-7: no overlong forms, surrogates or beyond U+10FFFF).  It depends on the last three bytes at most.
class Utf8Position {
 public:
  /// False if the byte does not continue well-formed text; it is then taken as the first of a new character, or
  /// skipped.
  bool push(uint8_t byte);

  /// No character is unfinished.
  bool at_boundary() const { return state_ == 0; }

  /// The bytes that push() answers true to; 255 besides, where a character may begin.
  const ByteMask& allowed() const;

 private:
  uint8_t state_ = 0;  // a row of the table in utf8.cc
};

/// True when the bytes are well-formed UTF-8 (Unicode 15, table 3-7: no overlong forms, surrogates or beyond U+10FFFF).
bool is_valid_utf8(std::span<const uint8_t> bytes);

/// Length of the longest prefix that ends at the end of a well-formed character.
size_t valid_utf8_prefix(std::span<const uint8_t> bytes);

/// Turns a stream of bytes into pieces of well-formed text.  A character split between two pieces is held back until it
/// is complete; each maximal ill-formed part becomes one U+FFFD, as TextDecoder does.
class Utf8Splitter {
 public:
  /// The text that is complete after these bytes.
  std::string push(std::span<const uint8_t> bytes);
  /// What an unfinished character at the end becomes: U+FFFD, or nothing.
  std::string finish();

 private:
  uint8_t pending_[3] = {};  // an unfinished character has at most three bytes
  size_t pending_size_ = 0;
};

}  // namespace tern
