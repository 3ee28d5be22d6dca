// What JavaScript can call: a loader, the model it makes, and sessions of that model.
// SPDX-License-Identifier: MIT
//
// Bytes cross through one shared buffer: JavaScript asks for a view with buffer(size), fills it and names the size in
// the next call, or reads there what a call left.  Errors are values {code, message}: code 0 is success, else
// 1 + ErrorCode.  64-bit numbers are BigInts.  The only caller is web/src/engine/engine.ts.

#include <emscripten/bind.h>
#include <emscripten/em_js.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "base/result.h"
#include "kernels/dispatch.h"
#include "session/choose_threads.h"
#include "session/session.h"

namespace tern {
namespace {

std::vector<uint8_t> shared_buffer;

/// A view of the first `size` bytes, valid until the next call into the engine.
emscripten::val buffer(uint32_t size) {
  if (size > shared_buffer.size()) shared_buffer.resize(size);
  return emscripten::val(emscripten::typed_memory_view(size, shared_buffer.data()));
}

std::span<uint8_t> in_buffer(uint32_t size) {
  TERN_CHECK(size <= shared_buffer.size());
  return {shared_buffer.data(), size};
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

/// Memory running out ends the module, so the model's share is tried first: once freed, it stays with the module.
Status reserve(uint32_t bytes) {
  void* volatile memory = std::malloc(bytes);  // volatile: or the pair is optimised away
  std::free(memory);
  if (memory != nullptr) return {};
  return status_of<void>(
      error_f(ErrorCode::kOutOfMemory, "the model needs %u bytes, this page cannot get them", bytes));
}

using LoadedModel = std::shared_ptr<const Model>;  // null until finish() fills it

const LoadedModel& checked(const LoadedModel& model) {
  TERN_CHECK(model != nullptr);
  return model;
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
Status push(ModelLoader& loader, uint32_t size) { return status_of(loader.push(in_buffer(size))); }

Status finish(ModelLoader& loader, LoadedModel& model) {
  Result<LoadedModel> result = loader.finish();
  if (result.ok()) model = result.value();
  return status_of(result);
}

#ifndef TERN_THREADS  // so that all modules have the same functions
void set_threads(uint32_t) {}
uint32_t prepare_helper(uint32_t) { return 0; }
#endif

uint32_t choose_threads(const LoadedModel& model, uint32_t most) {
  return choose_threads(checked(model), most, tern_microseconds);
}

struct ScoreResult {
  Status status;
  Score score;
};

Session* open(const LoadedModel& model) { return new Session(checked(model)); }
Status start(Session& session, SampleOptions options, uint64_t max) { return status_of(session.start(options, max)); }

/// Leaves the boundary masks of the bytes behind them, from `size` on.
void feed(Session& session, uint32_t size) {
  const std::span<uint8_t> both = in_buffer(2 * size);
  session.feed(both.first(size), both.last(size));
}

/// Leaves the bytes at the front of the buffer and their boundary masks from `size` on.
uint32_t generate(Session& session, uint32_t size) {
  const std::span<uint8_t> both = in_buffer(2 * size);
  return static_cast<uint32_t>(session.generate(both.first(size), both.last(size)));
}

uint32_t finish_state(const Session& session) { return static_cast<uint32_t>(session.finish_state()); }
Status restore(Session& session, uint32_t size) { return status_of(session.restore(in_buffer(size))); }

uint32_t save(const Session& session) {
  shared_buffer = session.save();
  return static_cast<uint32_t>(shared_buffer.size());
}

ScoreResult score(Session& session, uint32_t size) {
  const Result<Score> result = session.score(in_buffer(size));
  return {status_of(result), result.ok() ? result.value() : Score{}};
}

}  // namespace

EMSCRIPTEN_BINDINGS(tern) {
  using namespace emscripten;
  function("buffer", &buffer);
  function("reserve", &reserve);
  function("setThreads", &set_threads);
  function("prepareHelper", &prepare_helper);
  function("chooseThreads", select_overload<uint32_t(const LoadedModel&, uint32_t)>(&choose_threads));
  function("kernelLevel", +[] { return std::string(dispatch().level->name); });
  function("probe", &probe_json);
  value_object<Status>("Status").field("code", &Status::code).field("message", &Status::message);
  value_object<Score>("Score")
      .field("bytes", &Score::bytes)
      .field("bitsQ32", &Score::bits_q32)
      .field("top1", &Score::top1)
      .field("top5", &Score::top5);
  value_object<ScoreResult>("ScoreResult").field("status", &ScoreResult::status).field("score", &ScoreResult::score);
  value_object<KeyValue>("KeyValue").field("key", &KeyValue::key).field("value", &KeyValue::value);
  register_vector<KeyValue>("KeyValues");
  value_object<SampleOptions>("SampleOptions")
      .field("greedy", &SampleOptions::greedy)
      .field("temperatureQ16", &SampleOptions::temperature_q16)
      .field("topK", &SampleOptions::top_k)
      .field("topPQ16", &SampleOptions::top_p_q16)
      .field("minPQ16", &SampleOptions::min_p_q16)
      .field("repetitionPenaltyQ16", &SampleOptions::repetition_penalty_q16)
      .field("seed", &SampleOptions::seed);
  value_object<ModelInfo>("ModelInfo")
      .field("architecture", &ModelInfo::architecture)
      .field("name", &ModelInfo::name)
      .field("stages", &ModelInfo::stages)
      .field("parameters", &ModelInfo::parameters)
      .field("fileBytes", &ModelInfo::file_bytes)
      .field("packedBytes", &ModelInfo::packed_bytes)
      .field("stateBytes", &ModelInfo::state_bytes)
      .field("fingerprint", &ModelInfo::fingerprint)
      .field("config", &ModelInfo::config)
      .field("metadata", &ModelInfo::metadata);

  class_<LoadedModel>("LoadedModel").constructor<>().function("info", &info);
  class_<ModelLoader>("Loader")
      .constructor<>()
      .function("push", &push)
      .function("bytesExpected", &ModelLoader::bytes_expected)
      .function("memoryNeeded", &ModelLoader::memory_needed)
      .function("finish", &finish);
  class_<Session>("Conversation")
      .constructor(&open, allow_raw_pointers())
      .function("reset", &Session::reset)
      .function("feed", &feed)
      .function("start", &start)
      .function("generate", &generate)
      .function("finishState", &finish_state)
      .function("score", &score)
      .function("save", &save)
      .function("restore", &restore)
      .function("position", &Session::position);
}

}  // namespace tern
