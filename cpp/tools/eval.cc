// eval.cc: `tern eval` measures how well a model predicts a text file.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "session/session.h"
#include "text/utf8.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/json.h"

namespace tern {
namespace {

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--text", "FILE", "the text; a line <|endoftext|> ends a document"},
    {"--max-bytes", "N", "score only the first N bytes"},
    {"--samples", "N", "texts to generate for utf8_valid (8)"},
    {"--json", nullptr, "print one JSON object"},
};

constexpr std::string_view kSeparator = "<|endoftext|>";
constexpr size_t kSlice = 4096;  // bytes between two updates of the progress bar
constexpr uint64_t kSampleBytes = 256;

/// As the model saw texts in training: a separator line is one end-of-text byte, its line end belongs to it.
std::vector<uint8_t> with_document_ends(std::string_view text) {
  std::vector<uint8_t> bytes;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const size_t used = std::min(end + 1, text.size());
    if (text.substr(0, end) == kSeparator) {
      bytes.push_back(kEos);
    } else {
      bytes.insert(bytes.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(used));
    }
    text.remove_prefix(used);
  }
  return bytes;
}

void draw_progress(uint64_t done, uint64_t total) {
  constexpr uint64_t kWidth = 40;
  const uint64_t filled = total == 0 ? kWidth : done * kWidth / total;
  std::fprintf(stderr, "\r[%-40s] %3llu %%", std::string(filled, '#').c_str(),
               static_cast<unsigned long long>(total == 0 ? 100 : done * 100 / total));
  if (done == total) std::fputc('\n', stderr);
  std::fflush(stderr);
}

struct Evaluation {
  Score score;
  double seconds = 0;
  uint64_t samples = 0;
  uint64_t valid_samples = 0;  // that are well-formed UTF-8, up to a character cut off by the end

  double per_byte(double total) const { return score.bytes == 0 ? 0 : total / static_cast<double>(score.bytes); }
  double bits_per_byte() const { return per_byte(static_cast<double>(score.bits_q32) / 4294967296.0); }
  double bytes_per_second() const { return seconds > 0 ? static_cast<double>(score.bytes) / seconds : 0; }
};

Result<void> score_text(Session& session, std::span<const uint8_t> text, Evaluation& evaluation) {
  const auto start = std::chrono::steady_clock::now();
  for (size_t at = 0; at < text.size(); at += kSlice) {
    const Result<Score> slice = session.score(text.subspan(at, std::min(kSlice, text.size() - at)));
    if (!slice.ok()) return slice.error();
    evaluation.score.bytes += slice.value().bytes;
    evaluation.score.bits_q32 += slice.value().bits_q32;
    evaluation.score.top1 += slice.value().top1;
    evaluation.score.top5 += slice.value().top5;
    draw_progress(std::min(at + kSlice, text.size()), text.size());
  }
  evaluation.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {};
}

/// A last character whose bytes are all there so far but not complete does not make a sample invalid.
bool is_valid_sample(std::span<const uint8_t> sample) {
  const std::span<const uint8_t> rest = sample.subspan(valid_utf8_prefix(sample));
  Utf8Splitter splitter;
  return rest.size() < 4 && splitter.push(rest).empty();
}

Result<void> sample_texts(Session& session, uint64_t count, Evaluation& evaluation) {
  std::vector<uint8_t> sample(kSampleBytes);
  for (uint64_t seed = 0; seed < count; ++seed) {
    session.reset();
    SampleOptions options;
    options.seed = seed;
    Result<void> started = session.start(options, kSampleBytes);
    if (!started.ok()) return started;
    const size_t size = session.generate(sample);
    ++evaluation.samples;
    evaluation.valid_samples += is_valid_sample(std::span(sample).first(size));
  }
  return {};
}

void print(const Evaluation& e, bool as_json) {
  const double top1 = e.per_byte(static_cast<double>(e.score.top1));
  const double top5 = e.per_byte(static_cast<double>(e.score.top5));
  const double perplexity = std::exp2(e.bits_per_byte());
  const double valid = e.samples == 0 ? 0 : static_cast<double>(e.valid_samples) / static_cast<double>(e.samples);
  if (as_json) {
    JsonWriter json;
    json.open('{').key("bits_per_byte").real(e.bits_per_byte()).key("perplexity").real(perplexity);
    json.key("top1").real(top1).key("top5").real(top5).key("bytes").unsigned_integer(e.score.bytes);
    json.key("bytes_per_second").real(e.bytes_per_second());
    json.key("bits_q32").text(std::to_string(e.score.bits_q32));
    json.key("utf8_valid").real(valid).key("samples").unsigned_integer(e.samples).close('}');
    std::printf("%s\n", json.result().c_str());
    return;
  }
  std::printf("bits per byte        %.4f\nperplexity per byte  %.4f\ntop-1 accuracy       %.4f\n", e.bits_per_byte(),
              perplexity, top1);
  std::printf("top-5 accuracy       %.4f\nbytes                %llu\nbytes per second     %.0f\n", top5,
              static_cast<unsigned long long>(e.score.bytes), e.bytes_per_second());
  std::printf("samples valid UTF-8  %llu of %llu\n", static_cast<unsigned long long>(e.valid_samples),
              static_cast<unsigned long long>(e.samples));
}

Result<void> run_eval(const Arguments& arguments) {
  const Result<std::string> model_path = arguments.required("--model");
  if (!model_path.ok()) return model_path.error();
  const Result<std::string> text_path = arguments.required("--text");
  if (!text_path.ok()) return text_path.error();
  const Result<uint64_t> max_bytes = arguments.integer("--max-bytes", UINT64_MAX, 1, UINT64_MAX);
  if (!max_bytes.ok()) return max_bytes.error();
  const Result<uint64_t> samples = arguments.integer("--samples", 8, 0, 10000);
  if (!samples.ok()) return samples.error();
  const Result<std::shared_ptr<const Model>> model = load_model(model_path.value());
  if (!model.ok()) return model.error();
  const Result<std::vector<uint8_t>> file = read_file(text_path.value());
  if (!file.ok()) return file.error();

  const std::string_view whole(reinterpret_cast<const char*>(file.value().data()), file.value().size());
  std::vector<uint8_t> text = with_document_ends(whole);
  text.resize(static_cast<size_t>(std::min<uint64_t>(max_bytes.value(), text.size())));
  Session session(model.value());
  Evaluation evaluation;
  Result<void> done = score_text(session, text, evaluation);
  if (done.ok()) done = sample_texts(session, samples.value(), evaluation);
  if (done.ok()) print(evaluation, arguments.has("--json"));
  return done;
}

}  // namespace

const Command kEvalCommand{"eval", "tern eval --model FILE --text FILE [--json]", kOptions, &run_eval};

}  // namespace tern
