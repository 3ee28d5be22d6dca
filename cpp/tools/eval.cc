// eval.cc: `tern eval` measures how well a model predicts a text file, and how varied the texts are that it writes.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "session/session.h"
#include "text/documents.h"
#include "tools/codec.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/json.h"
#include "tools/sample_metrics.h"
#include "tools/threads.h"

namespace tern {
namespace {

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--text", "FILE", "the text: .txt (a line <|endoftext|> ends a document) or prepared .bin"},
    {"--max-bytes", "N", "score only the first N bytes"},
    {"--samples", "N", "texts to generate, whose variety is measured (8)"},
    {"--sample-file", "FILE", "measure the documents of this file instead"},
    {"--json", nullptr, "print one JSON object"},
    kThreadsOption,
};

constexpr size_t kSlice = 4096;  // tokens between two updates of the progress bar
constexpr uint64_t kSampleBytes = 512;
constexpr std::string_view kPrompts[] = {"", "Once upon a time", "The ",
                                         "One day"};  // as in scripts/lm/measure/samples.py

/// For people who watch: nothing where stderr is a file.
void draw_progress(uint64_t done, uint64_t total) {
  static const bool kIsWatched = isatty(STDERR_FILENO) == 1;
  if (!kIsWatched) return;
  constexpr uint64_t kWidth = 40;
  const uint64_t filled = total == 0 ? kWidth : done * kWidth / total;
  std::fprintf(stderr, "\r[%-40s] %3llu %%", std::string(filled, '#').c_str(),
               static_cast<unsigned long long>(total == 0 ? 100 : done * 100 / total));
  if (done == total) std::fputc('\n', stderr);
  std::fflush(stderr);
}

struct Evaluation {
  Score score;             // of tokens
  uint64_t bytes = 0;      // of the text
  uint64_t raw_bytes = 0;  // of it in a file, where a document end takes 14
  double seconds = 0;
  SampleMetrics samples;

  double per_token(uint64_t count) const {
    return score.bytes == 0 ? 0 : static_cast<double>(count) / static_cast<double>(score.bytes);
  }
  double bits() const { return static_cast<double>(score.bits_q32) / 4294967296.0; }
  double bits_per_byte() const { return bytes == 0 ? 0 : bits() / static_cast<double>(bytes); }
  double bits_per_raw_byte() const { return raw_bytes == 0 ? 0 : bits() / static_cast<double>(raw_bytes); }
  double bytes_per_second() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
};

/// Where a context is full, the text goes on in a new one.
Result<void> score_text(Session& session, std::span<const Token> text, Evaluation& evaluation) {
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < text.size();) {
    if (session.room() == 0) session.reset();
    const Result<Score> slice = session.score(text.subspan(at, std::min(kSlice, text.size() - at)));
    if (!slice.ok()) return slice.error();
    if (slice.value().bytes == 0) return cut_short(session, at, text.size());
    at += static_cast<size_t>(slice.value().bytes);
    evaluation.score.bytes += slice.value().bytes;
    evaluation.score.bits_q32 += slice.value().bits_q32;
    evaluation.score.top1 += slice.value().top1;
    evaluation.score.top5 += slice.value().top5;
    draw_progress(at, text.size());
  }
  evaluation.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {};
}

/// Sample number n continues prompt n mod 4 with seed n, at temperature 1 with nothing cut: the model as it is.
Result<std::vector<std::vector<uint8_t>>> generate_samples(Session& session, const Codec& codec, uint64_t count) {
  std::vector<std::vector<uint8_t>> samples;
  for (uint64_t n = 0; n < count; ++n) {
    const std::string_view prompt = kPrompts[n % std::size(kPrompts)];
    session.reset();
    const Result<std::vector<Token>> tokens =
        codec.encode({reinterpret_cast<const uint8_t*>(prompt.data()), prompt.size()});
    if (!tokens.ok()) return tokens.error();
    const Result<void> fed = feed_whole(session, std::span<const Token>(tokens.value()));
    if (!fed.ok()) return fed.error();
    SampleOptions options;
    options.seed = n;
    options.raw = true;
    const Result<void> started = session.start(options, kSampleBytes);
    if (!started.ok()) return started.error();
    std::vector<uint8_t>& sample = samples.emplace_back();
    Continuation continuation(codec, kSampleBytes, prompt.empty(), options.raw);
    for (Token token; !continuation.is_full() && session.generate({&token, 1}) == 1;) {
      const std::string text = continuation.push(token);
      sample.insert(sample.end(), text.begin(), text.end());
    }
  }
  return samples;
}

/// The documents of a text are the samples; empty ones are not counted.
std::vector<std::vector<uint8_t>> split_documents(std::span<const uint8_t> text) {
  std::vector<std::vector<uint8_t>> documents;
  while (!text.empty()) {
    const auto end = std::ranges::find(text, kBytes.eos);
    const auto size = static_cast<size_t>(end - text.begin());
    if (size > 0) documents.emplace_back(text.begin(), end);
    text = text.subspan(std::min(size + 1, text.size()));
  }
  return documents;
}

