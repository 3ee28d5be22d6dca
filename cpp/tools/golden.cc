// golden.cc: the program tern_golden prints what the engine computes for a prompt, exactly, as JSON for golden files.
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/dispatch.h"
#include "session/session.h"
#include "tools/conformance.h"
#include "tools/files.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/output.h"
#include "tools/threads.h"

namespace tern {
namespace {

constexpr const char* kUsage =
    "tern_golden --model FILE (--prompt TEXT | --prompt-hex HEX | --prompt-file FILE | --prompt-tokens LIST) "
    "[options]\n"
    "tern_golden --evaluate";

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--prompt", "TEXT", "the prompt"},
    {"--prompt-hex", "HEX", "the prompt as hexadecimal bytes"},
    {"--prompt-file", "FILE", "the prompt is the whole file"},
    {"--prompt-tokens", "LIST", "the prompt as tokens, with commas between them"},
    {"--generate", "SPEC", "generate after the prompt, may be repeated; SPEC is described below"},
    {"--trace", nullptr,
     "add h after each block for every position (position 0 is BOS), [position][block][width] Q16.16; zeros where a "
     "block did not run"},
    {"--all-logits", nullptr, "add the logits after every position, [position][vocabulary] Q16.16"},
    {"--evaluate", nullptr,
     "answer each line of the standard input, an operation's name (see models/SPEC.md) and its inputs, with its "
     "outputs"},
    kThreadsOption,
};

constexpr const char* kOutput =
    "\nSPEC: NAME=VALUE,... with the names greedy and raw (true), temperature, top-k, top-p, min-p, "
    "repetition-penalty, seed\n"
    "and max-bytes (64), e.g. temperature=0.8,top-k=40,seed=7 or greedy,max-bytes=100\n"
    "\noutput: one JSON object with\n"
    "  kernel, architecture, stages (of chunking, 0 in a flat model), fingerprint (16 hex digits)\n"
    "  layers, width  number of blocks, width after the first\n"
    "  prompt_hex     prompt_tokens, a list, where tokens are not bytes\n"
    "  logits         [vocabulary] Q16.16 after the prompt\n"
    "  logits_fnv1a   16 hex digits: FNV-1a 64 over the logits (int32, little endian) after BOS and after each token\n"
    "  score          {bytes (or tokens), bits_q32 (decimal text), top1, top5} of the prompt\n"
    "  boundaries     masks of BOS and the prompt, 2 hex digits each: bit s = a chunk of stage s begins (0 if flat)\n"
    "  generations    [{options, hex (or tokens), boundaries, finish: max_bytes | end_of_text | context_full}]\n"
    "  trace, all_logits   if asked for\n"
    "exit status 1 if step by step, whole-prompt and sliced runs differ in any bit\n";

Error bad(const char* message) { return error_f(ErrorCode::kBadOption, "%s", message); }

Result<std::vector<uint8_t>> from_hex(const std::string& hex) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    const int high = digit(hex[i]);
    const int low = digit(hex[i + 1]);
    if (high < 0 || low < 0) return bad("--prompt-hex: expected pairs of the digits 0-9a-f");
    bytes.push_back(static_cast<uint8_t>(high * 16 + low));
  }
  if (hex.size() % 2 != 0) return bad("--prompt-hex: expected an even number of digits");
  return bytes;
}

Result<std::vector<uint8_t>> bytes_of(const Arguments& arguments) {
  if (arguments.has("--prompt-file")) return read_file(arguments.text("--prompt-file"));
  if (arguments.has("--prompt-hex")) return from_hex(arguments.text("--prompt-hex"));
  const std::string text = arguments.text("--prompt");
  return std::vector<uint8_t>(text.begin(), text.end());
}

using Tokens = std::vector<Token>;

Result<Tokens> prompt_of(const Arguments& arguments, const Vocabulary& vocabulary) {
  Tokens tokens;
  if (arguments.has("--prompt-tokens")) {
    std::istringstream list(arguments.text("--prompt-tokens"));
    for (std::string item; std::getline(list, item, ',');) {
      const Result<uint64_t> token = parse_integer("--prompt-tokens", item, 0, vocabulary.size - 1);
      if (!token.ok()) return token.error();
      tokens.push_back(static_cast<Token>(token.value()));
    }
    return tokens;
  }
  if (vocabulary != kBytes) return bad("the tokens of this model are not bytes: expected --prompt-tokens");
  const Result<std::vector<uint8_t>> bytes = bytes_of(arguments);
  if (!bytes.ok()) return bytes.error();
  return Tokens(bytes.value().begin(), bytes.value().end());
}

/// As hexadecimal bytes, if that is what they are, else as a list.
void write_tokens(const Tokens& tokens, const Vocabulary& vocabulary, const std::string& prefix, JsonWriter& json) {
  if (vocabulary != kBytes) {
    json.key(prefix + "tokens").integers(std::vector<int32_t>(tokens.begin(), tokens.end()));
  } else {
    json.key(prefix + "hex").text(to_hex(std::vector<uint8_t>(tokens.begin(), tokens.end())));
  }
}

