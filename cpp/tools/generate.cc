// generate.cc: `tern generate` continues prompts, streaming, or line by line in a conversation.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "session/session.h"
#include "tools/codec.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/threads.h"

namespace tern {
namespace {

constexpr const char* kUsage =
    "tern generate --model FILE [--prompt TEXT | --prompt-file FILE | --interactive] [options]";

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--prompt", "TEXT", "continue this text (default: begin a new one)"},
    {"--prompt-file", "FILE", "one prompt a line, each continued on its own"},
    {"--interactive", nullptr, "read prompts from the terminal; /help lists its commands"},
    {"--num-samples", "N", "continuations per prompt, with seeds S, S+1, ... (1)"},
    {"--output", "FILE", "write there instead of to the terminal"},
    {"--max-bytes", "N", "stop after N bytes (400)"},
    {"--seed", "S", "same seed, same text; chosen and printed if not given"},
    {"--temperature", "T", "above 0, up to 100 (1)"},
    {"--top-k", "K", "draw from the K likeliest tokens (all)"},
    {"--top-p", "P", "draw from the likeliest tokens that reach probability P (1)"},
    {"--min-p", "P", "drop tokens less likely than P times the likeliest (0)"},
    {"--repetition-penalty", "R", "1 to 10, over the last 256 tokens (1)"},
    {"--greedy", nullptr, "always the likeliest token"},
    {"--raw", nullptr, "also bytes that do not continue well-formed UTF-8"},
    kThreadsOption,
};

constexpr const char* kInteractiveHelp =
    "A line is a prompt.  Commands: /temp T  /topk K  /topp P  /max N  /greedy  /sample  /quit\n";

constexpr size_t kSlice = 16;  // bytes between two writes, so that text streams; of pieces, one

struct Settings {
  std::shared_ptr<const Model> model;
  const Codec* codec = nullptr;
  SampleOptions options;
  uint64_t max_bytes = 400;
  uint64_t samples = 1;
  Output* out = nullptr;
};

/// A continuation that the context has cut short says so, beside the text.
void note_end(const Session& session, uint64_t written, uint64_t max_bytes) {
  if (session.finish_state() != Finish::kContextFull) return;
  std::fprintf(stderr, "tern: context full after %llu of %llu bytes\n", static_cast<unsigned long long>(written),
               static_cast<unsigned long long>(max_bytes));
}

/// One continuation, written as it comes.
Result<void> stream(Session& session, const Settings& settings, Continuation continuation) {
  Result<void> done = session.start(settings.options, settings.max_bytes);
  Token slice[kSlice];
  const std::span next = std::span(slice).first(settings.codec->reads_bytes() ? kSlice : 1);
  while (done.ok() && session.finish_state() == Finish::kNotFinished && !continuation.is_full()) {
    for (const Token token : next.first(session.generate(next))) settings.out->write_text(continuation.push(token));
    done = settings.out->flush();
    if (session.lacks_memory()) return cut_short(session, continuation.written(), settings.max_bytes);
  }
  settings.out->write_text(continuation.finish());
  note_end(session, continuation.written(), settings.max_bytes);
  return done;
}

/// Continuations of one prompt, all of them a token further at a time.
Result<std::vector<std::string>> generate_together(const Settings& settings, std::span<const uint8_t> after_prompt,
                                                   const Continuation& empty, uint64_t first_seed, size_t count) {
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Session*> all;
  for (size_t n = 0; n < count; ++n) {
    sessions.push_back(std::make_unique<Session>(settings.model));
    all.push_back(sessions.back().get());
    SampleOptions options = settings.options;
    options.seed = first_seed + n;
    Result<void> ready = all.back()->restore(after_prompt);
    if (ready.ok()) ready = all.back()->start(options, settings.max_bytes);
    if (!ready.ok()) return ready.error();
  }
  std::vector<std::string> texts(count);
  std::vector<Continuation> continuations(count, empty);
  std::vector<std::optional<Token>> tokens(count);
  bool go_on = true;
  while (go_on) {
    Session::generate_each(all, tokens);
    go_on = false;
    for (size_t n = 0; n < count; ++n) {
      if (tokens[n]) texts[n] += continuations[n].push(*tokens[n]);
      if (all[n]->lacks_memory()) return cut_short(*all[n], continuations[n].written(), settings.max_bytes);
      go_on |= all[n]->finish_state() == Finish::kNotFinished && !continuations[n].is_full();
    }
  }
  for (size_t n = 0; n < count; ++n) {
    texts[n] += continuations[n].finish();
    note_end(*all[n], continuations[n].written(), settings.max_bytes);
  }
  return texts;
}

/// The prompt and its continuations; with several, each under a heading line.
Result<void> continue_prompt(const Settings& settings, const std::string& prompt, bool with_headings) {
  Session session(settings.model);
  const Result<std::vector<Token>> tokens =
      settings.codec->encode({reinterpret_cast<const uint8_t*>(prompt.data()), prompt.size()});
  if (!tokens.ok()) return tokens.error();
  Result<void> fed = feed_whole(session, std::span<const Token>(tokens.value()));
  if (!fed.ok()) return fed;
  const Continuation empty(*settings.codec, settings.max_bytes, prompt.empty(), settings.options.raw);
  const auto begin = [&](uint64_t seed) {
    if (with_headings) settings.out->print("--- seed %llu\n", static_cast<unsigned long long>(seed));
    settings.out->write_text(prompt);
  };
  if (settings.samples == 1) {
    begin(settings.options.seed);
    const Result<void> done = stream(session, settings, empty);
    if (!done.ok()) return done;
    settings.out->write_text("\n");
    return settings.out->flush();
  }
  const std::vector<uint8_t> after_prompt = session.save();
  for (uint64_t first = 0; first < settings.samples; first += kTile) {
    const uint64_t seed = settings.options.seed + first;
    const size_t count = static_cast<size_t>(std::min<uint64_t>(kTile, settings.samples - first));
    const Result<std::vector<std::string>> texts = generate_together(settings, after_prompt, empty, seed, count);
    if (!texts.ok()) return texts.error();
    for (size_t n = 0; n < count; ++n) {
      begin(seed + n);
      settings.out->write_text(texts.value()[n] + "\n");
    }
    Result<void> written = settings.out->flush();
    if (!written.ok()) return written;
  }
  return {};
}

Result<void> continue_prompt_file(const Settings& settings, const std::string& path) {
  const Result<std::vector<uint8_t>> file = read_text(path);
  if (!file.ok()) return file.error();
  std::string_view text(reinterpret_cast<const char*>(file.value().data()), file.value().size());
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of("\n\xFF"), text.size());  // 255 was a line of its own
    const std::string line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    Result<void> done = continue_prompt(settings, line, true);
    if (!done.ok()) return done;
  }
  return {};
}

