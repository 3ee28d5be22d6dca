// Loading, and one conversation over a model's step() and prefill().
// SPDX-License-Identifier: MIT
#include "session/session.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "session/snapshot.h"
#include "text/softmax.h"

namespace tern {

// ---- Loader ---------------------------------------------------------------------------------------------------------

struct ModelLoader::Impl {
  ModelBuilder builder;
  GgufReader reader{builder};
  Result<void> state;
};

ModelLoader::ModelLoader() : impl_(std::make_unique<Impl>()) {}
ModelLoader::~ModelLoader() = default;
ModelLoader::ModelLoader(ModelLoader&&) noexcept = default;
ModelLoader& ModelLoader::operator=(ModelLoader&&) noexcept = default;

Result<void> ModelLoader::push(std::span<const uint8_t> chunk) {
  if (impl_->state.ok()) impl_->state = impl_->reader.push(chunk);
  return impl_->state;
}

Result<std::shared_ptr<const Model>> ModelLoader::finish() {
  if (impl_->state.ok()) impl_->state = impl_->reader.finish();
  if (!impl_->state.ok()) return impl_->state.error();
  impl_->state = error_f(ErrorCode::kBadState, "this loader has already delivered its model: use a new one");
  return impl_->builder.finish(impl_->reader.fingerprint(), impl_->reader.bytes_expected());
}

uint64_t ModelLoader::bytes_expected() const { return impl_->reader.bytes_expected(); }

uint64_t ModelLoader::memory_needed() const { return bytes_expected() == 0 ? 0 : impl_->builder.memory_bytes(); }

// ---- Session: the text ----------------------------------------------------------------------------------------------

Session::Session(std::shared_ptr<const Model> model)
    : model_(std::move(model)), context_(*model_), logits_(kVocab), tile_logits_(kTile * kVocab), recent_(kRecent) {
  reset();
}

void Session::reset() {
  model_->reset(context_);
  model_->step(kBos, context_, logits_);
  position_ = 0;
  stop_generation();
}

void Session::feed(std::span<const uint8_t> bytes, std::span<uint8_t> boundaries) {
  TERN_CHECK(boundaries.empty() || boundaries.size() == bytes.size());
  while (!bytes.empty()) {
    const std::span<const uint8_t> tile = bytes.first(std::min(bytes.size(), kTile));
    bytes = bytes.subspan(tile.size());
    model_->prefill(tile, context_, bytes.empty() ? std::span(logits_) : std::span<int32_t>());
    if (!boundaries.empty()) {
      copy_boundaries(boundaries.first(tile.size()));
      boundaries = boundaries.subspan(tile.size());
    }
    remember(tile);
  }
}

/// Of what the model read last; a flat model has none.
void Session::copy_boundaries(std::span<uint8_t> to) const {
  const std::span<const uint8_t> masks = context_.boundaries();
  TERN_CHECK(masks.empty() || masks.size() == to.size());
  std::ranges::fill(to, 0);
  std::ranges::copy(masks, to.begin());
}

Result<Score> Session::score(std::span<const uint8_t> bytes) {
  Score score;
  bool overflow = false;
  while (!bytes.empty()) {
    const std::span<const uint8_t> tile = bytes.first(std::min(bytes.size(), kTile));
    bytes = bytes.subspan(tile.size());
    const std::span<int32_t> after = std::span(tile_logits_).first(tile.size() * kVocab);
    model_->prefill(tile, context_, after);
    for (size_t t = 0; t < tile.size(); ++t) {
      const std::span<const int32_t> before = t == 0
                                                  ? std::span<const int32_t>(logits_)
                                                  : std::span<const int32_t>(after).subspan((t - 1) * kVocab, kVocab);
      const uint64_t bits = surprisal(before, tile[t]).raw;
      overflow = overflow || bits > UINT64_MAX - score.bits_q32;
      score.bits_q32 += bits;
      const uint32_t rank = rank_of(before, tile[t]);
      score.top1 += rank < 1;
      score.top5 += rank < 5;
    }
    std::ranges::copy(after.last(kVocab), logits_.begin());
    score.bytes += tile.size();
    remember(tile);
  }
  if (overflow) return error_f(ErrorCode::kBadState, "expected a cost below 2^32 bits: score shorter slices");
  return score;
}

/// How many bytes the model holds more likely; of equal ones the lower value ranks first.
uint32_t Session::rank_of(std::span<const int32_t> logits, uint8_t byte) {
  uint32_t rank = 0;
  for (size_t k = 0; k < kVocab; ++k) rank += logits[k] > logits[byte] || (logits[k] == logits[byte] && k < byte);
  return rank;
}

void Session::remember(std::span<const uint8_t> bytes) {
  for (const uint8_t byte : bytes) recent_[static_cast<size_t>(position_++ % kRecent)] = byte;
}

// ---- Session: generation --------------------------------------------------------------------------------------------

Result<void> Session::start(const SampleOptions& options, uint64_t max_bytes) {
  Result<void> valid = validate(options, kBytes);
  if (!valid.ok()) return valid;
  sampler_.emplace(kBytes, options);
  for (uint64_t at = position_ - std::min<uint64_t>(position_, kRecent); at < position_; ++at) {
    sampler_->observe(recent_[static_cast<size_t>(at % kRecent)]);
  }
  bytes_left_ = max_bytes;
  finish_ = max_bytes == 0 ? Finish::kMaxBytes : Finish::kNotFinished;
  return {};
}

/// The next byte, which becomes part of the text; the model has not read it yet.  Nothing at the end.
std::optional<uint8_t> Session::draw() {
  if (finish_ != Finish::kNotFinished) return std::nullopt;
  const auto byte = static_cast<uint8_t>(sampler_->next(logits_));
  if (byte == kEos) {
    finish_ = Finish::kEndOfText;
    return std::nullopt;
  }
  sampler_->observe(byte);
  remember({&byte, 1});
  if (--bytes_left_ == 0) finish_ = Finish::kMaxBytes;
  return byte;
}

size_t Session::generate(std::span<uint8_t> out, std::span<uint8_t> boundaries) {
  TERN_CHECK(boundaries.empty() || boundaries.size() == out.size());
  size_t count = 0;
  while (count < out.size()) {
    const std::optional<uint8_t> byte = draw();
    if (!byte) break;
    out[count] = *byte;
    model_->step(*byte, context_, logits_);
    if (!boundaries.empty()) copy_boundaries(boundaries.subspan(count, 1));
    ++count;
  }
  return count;
}

void Session::generate_each(std::span<Session* const> sessions, std::span<std::optional<uint8_t>> bytes) {
  TERN_CHECK(bytes.size() == sessions.size());
  std::array<Session*, kTile> running;
  std::array<Context*, kTile> contexts;
  std::array<uint8_t, kTile> tokens;
  size_t count = 0;
  const auto step = [&] {
    const std::span<int32_t> logits = std::span(running[0]->tile_logits_).first(count * kVocab);
    running[0]->model_->step_each(std::span(tokens).first(count), std::span(contexts).first(count), logits);
    for (size_t n = 0; n < count; ++n) {
      std::ranges::copy(logits.subspan(n * kVocab, kVocab), running[n]->logits_.begin());
    }
    count = 0;
  };
  for (size_t n = 0; n < sessions.size(); ++n) {
    Session& session = *sessions[n];
    TERN_CHECK(session.model_ == sessions[0]->model_);
    bytes[n] = session.draw();
    if (!bytes[n]) continue;
    running[count] = &session;
    contexts[count] = &session.context_;
    tokens[count++] = *bytes[n];
    if (count == kTile) step();
  }
  if (count > 0) step();
}

void Session::stop_generation() {
  sampler_.reset();
  bytes_left_ = 0;
  finish_ = Finish::kMaxBytes;
}

// ---- Session: saved points ------------------------------------------------------------------------------------------

std::vector<uint8_t> Session::save() const {
  return write_snapshot({.fingerprint = model_->info().fingerprint,
                         .position = position_,
                         .state = context_.state(),
                         .logits = logits_,
                         .recent = recent_});
}

Result<void> Session::restore(std::span<const uint8_t> blob) {
  const Result<uint64_t> position = read_snapshot(
      blob,
      {.fingerprint = model_->info().fingerprint, .state = context_.state(), .logits = logits_, .recent = recent_});
  if (!position.ok()) return position.error();
  position_ = position.value();
  stop_generation();
  return {};
}

}  // namespace tern
