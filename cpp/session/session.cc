// session.cc: loading, and one conversation over a model's run().
// SPDX-License-Identifier: MIT
#include "session/session.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "base/memory.h"
#include "session/snapshot.h"

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
  return impl_->builder.finish(impl_->reader.fingerprint(), impl_->reader.bytes_expected(),
                               impl_->reader.has_checksum());
}

uint64_t ModelLoader::bytes_expected() const { return impl_->reader.bytes_expected(); }

namespace {

Error too_costly() { return error_f(ErrorCode::kBadState, "expected a cost below 2^32 bits: score shorter slices"); }

/// Room for as many predictions as a batch wants.
std::span<int32_t> predictions(const Workspace& workspace, size_t wanted) {
  const MatrixView<int32_t> all = workspace.logits.view();
  return {all.data, wanted * all.cols};
}

}  // namespace

// ---- Session: the text ----------------------------------------------------------------------------------------------

Result<Session> Session::open(std::shared_ptr<const Model> model, std::shared_ptr<Workspace> workspace,
                              uint64_t most_tokens) {
  Result<std::unique_ptr<State>> state = model->new_state(most_tokens);
  if (!state.ok()) return state.error();
  if (state.value()->capacity() < 2) {
    return error_f(ErrorCode::kBadOption, "expected a context of 2 tokens or more: one begins the text");
  }
  const uint64_t rest = sizeof(int32_t) * model->info().vocabulary.size + sizeof(Token) * kRecent;
  if (!affords(rest)) return error_f(ErrorCode::kOutOfMemory, "a conversation cannot get the memory for its logits");
  return Session(std::move(model), std::move(workspace), std::move(state).value());
}

Session::Session(std::shared_ptr<const Model> model)
    : Session(model, std::move(model->new_workspace()).value(), std::move(model->new_state(kNoLimit)).value()) {}

Session::Session(std::shared_ptr<const Model> model, std::shared_ptr<Workspace> workspace, std::unique_ptr<State> state)
    : model_(std::move(model)),
      workspace_(std::move(workspace)),
      state_(std::move(state)),
      logits_(vocabulary().size),
      recent_(kRecent) {}

Session::~Session() {
  if (workspace_ != nullptr) workspace_->forget(state_.get());
}

void Session::reset() {
  workspace_->forget(state_.get());
  state_->reset();
  std::ranges::fill(logits_, 0);  // a saved point has all of both: the same text gives the same bytes
  std::ranges::fill(recent_, 0);
  stop_generation();
}

/// One batch.  Predictions are in the workspace when it is done.
bool Session::run(std::span<const Token> tokens, Want want, Work& work) {
  State* const states[] = {state_.get()};
  Batch batch{.tokens = tokens, .states = states, .want = want, .observer = work.observer};
  batch.logits = predictions(*workspace_, batch.wanted());
  return model_->run(batch, *workspace_, work.budget, work.piece);
}

/// Reads the token that begins a text, if that has not happened yet.
bool Session::begin(Work& work) {
  if (state_->length() > 0) return true;
  if (!run({&vocabulary().bos, 1}, Want::kLast, work)) return false;
  std::ranges::copy(workspace_->logits.view().row(0), logits_.begin());
  return true;
}

/// How many of the next tokens the text has room and memory for.
size_t Session::reserve(uint64_t tokens) {
  tokens = std::min(tokens, state_->room());
  lacks_memory_ = !state_->reserve(state_->length() + tokens);
  return static_cast<size_t>(lacks_memory_ ? state_->reserved() - state_->length() : tokens);
}

Result<void> Session::check_tokens(std::span<const Token> tokens) const {
  for (const Token token : tokens) {
    if (token >= vocabulary().size) {
      return error_f(ErrorCode::kBadOption, "expected tokens below %u, found %u", vocabulary().size, token);
    }
  }
  return {};
}