/// A line that begins with a slash.  Answers false for /quit.
Result<bool> run_interactive_command(Settings& settings, const std::string& line) {
  const size_t space = std::min(line.find(' '), line.size());
  const std::string name = line.substr(1, space - 1);
  const std::string value = line.substr(std::min(space + 1, line.size()));
  Result<void> set;
  if (name == "quit") return false;
  if (name == "temp") {
    set = set_sample_option(settings.options, "temperature", value, "/temp");
  } else if (name == "topk") {
    set = set_sample_option(settings.options, "top-k", value, "/topk");
  } else if (name == "topp") {
    set = set_sample_option(settings.options, "top-p", value, "/topp");
  } else if (name == "greedy" || name == "sample") {
    settings.options.greedy = name == "greedy";
  } else if (name == "max") {
    const Result<uint64_t> bytes = parse_integer("/max", value, 1, UINT64_MAX);
    if (!bytes.ok()) return bytes.error();
    settings.max_bytes = bytes.value();
  } else {
    return error_f(ErrorCode::kBadOption, "%s", kInteractiveHelp);
  }
  if (!set.ok()) return set.error();
  return true;
}

/// Each line is the beginning of a text of its own.  Mistakes are reported and change nothing.
Result<void> interact(Settings settings) {
  std::fputs(kInteractiveHelp, stderr);
  std::string line;
  while (std::fputs("> ", stderr), std::getline(std::cin, line)) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty()) continue;
    if (line.front() == '/') {
      const Result<bool> go_on = run_interactive_command(settings, line);
      if (!go_on.ok()) std::fprintf(stderr, "%s\n", go_on.error().message.c_str());
      if (go_on.ok() && !go_on.value()) return {};
      continue;
    }
    Result<void> done = continue_prompt(settings, line, settings.samples > 1);
    if (!done.ok() && done.error().code != ErrorCode::kBadState) return done;
    if (!done.ok()) std::fprintf(stderr, "%s\n", done.error().message.c_str());
    settings.options.seed += settings.samples;  // the same prompt again gives another text
  }
  std::fputc('\n', stderr);
  return {};
}

