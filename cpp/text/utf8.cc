// utf8.cc: the automaton of well-formed UTF-8, and the views built on it.
#include "text/utf8.h"

#include <array>

#include "base/vocabulary.h"

namespace tern {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// ---- the automaton ----

enum State : uint8_t { kBoundary, kLast, kTwo, kThree, kAfterE0, kAfterED, kAfterF0, kAfterF4, kStates };

/// Unicode 15, table 3-7: which bytes may follow in a state, and the state they lead to.
struct Row {
  State state;
  uint8_t first, last;
  State next;
};
constexpr Row kRows[] = {
    {kBoundary, 0x00, 0x7F, kBoundary}, {kBoundary, 0xC2, 0xDF, kLast},   // ASCII; C0 and C1 would be overlong
    {kBoundary, 0xE0, 0xE0, kAfterE0},  {kBoundary, 0xE1, 0xEC, kTwo},    //
    {kBoundary, 0xED, 0xED, kAfterED},  {kBoundary, 0xEE, 0xEF, kTwo},    //
    {kBoundary, 0xF0, 0xF0, kAfterF0},  {kBoundary, 0xF1, 0xF3, kThree},  //
    {kBoundary, 0xF4, 0xF4, kAfterF4},  {kLast, 0x80, 0xBF, kBoundary},   //
    {kTwo, 0x80, 0xBF, kLast},          {kThree, 0x80, 0xBF, kTwo},       //
    {kAfterE0, 0xA0, 0xBF, kLast},      {kAfterED, 0x80, 0x9F, kLast},    // shorter forms exist; surrogates
    {kAfterF0, 0x90, 0xBF, kTwo},       {kAfterF4, 0x80, 0x8F, kTwo},     // shorter forms exist; beyond U+10FFFF
};

constexpr std::array<ByteMask, kStates> make_masks() {
  std::array<ByteMask, kStates> masks;
  for (const Row& row : kRows) masks[row.state].add_range(row.first, row.last);
  masks[kBoundary].add(kBytes.eos);
  return masks;
}
constexpr std::array<ByteMask, kStates> kAllowed = make_masks();

/// kStates if the byte is ill-formed here.
uint8_t next_state(uint8_t state, uint8_t byte) {
  for (const Row& row : kRows) {
    if (row.state == state && byte >= row.first && byte <= row.last) return row.next;
  }
  return kStates;
}

// ---- views of bytes ----

enum class Kind { kComplete, kIllFormed, kUnfinished };

struct Sequence {
  Kind kind;
  size_t length;  // bytes of the character, or of the maximal part that is ill-formed or unfinished
};

/// Looks at the first character of non-empty bytes.
Sequence first_sequence(std::span<const uint8_t> bytes) {
  uint8_t state = kBoundary;
  for (size_t length = 0; length < bytes.size(); ++length) {
    state = next_state(state, bytes[length]);
    if (state == kStates) return {Kind::kIllFormed, length == 0 ? 1 : length};
    if (state == kBoundary) return {Kind::kComplete, length + 1};
  }
  return {Kind::kUnfinished, bytes.size()};
}

}  // namespace

bool Utf8Position::push(uint8_t byte) {
  uint8_t next = next_state(state_, byte);
  const bool well_formed = next != kStates;
  if (!well_formed) next = next_state(kBoundary, byte);
  state_ = next == kStates ? uint8_t{kBoundary} : next;
  return well_formed;
}

const ByteMask& Utf8Position::allowed() const { return kAllowed[state_]; }

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