Result<size_t> Session::feed(std::span<const Token> tokens, Work work) {
  const Result<void> checked = check_tokens(tokens);
  if (!checked.ok()) return checked.error();
  return feed_tokens(tokens, work);
}

size_t Session::feed_tokens(std::span<const Token> tokens, Work& work) {
  drawn_.reset();
  if (!begin(work)) return 0;
  const bool may_stop = work.budget != kNoLimit;
  const size_t most = reserve(tokens.size());
  size_t fed = 0;
  while (fed < most) {
    const std::span<const Token> tile = tokens.subspan(fed, std::min(most - fed, kTile));
    // Wherever a caller stops, the text so far can be continued: that takes the prediction after it.
    const Want want = may_stop || fed + tile.size() == most ? Want::kLast : Want::kNone;
    if (!run(tile, want, work)) break;
    fed += tile.size();
    remember(tile);
    if (want == Want::kLast) std::ranges::copy(workspace_->logits.view().row(0), logits_.begin());
  }
  return fed;
}

namespace {

/// Bytes as tokens, some at a time, while `call` does all of them; answers how many bytes it did.
template <class Bytes, class Call>
size_t in_tokens(std::span<Bytes> bytes, const Call& call) {
  std::array<Token, 16 * kTile> tokens;
  size_t done = 0;
  for (size_t now = 0, count = 0; done < bytes.size() && now == count; done += now) {
    count = std::min(bytes.size() - done, tokens.size());
    std::copy_n(bytes.begin() + static_cast<std::ptrdiff_t>(done), count, tokens.begin());
    now = call(std::span(tokens).first(count), done);
  }
  return done;
}

}  // namespace

size_t Session::feed(std::span<const uint8_t> bytes, Work work) {
  TERN_CHECK(vocabulary().size >= kBytes.size);
  if (bytes.empty()) return feed_tokens({}, work);
  return in_tokens(bytes, [&](std::span<const Token> tokens, size_t) { return feed_tokens(tokens, work); });
}

bool Score::add(const Score& more) {
  if (more.bits_q32 > UINT64_MAX - bits_q32) return false;
  bytes += more.bytes;
  bits_q32 += more.bits_q32;
  top1 += more.top1;
  top5 += more.top5;
  return true;
}

Result<Score> Session::score(std::span<const Token> tokens, Work work) {
  const Result<void> checked = check_tokens(tokens);
  if (!checked.ok()) return checked.error();
  return score_tokens(tokens, work);
}

Result<Score> Session::score(std::span<const uint8_t> bytes, Work work) {
  TERN_CHECK(vocabulary().size >= kBytes.size);
  Result<Score> total = Score{};
  in_tokens(bytes, [&](std::span<const Token> tokens, size_t) -> size_t {
    const Result<Score> part = score_tokens(tokens, work);
    if (!part.ok() || (total.ok() && !total.value().add(part.value()))) total = too_costly();
    return part.ok() ? static_cast<size_t>(part.value().bytes) : tokens.size();
  });
  return total;
}

/// Calls each(prediction, token) for every token, which it then feeds.
template <class Each>
size_t Session::predict_each(std::span<const Token> tokens, Work& work, const Each& each) {
  drawn_.reset();
  if (!begin(work)) return 0;
  const size_t most = reserve(tokens.size());
  size_t done = 0;
  while (done < most) {
    const std::span<const Token> tile = tokens.subspan(done, std::min(most - done, kTile));
    if (!run(tile, Want::kAll, work)) break;
    done += tile.size();
    const MatrixView<const int32_t> after = workspace_->logits.view();
    for (size_t t = 0; t < tile.size(); ++t) {
      each(t == 0 ? std::span<const int32_t>(logits_) : after.row(t - 1), tile[t]);
    }
    std::ranges::copy(after.row(tile.size() - 1), logits_.begin());
    remember(tile);
  }
  return done;
}