Result<void> read_options(const Arguments& arguments, Settings& settings) {
  for (const char* name : {"--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--seed"}) {
    if (!arguments.has(name)) continue;
    Result<void> set = set_sample_option(settings.options, name + 2, arguments.text(name), name);
    if (!set.ok()) return set;
  }
  settings.options.greedy = arguments.has("--greedy");
  settings.options.raw = arguments.has("--raw");
  const Result<uint64_t> max_bytes = arguments.integer("--max-bytes", settings.max_bytes, 1, UINT64_MAX);
  if (!max_bytes.ok()) return max_bytes.error();
  settings.max_bytes = max_bytes.value();
  const Result<uint64_t> samples = arguments.integer("--num-samples", 1, 1, 1000000);
  if (!samples.ok()) return samples.error();
  settings.samples = samples.value();
  const int sources = arguments.has("--prompt") + arguments.has("--prompt-file") + arguments.has("--interactive");
  if (sources > 1) {
    return error_f(ErrorCode::kBadOption, "expected one of --prompt, --prompt-file and --interactive, found %d",
                   sources);
  }
  return {};
}

Result<void> run_generate(const Arguments& arguments, Output& standard_output) {
  Settings settings;
  const Result<std::string> path = arguments.required("--model");
  if (!path.ok()) return path.error();
  Result<void> done = read_options(arguments, settings);
  if (!done.ok()) return done;
  std::optional<Output> file;
  if (arguments.has("--output")) {
    const std::string inputs[] = {path.value(), arguments.text("--prompt-file")};
    Result<Output> opened = Output::file(arguments.text("--output"), inputs);
    if (!opened.ok()) return error_f(opened.error().code, "--output: %s", opened.error().message.c_str());
    file.emplace(std::move(opened).value());
  }
  settings.out = file ? &*file : &standard_output;
  const Result<std::shared_ptr<const Model>> model = load_model(path.value());
  if (!model.ok()) return model.error();
  done = use_threads(arguments, model.value());
  if (!done.ok()) return done;
  settings.model = model.value();
  const Result<Codec> codec = Codec::of(*model.value(), path.value());
  if (!codec.ok()) return codec.error();
  settings.codec = &codec.value();
  if (!arguments.has("--seed") && !settings.options.greedy) {
    settings.options.seed = std::random_device()();
    std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(settings.options.seed));
  }
  done = arguments.has("--interactive")   ? interact(settings)
         : arguments.has("--prompt-file") ? continue_prompt_file(settings, arguments.text("--prompt-file"))
                                          : continue_prompt(settings, arguments.text("--prompt"), settings.samples > 1);
  return done.ok() && file ? file->finish() : done;
}

}  // namespace

const Command kGenerateCommand{"generate", kUsage, kOptions, &run_generate};

}  // namespace tern
