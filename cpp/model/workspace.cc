// workspace.cc: beginning, continuing and giving up a batch.
// SPDX-License-Identifier: MIT
#include "model/workspace.h"

#include <numeric>

#include "base/check.h"

namespace tern {

void Workspace::enter(const Batch& batch, uint64_t budget, uint64_t piece) {
  const bool same = !batch_tokens_.empty() && want_ == batch.want && std::ranges::equal(batch_tokens_, batch.tokens) &&
                    std::ranges::equal(batch_states_, batch.states);
  if (!same) {
    give_up();
    std::iota(token_indices_.begin(), token_indices_.end(), uint8_t{0});
    batch_tokens_.assign(batch.tokens.begin(), batch.tokens.end());
    batch_states_.assign(batch.states.begin(), batch.states.end());
    want_ = batch.want;
    chunks_.fill(0);
    done_ = 0;
    piece_ = piece;
    before_.clear();
    for (State* state : batch.states) {
      if (budget == kNoLimit) break;  // without a limit nothing stops
      before_.insert(before_.end(), state->fixed().begin(), state->fixed().end());
    }
  }
  texts = {batch_states_, std::span(token_indices_).first(batch_tokens_.size())};
  observer_ = batch.observer;
  at_ = 0;
  left_ = budget;
}

bool Workspace::leave(Observer* observer) {
  observer_ = nullptr;
  if (at_ != done_) return false;
  const bool one_text = batch_states_.size() == 1;
  for (size_t token = 0; observer != nullptr && token < batch_tokens_.size(); ++token) {
    const uint64_t position = batch_states_[one_text ? 0 : token]->length() + (one_text ? token : 0);
    for (uint32_t stage = 0; chunks_[token] >> stage != 0; ++stage) {
      if ((chunks_[token] >> stage & 1) != 0) observer->on_chunk(one_text ? 0 : token, position, stage);
    }
  }
  const size_t tokens_each = batch_tokens_.size() / batch_states_.size();
  std::span<const Token> tokens = batch_tokens_;
  for (State* state : batch_states_) {
    state->append(tokens.first(tokens_each));
    tokens = tokens.subspan(tokens_each);
  }
  batch_tokens_.clear();
  return true;
}

void Workspace::give_up() {
  if (batch_tokens_.empty()) return;
  std::span<const int32_t> before = before_;
  for (State* state : batch_states_) {
    TERN_CHECK(before.size() >= state->layout().fixed);
    std::ranges::copy(before.first(state->layout().fixed), state->fixed().begin());
    before = before.subspan(state->layout().fixed);
  }
  batch_tokens_.clear();
}

void Workspace::forget(const State* state) {
  if (holds(state)) give_up();
}

}  // namespace tern
