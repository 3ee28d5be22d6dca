// workspace.h: scratch memory of one thread of control, and how far its batch has come.
// SPDX-License-Identifier: MIT
//
// A batch can stop between two operations and go on in a later call.  The forward pass stays a straight list: it is
// called again from its start, with the operations that are done answered at once by turn(), until the list has been
// gone through.  So an operation
//   * gives what it writes its shape, which must follow from shapes and from what the workspace holds,
//   * asks turn() and does nothing on false,
//   * keeps whatever a later operation needs in the workspace or in a state, never in a variable of the caller.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/arena.h"
#include "base/view.h"
#include "fixed/fixed.h"
#include "model/batch.h"

namespace tern {

class Workspace;

/// Rows that one operation leaves for the next.  Whoever writes them gives them their shape.
template <class T>
class Buffer {
 public:
  explicit Buffer(Workspace& workspace) : workspace_(&workspace) {}
  Buffer(const Buffer&) = delete;
  Buffer(Buffer&&) = default;

  MatrixView<T> shape(size_t rows, size_t cols);
  MatrixView<T> view() const { return view_; }
  operator MatrixView<T>() const { return view_; }        // NOLINT(*-explicit-*)
  operator MatrixView<const T>() const { return view_; }  // NOLINT(*-explicit-*)

 private:
  Workspace* workspace_;
  Arena arena_;
  T* data_ = nullptr;
  size_t capacity_ = 0;
  MatrixView<T> view_;
};

/// Whose the rows of a level are.
struct Texts {
  std::span<State* const> states;   ///< one for all rows, or one for each
  std::span<const uint8_t> tokens;  ///< of each row: which token of the batch it belongs to

  State& operator[](size_t row) const { return *states[states.size() == 1 ? 0 : row]; }
  /// Rows of one text that lie one after the other: all, or one.
  size_t run() const { return states.size() == 1 ? tokens.size() : 1; }
  Texts last(size_t rows) const { return {states.size() == 1 ? states : states.last(rows), tokens.last(rows)}; }
};

class Workspace {
 public:
  Workspace() = default;
  /// For single operations: buffers grow as they are shaped, and nothing stops.
  enum Grows { kGrows };
  explicit Workspace(Grows) : mode_(Mode::kGrowing), left_(kNoLimit) {}
  Workspace(const Workspace&) = delete;
  virtual ~Workspace() = default;

  /// Begins an operation of about `cost` multiply-adds: whether to do it now.  Not, if an earlier call has done it, and
  /// not from where the budget is used up.
  bool turn(uint64_t cost) {
    if (at_++ < done_ || left_ == 0) return false;
    left_ -= std::min(left_, cost);
    ++done_;
    return true;
  }
  /// The same for an operation on rows without a product, of as many numbers.
  template <class T>
  bool turn(const MatrixView<T>& rows) {
    constexpr uint64_t kCost = 16;  // about as many multiply-adds take as long as one number
    return turn(kCost * rows.rows * rows.cols);
  }
  /// How many multiply-adds may lie between two turns: a part of the budget of the call that began the batch, so that a
  /// call takes little longer than its budget; the larger, the less a kernel's preparations weigh.
  uint64_t piece() const { return piece_; }
  /// Of a row's token in its text.
  uint64_t position(size_t row) const {
    const size_t token = texts.tokens[row];
    return batch_states_.size() == 1 ? batch_states_[0]->length() + token : batch_states_[token]->length();
  }
  /// Whether nothing of the batch is done yet.
  bool is_fresh() const { return done_ == 0; }

