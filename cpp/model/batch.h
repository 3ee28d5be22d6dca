// batch.h: what a model is asked to read at once, and who may watch it do so.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/vocabulary.h"
#include "model/state.h"

namespace tern {

inline constexpr size_t kTile = 16;                 ///< most tokens of a batch
inline constexpr uint64_t kNoLimit = ~uint64_t{0};  ///< of work, of the tokens of a text

/// Where a row of numbers comes from.
struct Place {
  std::string_view part;       ///< "blk.3", "head": see models/FORMAT.md
  std::string_view operation;  ///< "attn_norm", "state": the operations of model/arch and model/layers
  size_t text;                 ///< which of the batch's states
  uint64_t position;           ///< of the token, from 0, in its text
};

/// Sees what a model computes.  Overrides do nothing that the model could notice.
class Observer {
 public:
  virtual ~Observer() = default;
  /// What an operation left for a token: raw numbers with `fraction_bits`.  Never called where kObservesRows is false.
  virtual void on_row(const Place&, std::span<const int32_t>, int /*fraction_bits*/) {}
  /// A chunk of stage `stage` begins at this token.  Once for each, when the batch is done.
  virtual void on_chunk(size_t /*text*/, uint64_t /*position*/, uint32_t /*stage*/) {}
};

#if defined(__EMSCRIPTEN__) && !defined(TERN_OBSERVE)
inline constexpr bool kObservesRows = false;
#else
inline constexpr bool kObservesRows = true;
#endif

enum class Want { kNone, kLast, kAll };

struct Batch {
  std::span<const Token> tokens;   ///< 1 to kTile
  std::span<State* const> states;  ///< [1]: all tokens are of one text, in order; or [tokens]: each is of its own
  Want want = Want::kNone;         ///< predictions: none, of the last token, of every token
  std::span<int32_t> logits = {};  ///< [wanted][size of the vocabulary] Q16.16
  Observer* observer = nullptr;

  size_t wanted() const { return want == Want::kAll ? tokens.size() : want == Want::kLast ? 1 : 0; }
};

}  // namespace tern