/// Residual streams after each block, and chunks, of each position.
class Trace : public Observer {
 public:
  void on_row(const Place& place, std::span<const int32_t> raw, int) override {
    if (place.operation != "out") return;
    if (place.position == 0) {  // at the beginning of a text everything runs
      blocks_.push_back(std::string(place.part));
      widths_.push_back(raw.size());
    }
    const auto block = std::ranges::find(blocks_, place.part) - blocks_.begin();
    rows_[{place.position, block}].assign(raw.begin(), raw.end());
  }

  std::span<const size_t> widths() const { return widths_; }

  /// [position][block][width], zeros where a block did not run.
  void write(JsonWriter& json, size_t positions) const {
    json.open('[');
    for (size_t position = 0; position < positions; ++position) {
      json.open('[');
      for (size_t block = 0; block < widths_.size(); ++block) {
        const auto row = rows_.find({position, block});
        json.integers(row == rows_.end() ? std::vector<int32_t>(widths_[block]) : row->second);
      }
      json.close(']');
    }
    json.close(']');
  }

 private:
  std::vector<std::string> blocks_;
  std::vector<size_t> widths_;
  std::map<std::pair<uint64_t, size_t>, std::vector<int32_t>> rows_;
};

struct Both : Observer {
  Both(Observer* rows_, Observer* chunks_) : rows(rows_), chunks(chunks_) {}
  void on_row(const Place& place, std::span<const int32_t> raw, int bits) override { rows->on_row(place, raw, bits); }
  void on_chunk(size_t text, uint64_t position, uint32_t stage) override { chunks->on_chunk(text, position, stage); }
  Observer *rows, *chunks;
};

/// What stepping through the prompt one token at a time gives; the reference for the faster ways.
struct Steps {
  std::vector<int32_t> logits;      // [1 + prompt][vocabulary]
  std::vector<uint8_t> boundaries;  // [1 + prompt]
  Trace trace;
};

Steps run_steps(const Model& model, const Tokens& prompt) {
  const size_t size = model.info().vocabulary.size;
  Steps steps{std::vector<int32_t>((prompt.size() + 1) * size), std::vector<uint8_t>(prompt.size() + 1), {}};
  const std::unique_ptr<State> state = std::move(model.new_state(kNoLimit)).value();
  const std::unique_ptr<Workspace> workspace = std::move(model.new_workspace()).value();
  State* const states[] = {state.get()};
  for (size_t p = 0; p <= prompt.size(); ++p) {
    const Token token = p == 0 ? model.info().vocabulary.bos : prompt[p - 1];
    const auto logits = std::span(steps.logits).subspan(p * size, size);
    ChunkMasks masks(steps.boundaries, 0);
    Both both{&steps.trace, &masks};
    model.run({.tokens = {&token, 1}, .states = states, .want = Want::kLast, .logits = logits, .observer = &both},
              *workspace);
  }
  return steps;
}

uint64_t fnv1a(std::span<const int32_t> words) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const int32_t word : words) {
    for (int b = 0; b < 4; ++b) hash = (hash ^ (static_cast<uint32_t>(word) >> (8 * b) & 0xff)) * 0x100000001b3;
  }
  return hash;
}

/// False if any slicing of the prompt leaves other logits, boundaries or another state than single steps.
bool slicing_is_exact(const std::shared_ptr<const Model>& model, const Tokens& prompt, const Steps& steps) {
  std::vector<uint8_t> first_saved;
  for (const size_t slice : {size_t{1}, size_t{7}, prompt.size() + 1}) {
    Session session(model);
    std::vector<uint8_t> boundaries(prompt.size());
    for (size_t at = 0; at < prompt.size(); at += slice) {
      const size_t size = std::min(slice, prompt.size() - at);
      ChunkMasks masks(boundaries, 1);
      if (!session.feed(std::span(prompt).subspan(at, size), {.observer = &masks}).ok()) return false;
    }
    if (!std::ranges::equal(boundaries, std::span(steps.boundaries).subspan(1))) return false;
    if (!std::ranges::equal(session.logits(), std::span(steps.logits).last(model->info().vocabulary.size)))
      return false;
    if (first_saved.empty()) first_saved = session.save();
    if (session.save() != first_saved) return false;
  }
  return true;
}

const char* name_of(Finish finish) {
  return finish == Finish::kEndOfText ? "end_of_text" : finish == Finish::kContextFull ? "context_full" : "max_bytes";
}