  /// The part of the model whose operations come next.
  void part(const std::string& name) {
    if constexpr (kObservesRows) part_ = name;
  }
  template <class T>
  void observe_row(const char* operation, size_t row, std::span<T> numbers) const {
    if constexpr (kObservesRows) {
      if (observer_ == nullptr) return;
      static_assert(sizeof(T) == sizeof(int32_t));
      const size_t text = batch_states_.size() == 1 ? 0 : texts.tokens[row];
      observer_->on_row({part_, operation, text, position(row)},
                        {reinterpret_cast<const int32_t*>(numbers.data()), numbers.size()},
                        std::remove_const_t<T>::kFractionBits);
    }
  }
  template <class T>
  void observe(const char* operation, MatrixView<T> rows) const {
    if constexpr (kObservesRows) {
      if (observer_ == nullptr) return;
      for (size_t row = 0; row < rows.rows; ++row) observe_row(operation, row, rows.row(row));
    }
  }
  /// What an operation is given, not what one leaves.
  template <class T>
  void observe_input(const char* operation, MatrixView<T> rows) {
    if constexpr (kObservesRows) {
      if (turn(1)) observe(operation, rows);
    }
  }
  /// A chunk of this stage begins at row `row` of the texts.
  void begin_chunk(size_t row, uint32_t stage) {
    const uint8_t token = texts.tokens[row];
    chunks_[token] = static_cast<uint8_t>(chunks_[token] | 1u << stage);
  }

  Texts texts;  ///< of the rows that are worked on

  // What products need between their steps.
  Buffer<int8_t> codes{*this};        ///< [T][padded cols]
  Buffer<int32_t> sums{*this};        ///< [T][rows of a piece]
  std::array<Scale, kTile> rms{};     ///< of each row of their input
  std::array<Scale, kTile> scales{};  ///< of each row of codes
  std::array<int32_t, kTile> code_sums{};
  Buffer<Act> window{*this};      ///< [K - 1 + T][width] of a convolution
  Buffer<int32_t> logits{*this};  ///< [kTile][vocabulary], for who wants predictions

  /// Whether a batch that stopped has this state.
  bool holds(const State* state) const {
    return !batch_tokens_.empty() && std::ranges::find(batch_states_, state) != batch_states_.end();
  }
  /// No longer works on this state, which need not exist any more; others are as they were before the batch.
  void forget(const State* state);

 private:
  template <class T>
  friend class Buffer;
  friend class Model;

  /// The batch that was begun goes on if this is the same one; else it is given up, and this one begins.
  void enter(const Batch& batch, uint64_t budget, uint64_t piece);
  /// True if the batch is done; then states are longer, and chunks reported.
  bool leave(Observer* observer);
  /// The states are as they were before the batch.
  void give_up();

  // Before any batch: shapes are collected (measuring), or given their memory (growing).
  enum class Mode { kMeasuring, kGrowing, kReady } mode_ = Mode::kMeasuring;
  uint64_t bytes_ = 0;

  uint64_t at_ = 0;    // operation of this pass
  uint64_t done_ = 0;  // operations of the batch
  uint64_t left_ = 0;  // of the budget
  uint64_t piece_ = kNoLimit;

  std::array<uint8_t, kTile> token_indices_{};  // 0, 1, ...
  std::vector<Token> batch_tokens_;             // empty: no batch
  std::vector<State*> batch_states_;
  Want want_ = Want::kNone;
  std::vector<int32_t> before_;  // the states' fixed words when the batch began; empty if it cannot stop
  std::array<uint8_t, kTile> chunks_{};
  Observer* observer_ = nullptr;
  std::string part_;
};

template <class T>
MatrixView<T> Buffer<T>::shape(size_t rows, size_t cols) {
  const size_t size = rows * cols;
  if (size > capacity_) {
    TERN_CHECK(workspace_->mode_ != Workspace::Mode::kReady);
    workspace_->bytes_ += (size - capacity_) * sizeof(T);
    capacity_ = size;
    if (workspace_->mode_ == Workspace::Mode::kMeasuring) {
      data_ = reinterpret_cast<T*>(uintptr_t{64});  // no operation touches it, views only count from it
    } else {
      arena_ = Arena(size * sizeof(T));
      data_ = arena_.take<T>(size).data();
    }
  }
  view_ = {data_, rows, cols};
  return view_;
}

}  // namespace tern
