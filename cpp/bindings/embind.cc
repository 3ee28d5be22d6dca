// What JavaScript can call: a loader, the model it makes, and sessions of that model.
// SPDX-License-Identifier: MIT
//
// Bytes and tokens cross through one shared buffer: JavaScript asks for a view with buffer(size), fills it and names
// the size in the next call, or reads there what a call left.  Errors are values {code, message}: code 0 is success,
// else 1 + ErrorCode.  64-bit numbers are BigInts.  The only caller is web/src/engine/engine.ts.

#include <emscripten/bind.h>
#include <emscripten/em_js.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/result.h"
#include "base/sha256.h"
#include "kernels/dispatch.h"
#include "session/choose_threads.h"
#include "session/session.h"

namespace tern {
namespace {

std::vector<Token> shared_buffer;

std::span<uint8_t> all_bytes() {
  return {reinterpret_cast<uint8_t*>(shared_buffer.data()), sizeof(Token) * shared_buffer.size()};
}

/// A view of the first `size` bytes, valid until the next call into the engine.  Undefined where there is no memory.
emscripten::val buffer(uint32_t size) {
  if (size > all_bytes().size()) {
    if (!affords(size)) return emscripten::val::undefined();
    shared_buffer.resize(size / sizeof(Token) + 1);
  }
  return emscripten::val(emscripten::typed_memory_view(size, all_bytes().data()));
}

std::span<uint8_t> in_buffer(uint32_t size) {
  TERN_CHECK(size <= all_bytes().size());
  return all_bytes().first(size);
}

std::span<Token> tokens_in_buffer(uint32_t count) {
  TERN_CHECK(count <= shared_buffer.size());
  return std::span(shared_buffer).first(count);
}

/// The chunk masks of the first `count` tokens of the buffer, a byte for each, behind all of them.
std::span<uint8_t> behind(uint32_t count) {
  TERN_CHECK(count <= all_bytes().size() / (sizeof(Token) + 1));
  return all_bytes().subspan(sizeof(Token) * count, count);
}

struct Status {
  uint32_t code = 0;
  std::string message;
};

template <class T>
Status status_of(const Result<T>& result) {
  if (result.ok()) return {};
  return {1 + static_cast<uint32_t>(result.error().code), result.error().message};
}

/// Empty until finish() fills it.  One thread calls, so one workspace serves all conversations.
struct LoadedModel {
  std::shared_ptr<const Model> model;
  std::shared_ptr<Workspace> workspace;
};

const std::shared_ptr<const Model>& checked(const LoadedModel& loaded) {
  TERN_CHECK(loaded.model != nullptr);
  return loaded.model;
}

// Truncated to 32 bits on the way in: the module has no floating-point instruction for it.
EM_JS(uint32_t, tern_microseconds, (), { return performance.now() * 1000; });

/// What kernels/dispatch.h says of probe(), as JSON: {"levels": [[name, exact, rate, in use], ...], "tables": [rate,
/// tokens]} with rates in products per microsecond.  rounds = 0 measures nothing.
std::string probe_json(uint32_t rounds) {
  const ProbeReport report = probe(rounds > 0 ? tern_microseconds : nullptr, rounds);
  std::string json = "{\"levels\":[";
  for (const LevelProbe& level : report.levels) {
    if (json.back() == ']') json += ',';
    json += std::string("[\"") + level.name + "\"," + (level.exact ? "true," : "false,") +
            std::to_string(level.kmacs_per_ms) + (level.in_use ? ",true]" : ",false]");
  }
  return json + "],\"tables\":[" + std::to_string(report.table_kmacs_per_ms) + ',' +
         std::to_string(report.table_tokens) + "]}";
}

ModelInfo info(const LoadedModel& model) { return checked(model)->info(); }
std::string tokenizer(const LoadedModel& model) { return checked(model)->tokenizer(); }
void hash(Sha256& sha256, uint32_t size) { sha256.push(in_buffer(size)); }
Status push(ModelLoader& loader, uint32_t size) { return status_of(loader.push(in_buffer(size))); }

Status finish(ModelLoader& loader, LoadedModel& model) {
  Result<std::shared_ptr<const Model>> result = loader.finish();
  if (!result.ok()) return status_of(result);
  Result<std::unique_ptr<Workspace>> workspace = result.value()->new_workspace();
  if (workspace.ok()) model = {result.value(), std::move(workspace).value()};
  return status_of(workspace);
}

#ifndef TERN_THREADS  // so that all modules have the same functions
void set_threads(uint32_t) {}
uint32_t prepare_helper(uint32_t) { return 0; }
#endif

uint32_t choose_threads(const LoadedModel& model, uint32_t most) {
  return choose_threads(checked(model), most, tern_microseconds);
}

/// Empty until open() fills it.
struct Conversation {
  std::optional<Session> session;
  Encoder encoder;
  Decoder decoder;
};

Session& checked(Conversation& conversation) {
  TERN_CHECK(conversation.session.has_value());
  return *conversation.session;
}

const Session& checked(const Conversation& conversation) {
  TERN_CHECK(conversation.session.has_value());
  return *conversation.session;
}

Status open(Conversation& conversation, const LoadedModel& loaded) {
  Result<Session> session = Session::open(checked(loaded), loaded.workspace);
  if (session.ok()) conversation.session.emplace(std::move(session).value());
  return status_of(session);
}

/// Leaves the last tokens of the text in the buffer, as many as it answers, at most `most`.
uint32_t recent(const Conversation& conversation, uint32_t most) {
  const std::vector<Token> tokens = checked(conversation).recent(most);
  std::ranges::copy(tokens, tokens_in_buffer(most).begin());
  return static_cast<uint32_t>(tokens.size());
}

/// Leaves the logits of the next token in the buffer, Q16.16, one for each token of the vocabulary.
void logits(Conversation& conversation) {
  const std::span<const int32_t> logits = checked(conversation).logits();
  std::ranges::copy(logits, tokens_in_buffer(static_cast<uint32_t>(logits.size())).begin());
}

void reset(Conversation& conversation) { checked(conversation).reset(); }

/// In the buffer: the tokens that were drawn before, and a table of rules; `rules`: its words, 0 for none.
Status start(Conversation& conversation, SampleOptions options, uint64_t max, uint32_t drawn, uint32_t rules) {
  Session& session = checked(conversation);
  const std::span<const Token> given = tokens_in_buffer(drawn + rules);
  if (!affords(sizeof(Token) * given.size()))
    return {1 + static_cast<uint32_t>(ErrorCode::kOutOfMemory), "no memory for the rules"};
  std::optional<Rules> read;
  if (rules > 0) {
    Result<Rules> result = Rules::read(given.subspan(drawn), session.model().info().vocabulary);
    if (!result.ok()) return status_of(result);
    read = std::move(result).value();
  }
  return status_of(session.start(options, max, std::move(read), given.first(drawn)));
}

/// Answers how many of the tokens in the buffer were read within the budget, about so many multiply-adds, and leaves
/// their chunk masks behind all of them.  In the next call come the rest, without those.  All are in the vocabulary.
uint32_t feed(Conversation& conversation, uint32_t count, uint64_t budget) {
  Session& session = checked(conversation);
  std::ranges::fill(behind(count), uint8_t{0});
  ChunkMasks masks(behind(count), session.position() + 1);
  const std::span<const Token> tokens = tokens_in_buffer(count);
  return static_cast<uint32_t>(session.feed(tokens, {.budget = budget, .observer = &masks}).value());
}

/// Answers how many tokens it wrote to the front of the buffer within the budget; their chunk masks are behind `count`.
uint32_t generate(Conversation& conversation, uint32_t count, uint64_t budget) {
  Session& session = checked(conversation);
  std::ranges::fill(behind(count), uint8_t{0});
  ChunkMasks masks(behind(count), session.position() + 1);
  return static_cast<uint32_t>(session.generate(tokens_in_buffer(count), {.budget = budget, .observer = &masks}));
}

std::vector<Session*> gathered;

void gather(Conversation& conversation) { gathered.push_back(&checked(conversation)); }

/// Has the conversations that were gathered, at most kTile, write together: up to `count` tokens each within the
/// budget. Leaves [gathered][1 + count] in the buffer, of each how many it wrote, and which.
void generate_each(uint32_t count, uint64_t budget) {
  const std::vector<Session*> sessions = std::exchange(gathered, {});
  const std::span<Token> written = tokens_in_buffer(static_cast<uint32_t>(sessions.size()) * (1 + count));
  std::ranges::fill(written, Token{0});
  std::vector<std::optional<Token>> tokens(sessions.size());
  for (uint32_t step = 0; step < count && Session::generate_each(sessions, tokens, budget); ++step) {
    for (size_t n = 0; n < sessions.size(); ++n) {
      Token* const own = &written[n * (1 + count)];
      if (tokens[n]) own[++own[0]] = *tokens[n];
    }
  }
}

uint32_t finish_state(const Conversation& conversation) {
  return static_cast<uint32_t>(checked(conversation).finish_state());
}

Status restore(Conversation& conversation, uint32_t size) {
  return status_of(checked(conversation).restore(in_buffer(size)));
}

/// The blob is in the buffer, whose size it answers; 0 where there is no memory for it.
uint32_t save(Conversation& conversation) {
  Session& session = checked(conversation);
  const ModelInfo& info = session.model().info();
  const uint64_t needed = session.state_bytes() + sizeof(int32_t) * info.vocabulary.size + (1 << 16);
  if (!affords(2 * needed)) return 0;
  const std::vector<uint8_t> blob = session.save();
  buffer(static_cast<uint32_t>(blob.size()));
  std::ranges::copy(blob, all_bytes().begin());
  return static_cast<uint32_t>(blob.size());
}

/// Why the last call did less than it might have: 0 no reason that lasts, 1 the context is full, 2 no memory for more.
uint32_t fullness(const Conversation& conversation) {
  const Session& session = checked(conversation);
  return session.lacks_memory() ? 2 : session.room() == 0 ? 1 : 0;
}
bool truncate(Conversation& conversation, uint64_t position) { return checked(conversation).truncate(position); }
bool is_inside_batch(const Conversation& conversation) { return checked(conversation).is_inside_batch(); }
uint64_t position(const Conversation& conversation) { return checked(conversation).position(); }

/// Answers how many of the tokens in the buffer were coded within the budget.
uint32_t encode(Conversation& conversation, uint32_t count, uint64_t budget) {
  Session& session = checked(conversation);
  return static_cast<uint32_t>(session.encode(tokens_in_buffer(count), conversation.encoder, {.budget = budget}));
}

/// The code is in the buffer, whose size it answers.
uint32_t encoded(Conversation& conversation) {
  const std::vector<uint8_t> code = conversation.encoder.finish();
  buffer(static_cast<uint32_t>(code.size()));
  std::ranges::copy(code, all_bytes().begin());
  return static_cast<uint32_t>(code.size());
}

/// A code in the buffer.
void start_decoding(Conversation& conversation, uint32_t size) {
  const std::span<const uint8_t> code = in_buffer(size);
  conversation.decoder = Decoder({code.begin(), code.end()});
}

/// Answers how many tokens it wrote to the front of the buffer within the budget, or 2^32 - 1 for a code that is none.
uint32_t decode(Conversation& conversation, uint32_t count, uint64_t budget) {
  bool damaged = false;
  Session& session = checked(conversation);
  const size_t done = session.decode(tokens_in_buffer(count), conversation.decoder, damaged, {.budget = budget});
  return damaged ? ~uint32_t{0} : static_cast<uint32_t>(done);
}

/// Answers how many tokens it scored within the budget, of `count` that lie behind the room for their scores, and
/// leaves those in front of them; behind them come the `top` likeliest of each (TokenScore, Token and Likely in
/// text/softmax.h).
uint32_t score(Conversation& conversation, uint32_t count, uint32_t top, uint64_t budget) {
  const std::span<uint8_t> all = all_bytes();
  const size_t tokens_at = sizeof(TokenScore) * count;
  const size_t top_at = tokens_at + sizeof(Token) * count;
  const size_t likely = size_t{count} * top;
  TERN_CHECK(top_at + sizeof(Likely) * likely <= all.size());
  const std::span tokens(reinterpret_cast<const Token*>(all.data() + tokens_at), count);
  const std::span scores(reinterpret_cast<TokenScore*>(all.data()), count);
  const std::span expected(reinterpret_cast<Likely*>(all.data() + top_at), likely);
  return static_cast<uint32_t>(checked(conversation).score_each(tokens, scores, expected, {.budget = budget}));
}

}  // namespace

EMSCRIPTEN_BINDINGS(tern) {
  using namespace emscripten;
  function("buffer", &buffer);
  function("setThreads", &set_threads);
  function("prepareHelper", &prepare_helper);
  function("chooseThreads", select_overload<uint32_t(const LoadedModel&, uint32_t)>(&choose_threads));
  function("gather", &gather);
  function("generateEach", &generate_each);
  function("kernelLevel", +[] { return std::string(dispatch().level->name); });
  function("probe", &probe_json);
  value_object<Status>("Status").field("code", &Status::code).field("message", &Status::message);
  value_object<KeyValue>("KeyValue").field("key", &KeyValue::key).field("value", &KeyValue::value);
  register_vector<KeyValue>("KeyValues");
  value_object<SampleOptions>("SampleOptions")
      .field("greedy", &SampleOptions::greedy)
      .field("temperatureQ16", &SampleOptions::temperature_q16)
      .field("topK", &SampleOptions::top_k)
      .field("topPQ16", &SampleOptions::top_p_q16)
      .field("minPQ16", &SampleOptions::min_p_q16)
      .field("repetitionPenaltyQ16", &SampleOptions::repetition_penalty_q16)
      .field("seed", &SampleOptions::seed)
      .field("raw", &SampleOptions::raw);
  value_object<Vocabulary>("Vocabulary")
      .field("size", &Vocabulary::size)
      .field("bos", &Vocabulary::bos)
      .field("eos", &Vocabulary::eos);
  value_object<ModelInfo>("ModelInfo")
      .field("architecture", &ModelInfo::architecture)
      .field("name", &ModelInfo::name)
      .field("vocabulary", &ModelInfo::vocabulary)
      .field("stages", &ModelInfo::stages)
      .field("parameters", &ModelInfo::parameters)
      .field("fileBytes", &ModelInfo::file_bytes)
      .field("packedBytes", &ModelInfo::packed_bytes)
      .field("stateBytes", &ModelInfo::state_bytes)
      .field("stateBytesPerToken", &ModelInfo::state_bytes_per_token)
      .field("fingerprint", &ModelInfo::fingerprint)
      .field("checked", &ModelInfo::checked)
      .field("warnings", &ModelInfo::warnings)
      .field("config", &ModelInfo::config)
      .field("metadata", &ModelInfo::metadata);

  class_<LoadedModel>("LoadedModel").constructor<>().function("info", &info).function("tokenizer", &tokenizer);
  class_<Sha256>("Sha256").constructor<>().function("push", &hash).function("hex", &Sha256::hex);
  class_<ModelLoader>("Loader")
      .constructor<>()
      .function("push", &push)
      .function("bytesExpected", &ModelLoader::bytes_expected)
      .function("finish", &finish);
  class_<Conversation>("Conversation")
      .constructor<>()
      .function("open", &open)
      .function("reset", &reset)
      .function("feed", &feed)
      .function("start", &start)
      .function("generate", &generate)
      .function("finishState", &finish_state)
      .function("score", &score)
      .function("encode", &encode)
      .function("encoded", &encoded)
      .function("startDecoding", &start_decoding)
      .function("decode", &decode)
      .function("save", &save)
      .function("restore", &restore)
      .function("recent", &recent)
      .function("logits", &logits)
      .function("fullness", &fullness)
      .function("truncate", &truncate)
      .function("isInsideBatch", &is_inside_batch)
      .function("position", &position);
}

}  // namespace tern
