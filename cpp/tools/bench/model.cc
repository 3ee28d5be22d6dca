// model.cc: how fast a model reads and writes, where the time goes, and what memory it needs.
#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#if defined(__EMSCRIPTEN__)
#include <emscripten/heap.h>
#else
#include <cstdlib>
#include <fstream>
#include <string>
#endif

#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "session/session.h"
#include "tools/bench/measure.h"

namespace tern {
namespace {

constexpr std::string_view kPrompt =
    "Once upon a time, there was a little girl named Lily. She loved to play outside. ";

/// Weights that meet one byte.
double macs_per_byte(const Model& model) {
  double macs = 0;
  for (const MatrixInfo& m : model.info().matrices) macs += static_cast<double>(m.rows) * m.cols;
  return macs;
}

// A large model takes seconds for what a small one does between two ticks of a clock: about a second of work, at most
// `most` bytes.
size_t affordable_bytes(const Model& model, size_t most) {
  constexpr double kMacsPerSecond = 2e10;  // of a slow engine
  constexpr size_t kLeast = 16;
  size_t bytes = most;
  while (bytes > kLeast && static_cast<double>(bytes) * macs_per_byte(model) > kMacsPerSecond) bytes /= 2;
  return bytes;
}

/// The first `size` bytes of the prompt, repeated; tokens of these numbers where they are no bytes.
std::vector<Token> text_of(const Model& model, size_t size) {
  std::vector<Token> text(size);
  for (size_t i = 0; i < size; ++i) {
    text[i] = static_cast<uint8_t>(kPrompt[i % kPrompt.size()]) % model.info().vocabulary.size;
  }
  return text;
}

void read(Session& session, std::span<const Token> text) {
  if (session.room() < text.size()) session.reset();
  const Result<size_t> fed = session.feed(text);
  TERN_CHECK(fed.ok() && fed.value() == text.size());  // fewer: there is no memory for the text
}

double decode_rate(double seconds, const std::shared_ptr<const Model>& model) {
  Session session(model);
  SampleOptions options;
  const std::vector<Token> prompt = text_of(*model, kPrompt.size());
  std::vector<Token> out(affordable_bytes(*model, 256));  // enough for chunks to come at their usual rate
  return best_rate(seconds, static_cast<double>(out.size()), [&] {
    for (size_t written = 0; written < out.size();) {
      if (session.finish_state() != Finish::kNotFinished) {  // at the start, and after each end of text
        session.reset();
        read(session, prompt);
        ++options.seed;
        TERN_CHECK(session.start(options, ~uint64_t{0}).ok());
      }
      written += session.generate(std::span(out).subspan(written));
      TERN_CHECK(!session.lacks_memory());
    }
    g_sink = out[0];
  });
}

double prefill_rate(double seconds, const std::shared_ptr<const Model>& model, size_t size) {
  Session session(model);
  const std::vector<Token> text = text_of(*model, size);
  return best_rate(seconds, static_cast<double>(text.size()), [&] {
    read(session, text);
    g_sink = static_cast<uint64_t>(session.logits()[0]);
  });
}

// A level that computes nothing, but gives numbers of the size of products: a step with it takes as long as everything
// that is not a product.
void no_matvec(const TernaryView& w, const int8_t*, int32_t, int32_t* y) {
  for (uint32_t r = 0; r < w.rows; ++r) y[r] = static_cast<int32_t>(r * 2654435761u) >> 19;
}

constexpr KernelLevel kNoProducts = {"none", nullptr, no_matvec, nullptr};

// Seconds per byte of the activations' way into the products of all matrices, and of the sums' way back.
struct ConversionSeconds {
  double quantize = 0, rescale = 0;
};

ConversionSeconds conversion_seconds(double seconds, const ModelInfo& info) {
  size_t widest = 0, tallest = 0;
  for (const MatrixInfo& m : info.matrices) {
    widest = std::max<size_t>(widest, padded_cols(m.cols));
    tallest = std::max<size_t>(tallest, m.rows);
  }
  uint32_t random = 1;
  std::vector<Act> x(widest), y(tallest);
  std::vector<int32_t> acc(tallest);
  for (Act& a : x) a.raw = static_cast<int32_t>(next_random(random)) - 32768;
  for (int32_t& a : acc) a = static_cast<int32_t>(next_random(random)) - 32768;
  const std::vector<NormWeight> norm(widest, NormWeight::from_real(1));
  std::vector<int8_t> codes(widest);
  const auto time_of = [&](auto work) {
    return 1 / best_rate(seconds, 1, [&] {
             for (const MatrixInfo& m : info.matrices) work(m);
           });
  };
  ConversionSeconds result;
  result.quantize = time_of([&](const MatrixInfo& m) {
    const QuantizedRow q = quantize_activations(std::span(x).first(m.cols), std::span(norm).first(m.cols),
                                                Scale::from_integer(1), std::span(codes).first(padded_cols(m.cols)));
    g_sink = static_cast<uint64_t>(q.sum);
  });
  result.rescale = time_of([&](const MatrixInfo& m) {
    rescale(std::span(acc).first(m.rows), Scale::from_integer(1, -10), std::span(y).first(m.rows));
    g_sink = static_cast<uint64_t>(y[0].raw);
  });
  return result;
}

/// Shares of the time per byte; `other`: norms, convolution, recurrence, gates, sampling.  Rates in bytes per second.
void bench_breakdown(const Meter& meter, const char* what, const std::string& name, ConversionSeconds conversion,
                     double rate, double rate_without_products) {
  const double rest = rate / rate_without_products;
  const double quantize = conversion.quantize * rate, rescale = conversion.rescale * rate;
  JsonWriter line;
  line.open('{').key("bench").text("breakdown").key("of").text(what).key("level").text(dispatch().level->name);
  line.key("model").text(name).key("products").real(1 - rest).key("quantize").real(quantize);
  line.key("rescale").real(rescale).key("other").real(rest - quantize - rescale);
  meter.print(line);
}

JsonWriter model_line(const char* what, const BenchedModel& benched) {
  JsonWriter line;
  line.open('{').key("bench").text(what).key("level").text(dispatch().level->name).key("model").text(benched.name);
  return line;
}

void report(const Meter& meter, JsonWriter line, const Model& model, double rate) {
  line.key("vocabulary").unsigned_integer(model.info().vocabulary.size).key("threads").unsigned_integer(threads());
  line.key("bytes_per_s").real(rate);  // or tokens, where they are no bytes
  line.key("gmac_per_s")
      .real(rate * macs_per_byte(model) / 1e9)
      .key("packed_bytes")
      .unsigned_integer(model.info().packed_bytes);
  meter.print(line);
}

/// The most memory this process has had; in a browser what the module has, since it never gives any back.
uint64_t memory_bytes() {
#if defined(__EMSCRIPTEN__)
  return emscripten_get_heap_size();
#else
  // getrusage() would count what the program had that started this one.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return 1024 * std::strtoull(line.c_str() + 6, nullptr, 10);
  }
  return 0;
#endif
}

}  // namespace