Result<Score> Session::score_tokens(std::span<const Token> tokens, Work& work) {
  Score score;
  bool overflow = false;
  predict_each(tokens, work, [&](std::span<const int32_t> prediction, Token token) {
    const TokenScore one = score_token(prediction, token);
    overflow |= !score.add({1, one.bits_q32, one.rank < 1, one.rank < 5});
  });
  if (overflow) return too_costly();
  return score;
}

size_t Session::score_each(std::span<const Token> tokens, std::span<TokenScore> scores, std::span<Likely> top,
                           Work work) {
  TERN_CHECK(scores.size() == tokens.size() && check_tokens(tokens).ok());
  const size_t likeliest = tokens.empty() ? 0 : top.size() / tokens.size();
  size_t done = 0;
  return predict_each(tokens, work, [&](std::span<const int32_t> prediction, Token token) {
    scores[done] = score_token(prediction, token, top.subspan(done * likeliest, likeliest));
    ++done;
  });
}

size_t Session::encode(std::span<const Token> tokens, Encoder& encoder, Work work) {
  TERN_CHECK(check_tokens(tokens).ok());
  const auto code = [&](std::span<const int32_t> prediction, Token token) { encoder.push(prediction, token); };
  size_t done = predict_each(tokens, work, code);
  while (done < tokens.size() && room() == 0) {
    reset();
    done += predict_each(tokens.subspan(done), work, code);
  }
  return done;
}

size_t Session::decode(std::span<Token> tokens, Decoder& decoder, bool& damaged, Work work) {
  damaged = false;
  for (size_t done = 0; done < tokens.size(); ++done) {
    if (room() == 0 && !drawn_) reset();
    if (!begin(work) || reserve(1) == 0) return done;
    if (!drawn_) drawn_ = decoder.next(logits_);
    damaged = !drawn_;
    if (damaged) return done;
    const Token token = *drawn_;
    if (!run({&token, 1}, Want::kLast, work)) return done;
    drawn_.reset();
    std::ranges::copy(workspace_->logits.view().row(0), logits_.begin());
    remember({&token, 1});
    tokens[done] = token;
  }
  return tokens.size();
}

/// The last tokens of the text, which has them already.
void Session::remember(std::span<const Token> tokens) {
  uint64_t at = position() - tokens.size();
  for (const Token token : tokens) recent_[static_cast<size_t>(at++ % kRecent)] = token;
}

std::vector<Token> Session::recent(size_t most) const {
  std::vector<Token> tokens;
  for (uint64_t at = position() - std::min<uint64_t>({position(), most, kRecent}); at < position(); ++at) {
    tokens.push_back(recent_[static_cast<size_t>(at % kRecent)]);
  }
  return tokens;
}

// ---- Session: generation --------------------------------------------------------------------------------------------

Result<void> Session::start(const SampleOptions& options, uint64_t max_tokens, std::optional<Rules> rules,
                            std::span<const Token> drawn) {
  Result<void> valid = validate(options, vocabulary());
  if (valid.ok()) valid = check_tokens(drawn);
  if (!valid.ok()) return valid;
  const uint64_t left = max_tokens - std::min<uint64_t>(max_tokens, drawn.size());
  const bool is_constrained = rules && rules->has_constraint();
  bool stopped = false;
  for (const Token token : drawn) stopped |= rules && rules->push(token);
  if (is_constrained && (!rules->has_constraint() || rules->distance() > left)) {
    return error_f(ErrorCode::kBadOption,
                   "expected room for the %u bytes that the constraint needs at least, found %llu", rules->distance(),
                   static_cast<unsigned long long>(left));
  }
  constexpr uint64_t kBytesPerToken = 16;
  if (!affords(kBytesPerToken * vocabulary().size)) {
    return error_f(ErrorCode::kOutOfMemory, "a generation cannot get the memory to draw from");
  }
  workspace_->forget(state_.get());
  drawn_.reset();
  lacks_memory_ = false;
  sampler_.emplace(vocabulary(), options);
  for (const Token token : recent(kRecent)) sampler_->observe(token);
  sampler_->skip(drawn.size());
  rules_ = std::move(rules);
  raw_ = options.raw;
  tokens_left_ = left;
  finish_ = stopped ? Finish::kStop : left == 0 ? Finish::kMaxBytes : Finish::kNotFinished;
  return {};
}

