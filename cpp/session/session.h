// One conversation with one model: the whole public C++ API (loading, feeding, generating, scoring, saving).
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
#include "text/sampler.h"

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

  /// Memory that the weights will take; 0 until the header is complete.
  uint64_t memory_needed() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What a stretch of text cost: each byte was predicted from everything before it.
struct Score {
  uint64_t bytes = 0;     // bytes predicted
  uint64_t bits_q32 = 0;  // total -log2 p, Q32.32
  uint64_t top1 = 0;      // bytes that were the model's first choice (ties: the lower byte value ranks first)
  uint64_t top5 = 0;      // bytes that were among its first five
};

enum class Finish { kNotFinished, kMaxBytes, kEndOfText };

/// One conversation: the recurrent state, the next byte's logits, and the generation in progress, if any.
/// All memory is allocated by the constructor; feed, generate and score allocate nothing.
/// Sessions of one model are independent and may run on different threads; one session is not thread safe.
class Session {
 public:
  /// Starts as reset() leaves it.  `model` must not be null.
  explicit Session(std::shared_ptr<const Model> model);

  /// Back to an empty text: state zero, begin-of-text fed, no generation in progress.
  void reset();

  /// Appends bytes to the text (any values, any length).  Work is proportional to the length, so a caller that wants
  /// to be able to stop in between passes slices, e.g. 64 bytes at a time; slicing never changes the result.
  /// boundaries: empty, or as many as bytes: receives each byte's boundary mask, bit s set where a chunk of stage s
  /// begins.  Of a flat model (info().stages == 0) every mask is 0.
  void feed(std::span<const uint8_t> bytes, std::span<uint8_t> boundaries = {});

  /// Begins generating at most `max_bytes` bytes after the text so far, whose last 256 bytes count for the repetition
  /// penalty.  Replaces a generation in progress.  On an error nothing changes.
  Result<void> start(const SampleOptions& options, uint64_t max_bytes);

  /// Writes the next bytes to `out`, at most out.size(); fewer (then finish_state() says why) when the generation
  /// ended.  The bytes become part of the text.  An end-of-text byte is neither written nor made part of the text.
  /// boundaries: empty, or out.size(): the written bytes' boundary masks, as feed() gives them.
  size_t generate(std::span<uint8_t> out, std::span<uint8_t> boundaries = {});

  /// The next byte of each of several sessions of one model, bit for bit what generate() of one byte writes, with the
  /// weights read once for up to kTile sessions.  No session may occur twice.
  ///   bytes  [sessions]  nothing for a session whose generation has ended
  static void generate_each(std::span<Session* const> sessions, std::span<std::optional<uint8_t>> bytes);

  /// kMaxBytes before the first start(): nothing may be generated then.
  Finish finish_state() const { return finish_; }

  /// Predicts each byte from all before it, then feeds it.  Call repeatedly on slices and add up the results.
  /// Fails, with the bytes fed, only if the slice costs 2^32 bits or more.
  Result<Score> score(std::span<const uint8_t> bytes);

  /// Prediction of the next byte: kVocab values, Q16.16.
  std::span<const int32_t> logits() const { return logits_; }

  /// The text's effect on the model as a blob that restore() accepts on any device, for the same model file.
  /// The generation in progress is not part of it.
  std::vector<uint8_t> save() const;

  /// Back to the saved point, with no generation in progress.  A blob that is damaged, of another model or of
  /// another version is an error and changes nothing.
  Result<void> restore(std::span<const uint8_t> blob);

  /// Bytes of text so far, fed and generated; the begin-of-text byte is not counted.
  uint64_t position() const { return position_; }

  const Model& model() const { return *model_; }

 private:
  void remember(std::span<const uint8_t> bytes);
  void stop_generation();
  std::optional<uint8_t> draw();
  void copy_boundaries(std::span<uint8_t> to) const;
  static uint32_t rank_of(std::span<const int32_t> logits, uint8_t byte);

  static constexpr size_t kRecent = 256;  // the repetition penalty's window

  std::shared_ptr<const Model> model_;
  Context context_;
  std::vector<int32_t> logits_;       // [kVocab], for the next byte
  std::vector<int32_t> tile_logits_;  // [kTile][kVocab], for score() and generate_each()
  std::vector<uint8_t> recent_;       // ring of the last kRecent bytes, indexed by position % kRecent
  uint64_t position_ = 0;
  std::optional<Sampler> sampler_;  // of the generation in progress
  uint64_t bytes_left_ = 0;
  Finish finish_ = Finish::kMaxBytes;
};

}  // namespace tern
