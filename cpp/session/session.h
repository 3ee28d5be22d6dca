// session.h: one conversation with one model: the whole public C++ API (loading, feeding, generating, scoring, saving).
// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "text/coder.h"
#include "text/rules.h"
#include "text/sampler.h"
#include "text/softmax.h"
#include "text/utf8.h"

namespace tern {

/// Loads a model while it downloads: push chunks of any size in order, then finish().
/// Every tensor is checked and repacked as its rows arrive; the file is never held in memory.
/// After an error the loader stays failed: every later call returns that same error.
class ModelLoader {
 public:
  ModelLoader();
  ~ModelLoader();
  ModelLoader(ModelLoader&&) noexcept;
  ModelLoader& operator=(ModelLoader&&) noexcept;

  Result<void> push(std::span<const uint8_t> chunk);

  /// The model, if the file was complete.  Call once.
  Result<std::shared_ptr<const Model>> finish();

  /// Size the whole file must have; 0 until the header is complete.
  uint64_t bytes_expected() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a stretch of text cost: each token was predicted from everything before it.
struct Score {
  uint64_t bytes = 0;     // tokens predicted; of a byte model, bytes
  uint64_t bits_q32 = 0;  // total -log2 p, Q32.32
  uint64_t top1 = 0;      // tokens that were the model's first choice (ties: the lower token ranks first)
  uint64_t top5 = 0;      // tokens that were among its first five

  /// False, and nothing is added, if the sum would be 2^32 bits or more.
  bool add(const Score& more);
};

enum class Finish { kNotFinished, kMaxBytes, kEndOfText, kContextFull, kStop };

/// What a call may do, and who watches.
struct Work {
  /// About how many multiply-adds.  A call that comes to the end of its budget answers with what it has done; the next
  /// call, given the rest, goes on, in the middle of a product if need be.  Results never depend on it.  Any other call
  /// instead leaves the text as it was after the tokens that were answered for.
  uint64_t budget = kNoLimit;
  Observer* observer = nullptr;
  /// Between two places where it stops: of the whole budget, also for a batch that begins when little of it is left.
  uint64_t piece = budget == kNoLimit ? budget : budget / 4;
};

/// Which stages begin a chunk at each token of a stretch of text: bit s of its mask for stage s.
class ChunkMasks : public Observer {
 public:
  /// masks: zeroed; of the tokens from position `first` on, where 0 is the token that begins the text.
  ChunkMasks(std::span<uint8_t> masks, uint64_t first) : masks_(masks), first_(first) {}
  void on_chunk(size_t, uint64_t position, uint32_t stage) override {
    if (position < first_ || position - first_ >= masks_.size()) return;
    uint8_t& mask = masks_[static_cast<size_t>(position - first_)];
    mask = static_cast<uint8_t>(mask | 1u << stage);
  }

 private:
  std::span<uint8_t> masks_;
  uint64_t first_;
};

/// One conversation: the state, the next token's logits, and the generation in progress, if any.
/// Sessions of one model are independent and may run on different threads, each with a workspace of its own; one
/// session is not thread safe.
class Session {
 public:
  /// An empty text.  Sessions that are never used at the same time can share a workspace, which is most of their
  /// memory.
  ///   most_tokens  that it will hold, the one that begins it among them, where the model's memory grows with the text;
  ///                at most ModelInfo::context
  /// kOutOfMemory if there is no memory for a short text: then nothing else has happened.  More is taken as it grows.
  static Result<Session> open(std::shared_ptr<const Model> model, std::shared_ptr<Workspace> workspace,
                              uint64_t most_tokens = kNoLimit);

  /// With a workspace of its own, where memory is known to suffice.
  explicit Session(std::shared_ptr<const Model> model);
  ~Session();
  Session(Session&&) = default;
  Session& operator=(Session&&) = delete;

  /// Back to an empty text, with no generation in progress.
  void reset();

  /// Appends tokens to the text: answers how many.  Fewer: the budget is used up, the context is full (room() is 0), or
  /// lacks_memory().
  /// A token that the vocabulary does not have is an error, and nothing is appended.
  Result<size_t> feed(std::span<const Token> tokens, Work work = {});
  /// The same for bytes, of a model that has a token for each.
  size_t feed(std::span<const uint8_t> bytes, Work work = {});

  /// Begins generating at most `max_tokens` tokens after the text so far, whose last 256 tokens count for the
  /// repetition penalty.  Unless options.raw, a model whose tokens are bytes continues the text as well-formed UTF-8,
  /// also where the text ends inside a character; only max_tokens can cut one.  Replaces a generation in progress.  On
  /// an error nothing changes.
  ///   rules  the constraint decides alone which tokens are drawn, and can always be met within max_tokens: kBadOption
  ///          if it could not.  A generation that comes to the stop is over, with the token that brought it there.
  ///   drawn  the last tokens of the text, if a generation with these options wrote them and goes on: up to max_tokens,
  ///          these among them, with the same tokens as if it had never been interrupted
  Result<void> start(const SampleOptions& options, uint64_t max_tokens, std::optional<Rules> rules = {},
                     std::span<const Token> drawn = {});

  /// Writes the next tokens to `out`, at most out.size(); fewer when the generation ended (then finish_state() says
  /// why), the budget is used up, or lacks_memory().  They become part of the text.  A token that ends the text is
  /// neither written nor made part of it.
  size_t generate(std::span<Token> out, Work work = {});
  size_t generate(std::span<uint8_t> out, Work work = {});