/// The last three bytes say it all.
Utf8Position Session::utf8_position() const {
  Utf8Position utf8;
  for (uint64_t at = position() - std::min<uint64_t>(position(), 3); at < position(); ++at) {
    utf8.push(static_cast<uint8_t>(recent_[static_cast<size_t>(at % kRecent)]));
  }
  return utf8;
}

/// The next token, which the model has not read yet.  Nothing at the end.
std::optional<Token> Session::draw() {
  if (drawn_) return drawn_;
  if (finish_ == Finish::kNotFinished && room() == 0) finish_ = Finish::kContextFull;
  if (finish_ != Finish::kNotFinished || reserve(1) == 0) return std::nullopt;
  std::span<const uint64_t> allowed;
  const bool is_constrained = rules_ && rules_->has_constraint();
  if (is_constrained) {
    allowed = rules_->allowed(tokens_left_);
  } else if (!raw_ && vocabulary() == kBytes) {
    allowed = utf8_position().allowed().words();
  }
  const bool is_over = is_constrained && allowed.empty();  // the whole output is there
  const Token token = is_over ? vocabulary().eos : sampler_->next(logits_, allowed);
  if (token == vocabulary().eos) {
    finish_ = Finish::kEndOfText;
    return std::nullopt;
  }
  drawn_ = token;
  return token;
}

/// The model has read what was drawn.
void Session::commit(Token token, std::span<const int32_t> logits) {
  drawn_.reset();
  sampler_->observe(token);
  remember({&token, 1});
  std::ranges::copy(logits, logits_.begin());
  if (--tokens_left_ == 0) finish_ = Finish::kMaxBytes;
  if (rules_ && rules_->push(token)) finish_ = Finish::kStop;
}

size_t Session::generate_tokens(std::span<Token> out, Work& work) {
  if (finish_ != Finish::kNotFinished || !begin(work)) return 0;
  size_t count = 0;
  while (count < out.size()) {
    const std::optional<Token> token = draw();
    if (!token || !run({&*token, 1}, Want::kLast, work)) break;
    commit(*token, workspace_->logits.view().row(0));
    out[count++] = *token;
  }
  return count;
}

size_t Session::generate(std::span<Token> out, Work work) { return generate_tokens(out, work); }

size_t Session::generate(std::span<uint8_t> out, Work work) {
  TERN_CHECK(vocabulary().size <= kBytes.size);
  return in_tokens(out, [&](std::span<Token> tokens, size_t at) {
    const size_t count = generate_tokens(tokens, work);
    for (size_t n = 0; n < count; ++n) out[at + n] = static_cast<uint8_t>(tokens[n]);
    return count;
  });
}

void Session::generate_each(std::span<Session* const> sessions, std::span<std::optional<Token>> tokens) {
  for (size_t first = 0; first < sessions.size(); first += kTile) {
    const size_t count = std::min(kTile, sessions.size() - first);
    uint64_t budget = kNoLimit;
    TERN_CHECK(sessions[first]->model_ == sessions[0]->model_);
    TERN_CHECK(generate_each(sessions.subspan(first, count), tokens.subspan(first, count), budget));
  }
}

