// rules.cc: reads the table of the automata, and walks them.
// SPDX-License-Identifier: MIT
#include "text/rules.h"

#include <algorithm>

namespace tern {

Result<Rules> Rules::read(std::span<const uint32_t> table, const Vocabulary& vocabulary) {
  constexpr size_t kHeader = 3;
  const Error broken = error_f(ErrorCode::kBadOption, "expected a table of automata as ternlm/constraints makes it");
  if (table.size() < kHeader) return broken;
  const uint64_t constraint = table[0], stop = table[1], states = constraint + stop, classes = table[2];
  // 64-bit products: none of the factors has more than 33 bits, and the first check bounds both.
  if (classes == 0 || classes > 256 || states > table.size()) return broken;
  const uint64_t fixed = kHeader + 256 + states + states * classes + vocabulary.size + 1;
  if (table.size() < fixed) return broken;

  Rules rules;
  rules.vocabulary_ = vocabulary;
  rules.table_.assign(table.begin(), table.end());
  rules.classes_ = static_cast<size_t>(classes);
  std::span<const uint32_t> rest = std::span(rules.table_).subspan(kHeader);
  const auto take = [&rest](uint64_t count) {
    const std::span<const uint32_t> part = rest.first(static_cast<size_t>(count));
    rest = rest.subspan(part.size());
    return part;
  };
  rules.class_ = take(256);
  rules.distance_ = take(states);
  rules.next_ = take(states * classes);
  rules.offsets_ = take(uint64_t{vocabulary.size} + 1);
  rules.bytes_ = rest;
  for (const uint32_t c : rules.class_) {
    if (c >= classes) return broken;
  }
  for (size_t i = 0; i < rules.next_.size(); ++i) {
    const bool of_constraint = i < constraint * classes;
    const uint32_t next = rules.next_[i];
    if (next == kNone ? !of_constraint : of_constraint ? next >= constraint : next < constraint || next >= states) {
      return broken;
    }
  }
  if (!std::ranges::is_sorted(rules.offsets_) || rules.offsets_.back() > 4 * uint64_t{rest.size()}) return broken;
  if (constraint > 0) rules.constraint_ = 0;
  if (stop > 0) rules.stop_ = table[0];
  rules.allowed_.resize((size_t{vocabulary.size} + 63) / 64);
  return rules;
}

/// kNone where the bytes of the token lead out of the language.
uint32_t Rules::walk(uint32_t state, Token token) const {
  for (uint32_t at = offsets_[token]; at < offsets_[token + 1] && state != kNone; ++at) state = step(state, byte(at));
  return state;
}

std::span<const uint64_t> Rules::allowed(uint64_t tokens_left) {
  std::ranges::fill(allowed_, 0);
  bool any = false;
  for (Token token = 0; token < vocabulary_.size; ++token) {
    bool may = token == vocabulary_.eos && distance() == 0;
    if (token != vocabulary_.eos && offsets_[token] < offsets_[token + 1]) {  // nothing would come of empty ones
      const uint32_t next = walk(constraint_, token);
      may = next != kNone && distance_[next] < tokens_left;
    }
    allowed_[token / 64] |= uint64_t{may} << (token % 64);
    any |= may;
  }
  return any ? allowed_ : std::span<const uint64_t>();
}

bool Rules::push(Token token) {
  if (has_constraint()) constraint_ = walk(constraint_, token);
  if (stop_ == kNone) return false;
  for (uint32_t at = offsets_[token]; at < offsets_[token + 1]; ++at) {
    stop_ = step(stop_, byte(at));
    if (distance_[stop_] == 0) return true;
  }
  return false;
}

}  // namespace tern