  /// The next token of each of several sessions of one model, bit for bit what generate() of one token writes, with the
  /// weights read once for up to kTile sessions.  No session may occur twice.
  ///   tokens  [sessions]  nothing for a session whose generation has ended
  static void generate_each(std::span<Session* const> sessions, std::span<std::optional<Token>> tokens);
  /// The same within a budget (see Work), for at most kTile sessions that share a workspace.
  ///   budget  what is left is there afterwards
  /// False: it is used up, and no session is a token further; the same call goes on.
  static bool generate_each(std::span<Session* const> sessions, std::span<std::optional<Token>> tokens,
                            uint64_t& budget);

  /// kMaxBytes before the first start(): nothing may be generated then.
  Finish finish_state() const { return finish_; }

  /// Predicts each token from all before it, then feeds it.  Call repeatedly on slices and add up the results; fewer
  /// `bytes` than were given as feed() has it.
  /// Fails, with the tokens fed, only if the slice costs 2^32 bits or more.
  Result<Score> score(std::span<const Token> tokens, Work work = {});
  Result<Score> score(std::span<const uint8_t> bytes, Work work = {});

  /// The same token by token: answers how many, all of them in the vocabulary.
  ///   scores  [tokens]
  ///   top     [tokens][most likely], or nothing
  size_t score_each(std::span<const Token> tokens, std::span<TokenScore> scores, std::span<Likely> top, Work work = {});

  /// Codes tokens, each as the model predicts it, and appends them to the text; answers how many, as feed() does.  A
  /// text whose context is full begins anew.  All must be in the vocabulary.
  size_t encode(std::span<const Token> tokens, Encoder& encoder, Work work = {});
  /// Finds the tokens again, in a session where encode() found the same text; answers how many.  None, and the code is
  /// none of encode(): `damaged` says so.
  size_t decode(std::span<Token> tokens, Decoder& decoder, bool& damaged, Work work = {});

  /// Prediction of the next token: one number for each, Q16.16.
  std::span<const int32_t> logits();

  /// The text's effect on the model as a blob that restore() accepts on any device, for the same model file.
  /// The generation in progress is not part of it.
  std::vector<uint8_t> save();

  /// Back to the saved point, with no generation in progress.  A blob that is damaged, of another model or of
  /// another version, longer than this context or than there is memory for, is an error and changes nothing.
  Result<void> restore(std::span<const uint8_t> blob);

  /// Shortens the text to its first `position` tokens, as if the others had never been read, with no generation in
  /// progress: where a model remembers each token by itself (attention), for the price of reading one.  False, and
  /// nothing changes, where it does not, or if the text is shorter.
  bool truncate(uint64_t position);

  /// Tokens of text so far, fed and generated; the one that begins the text is not counted.
  uint64_t position() const { return state_->length() == 0 ? 0 : state_->length() - 1; }
  /// The last tokens of the text, the oldest first: `most` of them, or as many as there are, at most 256.
  std::vector<Token> recent(size_t most) const;
  /// Tokens that still fit into the text.
  uint64_t room() const { return state_->length() == 0 ? state_->capacity() - 1 : state_->room(); }

  /// Whether the last call did less because there is no memory for a longer text.  What it did is done, and the next
  /// one tries again.
  bool lacks_memory() const { return lacks_memory_; }
  /// Of the text's effect on the model, now.
  uint64_t state_bytes() const { return sizeof(int32_t) * state_->layout().words(state_->length()); }

  /// Whether the last call stopped in the middle of a batch: work on any other session with this workspace, before the
  /// call that goes on, would throw away what is done of it.
  bool is_inside_batch() const { return workspace_->holds(state_.get()); }

  const Model& model() const { return *model_; }

 private:
  Session(std::shared_ptr<const Model> model, std::shared_ptr<Workspace> workspace, std::unique_ptr<State> state);

  const Vocabulary& vocabulary() const { return model_->info().vocabulary; }
  bool run(std::span<const Token> tokens, Want want, Work& work);
  size_t feed_tokens(std::span<const Token> tokens, Work& work);
  template <class Each>
  size_t predict_each(std::span<const Token> tokens, Work& work, const Each& each);
  Result<Score> score_tokens(std::span<const Token> tokens, Work& work);
  size_t generate_tokens(std::span<Token> out, Work& work);
  bool begin(Work& work);
  size_t reserve(uint64_t tokens);
  Result<void> check_tokens(std::span<const Token> tokens) const;
  void remember(std::span<const Token> tokens);
  void stop_generation();
  Utf8Position utf8_position() const;
  std::optional<Token> draw();
  void commit(Token token, std::span<const int32_t> logits);

  static constexpr size_t kRecent = 256;  // the repetition penalty's window

  std::shared_ptr<const Model> model_;
  std::shared_ptr<Workspace> workspace_;
  std::unique_ptr<State> state_;    // its length: the text's and the token that begins it; 0: not even that one
  std::vector<int32_t> logits_;     // [vocabulary], for the next token
  std::vector<Token> recent_;       // ring of the last kRecent tokens, indexed by position % kRecent
  std::optional<Sampler> sampler_;  // of the generation in progress
  std::optional<Rules> rules_;      // of that generation
  bool raw_ = false;                // the same
  std::optional<Token> drawn_;      // and what the model is reading, or nothing
  bool lacks_memory_ = false;
  uint64_t tokens_left_ = 0;
  Finish finish_ = Finish::kMaxBytes;
};

}  // namespace tern