void bench_memory(const Meter& meter, const BenchedModel& benched) {
  const ModelInfo& info = benched.model->info();
  JsonWriter line = model_line("memory", benched);
  line.key("packed_bytes").unsigned_integer(info.packed_bytes).key("state_bytes").unsigned_integer(info.state_bytes);
  line.key("file_bytes").unsigned_integer(info.file_bytes).key("peak_bytes").unsigned_integer(memory_bytes());
  meter.print(line);
}

void bench_model(const Meter& meter, const BenchedModel& benched) {
  const std::shared_ptr<const Model>& model = benched.model;
  const size_t prompt = affordable_bytes(*model, 512);
  const double decode = decode_rate(meter.seconds, model), prefill = prefill_rate(meter.seconds, model, prompt);
  report(meter, model_line("decode", benched), *model, decode);
  report(meter, std::move(model_line("prefill", benched).key("prompt_bytes").unsigned_integer(prompt)), *model,
         prefill);
  const KernelLevel* const level = std::exchange(dispatch().level, &kNoProducts);
  const double decode_rest = decode_rate(meter.seconds, model);
  const double prefill_rest = prefill_rate(meter.seconds, model, prompt);
  dispatch().level = level;
  const ConversionSeconds conversion = conversion_seconds(meter.seconds, model->info());
  bench_breakdown(meter, "decode", benched.name, conversion, decode, decode_rest);
  bench_breakdown(meter, "prefill", benched.name, conversion, prefill, prefill_rest);
}

void bench_prompts(const Meter& meter, const BenchedModel& benched) {
  for (const size_t size : {size_t{1}, size_t{4}, size_t{16}, size_t{64}, size_t{256}, size_t{1024}}) {
    if (size > affordable_bytes(*benched.model, 1024)) return;
    const double rate = prefill_rate(meter.seconds, benched.model, size);
    JsonWriter line = model_line("prompt", benched);
    line.key("prompt_bytes").unsigned_integer(size);
    report(meter, std::move(line), *benched.model, rate);
  }
}

void bench_stream(const Meter& meter, uint64_t bytes, const BenchedModel& benched) {
  constexpr uint64_t kParts = 100;
  const std::vector<Token> text = text_of(*benched.model, std::max<size_t>(1, static_cast<size_t>(bytes / kParts)));
  Session warm(benched.model);
  read(warm, text);  // a browser runs the first calls in code that it has not optimised yet
  Session session(benched.model);
  const uint64_t before = memory_bytes();
  std::vector<double> rates;
  for (uint64_t part = 0; part < kParts; ++part) {
    const double start = seconds_now();
    read(session, text);
    rates.push_back(static_cast<double>(text.size()) / (seconds_now() - start));
  }
  JsonWriter line = model_line("stream", benched);
  line.key("bytes").unsigned_integer(session.position());
  line.key("first").real(rates.front()).key("last").real(rates.back());
  // One part is a matter of chance where others use the processor, too.
  const std::span<double> first_tenth = std::span(rates).first(kParts / 10);
  const std::span<double> last_tenth = std::span(rates).last(kParts / 10);
  std::ranges::sort(first_tenth);
  std::ranges::sort(last_tenth);
  line.key("first_tenth_median").real(first_tenth[kParts / 20]).key("last_tenth_median").real(last_tenth[kParts / 20]);
  std::ranges::sort(rates);
  line.key("slowest").real(rates.front()).key("median").real(rates[kParts / 2]).key("fastest").real(rates.back());
  line.key("memory_growth_bytes").unsigned_integer(memory_bytes() - before);
  line.key("state_bytes").unsigned_integer(benched.model->info().state_bytes);
  meter.print(line);
}

}  // namespace tern
