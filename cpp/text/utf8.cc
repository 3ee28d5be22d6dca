// utf8.cc: one decoder step, and the views built on it.
#include "text/utf8.h"

namespace tern {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Kind { kComplete, kIllFormed, kUnfinished };

struct Sequence {
  Kind kind;
  size_t length;  // bytes of the character, or of the maximal part that is ill-formed or unfinished
};

// Looks at the first character of non-empty bytes.  Unicode 15, table 3-7.
Sequence first_sequence(std::span<const uint8_t> bytes) {
  const uint8_t lead = bytes[0];
  if (lead < 0x80) return {Kind::kComplete, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Kind::kIllFormed, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;   // shorter forms exist below
  if (lead == 0xED) high = 0x9F;  // surrogates above
  if (lead == 0xF0) low = 0x90;   // shorter forms exist below
  if (lead == 0xF4) high = 0x8F;  // beyond U+10FFFF
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::kUnfinished, i};
    if (bytes[i] < low || bytes[i] > high) return {Kind::kIllFormed, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kComplete, length};
}

}  // namespace

size_t valid_utf8_prefix(std::span<const uint8_t> bytes) {
  size_t at = 0;
  while (at < bytes.size()) {
    const Sequence s = first_sequence(bytes.subspan(at));
    if (s.kind != Kind::kComplete) break;
    at += s.length;
  }
  return at;
}

bool is_valid_utf8(std::span<const uint8_t> bytes) { return valid_utf8_prefix(bytes) == bytes.size(); }

std::string Utf8Splitter::push(std::span<const uint8_t> bytes) {
  std::string input(pending_, pending_ + pending_size_);
  input.append(bytes.begin(), bytes.end());
  pending_size_ = 0;
  const std::span<const uint8_t> all(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  std::string text;
  for (size_t at = 0; at < all.size();) {
    const Sequence s = first_sequence(all.subspan(at));
    if (s.kind == Kind::kComplete) {
      text.append(input, at, s.length);
    } else if (s.kind == Kind::kIllFormed) {
      text += kReplacement;
    } else {
      for (size_t i = 0; i < s.length; ++i) pending_[pending_size_++] = all[at + i];
    }
    at += s.length;
  }
  return text;
}

std::string Utf8Splitter::finish() {
  const bool unfinished = pending_size_ != 0;
  pending_size_ = 0;
  return unfinished ? kReplacement : "";
}

}  // namespace tern