bool Session::generate_each(std::span<Session* const> sessions, std::span<std::optional<Token>> tokens,
                            uint64_t& budget) {
  TERN_CHECK(sessions.size() <= kTile && tokens.size() == sessions.size());
  if (sessions.empty()) return true;
  Workspace& workspace = *sessions[0]->workspace_;
  Work work{.budget = budget};
  std::array<Session*, kTile> running;
  std::array<State*, kTile> states;
  std::array<Token, kTile> drawn;
  size_t count = 0;
  for (size_t n = 0; n < sessions.size(); ++n) {
    Session& session = *sessions[n];
    TERN_CHECK(session.model_ == sessions[0]->model_);
    if (session.workspace_.get() != &workspace) {
      TERN_CHECK(budget == kNoLimit);
      session.workspace_->forget(session.state_.get());
    }
    const bool has_begun = session.finish_ != Finish::kNotFinished || session.begin(work);
    budget = work.budget;
    if (!has_begun) return false;
    tokens[n] = session.draw();
    if (!tokens[n]) continue;
    running[count] = &session;
    states[count] = session.state_.get();
    drawn[count++] = *tokens[n];
  }
  if (count == 0) return true;
  Batch batch{.tokens = std::span(drawn).first(count), .states = std::span(states).first(count), .want = Want::kAll};
  batch.logits = predictions(workspace, count);
  if (!sessions[0]->model_->run(batch, workspace, budget, work.piece)) return false;
  for (size_t n = 0; n < count; ++n) running[n]->commit(drawn[n], workspace.logits.view().row(n));
  return true;
}

void Session::stop_generation() {
  sampler_.reset();
  rules_.reset();
  drawn_.reset();
  lacks_memory_ = false;
  tokens_left_ = 0;
  finish_ = Finish::kMaxBytes;
}

std::span<const int32_t> Session::logits() {
  Work all;
  begin(all);
  return logits_;
}

// ---- Session: saved points ------------------------------------------------------------------------------------------

std::vector<uint8_t> Session::save() {
  workspace_->forget(state_.get());
  Work all;
  begin(all);
  return write_snapshot({.fingerprint = model_->info().fingerprint,
                         .position = position(),
                         .vocabulary = vocabulary().size,
                         .state = state_->pieces(),
                         .logits = logits_,
                         .recent = recent_});
}

Result<void> Session::restore(std::span<const uint8_t> blob) {
  const Result<uint64_t> position = check_snapshot(blob, {.fingerprint = model_->info().fingerprint,
                                                          .vocabulary = vocabulary().size,
                                                          .recent = kRecent,
                                                          .layout = state_->layout(),
                                                          .capacity = state_->capacity()});
  if (!position.ok()) return position.error();
  if (!state_->reserve(position.value() + 1)) {
    return error_f(ErrorCode::kOutOfMemory, "a saved session of %llu tokens needs %llu bytes, which cannot be had here",
                   static_cast<unsigned long long>(position.value()),
                   static_cast<unsigned long long>(sizeof(int32_t) * state_->layout().words(position.value() + 1)));
  }
  reset();
  state_->set_length(position.value() + 1);
  read_snapshot(blob, {.state = state_->pieces(), .logits = logits_, .recent = recent_});
  return {};
}

bool Session::truncate(uint64_t position) {
  const StateLayout& layout = state_->layout();
  if (layout.fixed > 0 || layout.per_position == 0 || position > this->position()) return false;
  workspace_->forget(state_.get());
  stop_generation();
  if (position == this->position()) return true;
  if (position == 0) {
    reset();
    return true;
  }
  // The prediction after the last token is not remembered: it is read again.
  const auto token_before = [&](uint64_t end) {  // a state that came from elsewhere may have any
    return std::min(state_->token_at(end), vocabulary().size - 1);
  };
  const Token last = token_before(position);
  state_->set_length(position);
  std::ranges::fill(recent_, 0);
  for (uint64_t at = position - std::min<uint64_t>(position, kRecent); at < position; ++at) {
    recent_[static_cast<size_t>(at % kRecent)] = token_before(at + 1);
  }
  Work all;
  feed_tokens({&last, 1}, all);
  return true;
}

}  // namespace tern