std::string joined(std::span<const double> shares) {
  std::string text;
  for (const double share : shares) {
    char digits[16];
    std::snprintf(digits, sizeof digits, "%s%.4f", text.empty() ? "" : " ", share);
    text += digits;
  }
  return text;
}

void print_json(Output& out, const Evaluation& e, double top1, double top5) {
  JsonWriter json;
  json.open('{').key("bits_per_byte").real(e.bits_per_byte()).key("perplexity").real(std::exp2(e.bits_per_byte()));
  json.key("top1").real(top1).key("top5").real(top5).key("bytes").unsigned_integer(e.bytes);
  json.key("tokens").unsigned_integer(e.score.bytes);
  json.key("bits_per_raw_byte").real(e.bits_per_raw_byte()).key("raw_bytes").unsigned_integer(e.raw_bytes);
  json.key("bytes_per_second").real(e.bytes_per_second());
  json.key("bits_q32").text(std::to_string(e.score.bits_q32));
  json.key("samples").unsigned_integer(e.samples.samples);
  if (e.samples.samples > 0) {  // of no samples nothing can be said
    json.key("utf8_valid").real(e.samples.utf8_valid).key("distinct_words").open('[');
    for (const double share : e.samples.distinct_words) json.real(share);
    json.close(']').key("distinct_bytes").open('[');
    for (const double share : e.samples.distinct_bytes) json.real(share);
    json.close(']').key("repetition").real(e.samples.repetition);
  }
  out.print("%s\n", json.close('}').result().c_str());
}

void print_table(Output& out, const Evaluation& e, double top1, double top5) {
  out.print("bits per byte          %.4f\nperplexity per byte    %.4f\n", e.bits_per_byte(),
            std::exp2(e.bits_per_byte()));
  out.print("bits per raw byte      %.4f\n", e.bits_per_raw_byte());
  out.print("top-1 accuracy         %.4f\ntop-5 accuracy         %.4f\n", top1, top5);
  out.print("bytes                  %llu\nraw bytes              %llu\nbytes per second       %.0f\n",
            static_cast<unsigned long long>(e.bytes), static_cast<unsigned long long>(e.raw_bytes),
            e.bytes_per_second());
  if (e.samples.samples == 0) return;
  out.print("samples                %llu\nvalid UTF-8            %.4f\n",
            static_cast<unsigned long long>(e.samples.samples), e.samples.utf8_valid);
  out.print("distinct 1-4, words    %s\n", joined(e.samples.distinct_words).c_str());
  out.print("distinct 1-4, bytes    %s\n", joined(e.samples.distinct_bytes).c_str());
  out.print("repeated word 4-grams  %.4f\n", e.samples.repetition);
}

Result<void> run_eval(const Arguments& arguments, Output& out) {
  const Result<std::string> model_path = arguments.required("--model");
  if (!model_path.ok()) return model_path.error();
  const Result<std::string> text_path = arguments.required("--text");
  if (!text_path.ok()) return text_path.error();
  const Result<uint64_t> max_bytes = arguments.integer("--max-bytes", UINT64_MAX, 1, UINT64_MAX);
  if (!max_bytes.ok()) return max_bytes.error();
  const Result<uint64_t> count = arguments.integer("--samples", 8, 0, 10000);
  if (!count.ok()) return count.error();
  const Result<std::shared_ptr<const Model>> model = load_model(model_path.value());
  if (!model.ok()) return model.error();
  Result<void> threads = use_threads(arguments, model.value());
  if (!threads.ok()) return threads;
  Result<std::vector<uint8_t>> read = read_text_file(text_path.value());
  if (!read.ok()) return read.error();
  std::vector<uint8_t> text = std::move(read.value());
  text.resize(static_cast<size_t>(std::min<uint64_t>(max_bytes.value(), text.size())));

  const Result<Codec> codec = Codec::of(*model.value(), model_path.value());
  if (!codec.ok()) return codec.error();
  const Result<std::vector<Token>> tokens = codec.value().encode(text);
  if (!tokens.ok()) return tokens.error();

  Session session(model.value());
  Evaluation evaluation;
  evaluation.bytes = text.size();
  evaluation.raw_bytes = raw_bytes(text);
  const Result<void> scored = score_text(session, tokens.value(), evaluation);
  if (!scored.ok()) return scored;
  if (arguments.has("--sample-file")) {
    const Result<std::vector<uint8_t>> samples = read_text(arguments.text("--sample-file"));
    if (!samples.ok()) return samples.error();
    evaluation.samples = measure_samples(split_documents(samples.value()));
  } else {
    const Result<std::vector<std::vector<uint8_t>>> samples = generate_samples(session, codec.value(), count.value());
    if (!samples.ok()) return samples.error();
    evaluation.samples = measure_samples(samples.value());
  }
  const double top1 = evaluation.per_token(evaluation.score.top1);
  const double top5 = evaluation.per_token(evaluation.score.top5);
  (arguments.has("--json") ? print_json : print_table)(out, evaluation, top1, top5);
  return {};
}

}  // namespace

const Command kEvalCommand{"eval", "tern eval --model FILE --text FILE [--json]", kOptions, &run_eval};

}  // namespace tern