Result<void> write_generation(const std::shared_ptr<const Model>& model, const Tokens& prompt, const std::string& spec,
                              JsonWriter& json) {
  SampleOptions options;
  uint64_t max_bytes = 64;
  for (size_t at = 0; at < spec.size();) {
    const std::string item = spec.substr(at, spec.find(',', at) - at);
    at += item.size() + 1;
    const size_t equals = item.find('=');
    const std::string name = item.substr(0, equals);
    const std::string value = equals == std::string::npos ? "true" : item.substr(equals + 1);
    if (name == "max-bytes") {
      const Result<uint64_t> number = parse_integer(name, value, 0, 1 << 24);
      if (!number.ok()) return number.error();
      max_bytes = number.value();
    } else {
      Result<void> set = set_sample_option(options, name, value, name);
      if (!set.ok()) return set;
    }
  }
  Session session(model);
  if (const Result<size_t> fed = session.feed(prompt); !fed.ok()) return fed.error();
  Result<void> started = session.start(options, max_bytes);
  if (!started.ok()) return started;
  Tokens out(max_bytes);
  std::vector<uint8_t> boundaries(max_bytes);
  ChunkMasks masks(boundaries, 1 + prompt.size());
  out.resize(session.generate(out, {.observer = &masks}));
  boundaries.resize(out.size());
  json.open('{').key("options").text(spec).key("boundaries").text(to_hex(boundaries));
  write_tokens(out, model->info().vocabulary, "", json);
  json.key("finish").text(name_of(session.finish_state())).close('}');
  return {};
}

Result<void> write_all(const Arguments& arguments, JsonWriter& json) {
  const Result<std::string> path = arguments.required("--model");
  if (!path.ok()) return path.error();
  const Result<std::shared_ptr<const Model>> loaded = load_model(path.value());
  if (!loaded.ok()) return loaded.error();
  const std::shared_ptr<const Model>& model = loaded.value();
  const Vocabulary& vocabulary = model->info().vocabulary;
  const Result<Tokens> read = prompt_of(arguments, vocabulary);
  if (!read.ok()) return read.error();
  const Tokens& prompt = read.value();
  if (const uint64_t most = model->info().context; most > 0 && prompt.size() >= most) {
    return context_full(most - 1, prompt.size());
  }
  const Result<void> threads = use_threads(arguments, model);
  if (!threads.ok()) return threads;

  const Steps steps = run_steps(*model, prompt);
  if (!slicing_is_exact(model, prompt, steps)) {
    return error_f(ErrorCode::kBadState, "step() and prefill() differ: the engine is broken");
  }
  Session session(model);
  const Result<Score> score = session.score(prompt);
  if (!score.ok()) return score.error();

  json.open('{').key("kernel").text(dispatch().level->name).key("architecture").text(model->info().architecture);
  const std::span<const size_t> widths = steps.trace.widths();
  json.key("layers").unsigned_integer(widths.size()).key("width").unsigned_integer(widths.front());
  json.key("fingerprint").text(to_hex(model->info().fingerprint));
  write_tokens(prompt, vocabulary, "prompt_", json);
  json.key("stages").integer(model->info().stages).key("boundaries").text(to_hex(steps.boundaries));
  json.key("logits").integers(std::span(steps.logits).last(vocabulary.size));
  json.key("logits_fnv1a").text(to_hex(fnv1a(steps.logits)));
  json.key("score").open('{').key("bytes").unsigned_integer(score.value().bytes);
  json.key("bits_q32").text(std::to_string(score.value().bits_q32));
  json.key("top1").unsigned_integer(score.value().top1).key("top5").unsigned_integer(score.value().top5).close('}');
  json.key("generations").open('[');
  for (const std::string& spec : arguments.all("--generate")) {
    Result<void> written = write_generation(model, prompt, spec, json);
    if (!written.ok()) return written;
  }
  json.close(']');
  const size_t positions = prompt.size() + 1;
  if (arguments.has("--all-logits")) {
    json.key("all_logits").open('[');
    for (size_t p = 0; p < positions; ++p) {
      json.integers(std::span(steps.logits).subspan(p * vocabulary.size, vocabulary.size));
    }
    json.close(']');
  }
  if (arguments.has("--trace")) steps.trace.write(json.key("trace"), positions);
  json.close('}');
  return {};
}

Result<void> evaluate_lines(std::istream& lines, Output& out) {
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    std::vector<int64_t> inputs;
    for (int64_t input; words >> input;) inputs.push_back(input);
    const std::optional<std::vector<int64_t>> outputs = evaluate_operation(name, inputs);
    if (!outputs)
      return error_f(ErrorCode::kBadOption, "expected the name of an operation, found \"%s\"", name.c_str());
    std::string text;
    for (const int64_t output : *outputs) text.append(std::to_string(output)).push_back(' ');
    out.write(text + "\n");
  }
  return {};
}

Result<void> run(std::span<char* const> words, Output& out) {
  for (const std::string_view word : words) {
    if (word != "--help" && word != "-h") continue;
    out.write(help_text(kUsage, kOptions) + kOutput);
    return {};
  }
  const Result<Arguments> arguments = Arguments::parse(words, kOptions);
  if (!arguments.ok()) return arguments.error();
  if (arguments.value().has("--evaluate")) return evaluate_lines(std::cin, out);
  JsonWriter json;
  Result<void> done = write_all(arguments.value(), json);
  if (done.ok()) out.write(json.result() + "\n");
  return done;
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  return tern::run_program("tern_golden", [&](tern::Output& out) {
    return tern::run({argv + std::min(argc, 1), static_cast<size_t>(std::max(argc - 1, 0))}, out);
  });
}
