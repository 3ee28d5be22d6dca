// bench.cc: what the kernels and a model reach here, beside what the machine could do at most.
#include "tools/bench.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "kernels/lab/lab.h"
#include "kernels/levels.h"
#include "session/session.h"
#include "tools/files.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/threads.h"
#if TERN_SIMD >= 1
#include "kernels/simd.h"
#endif

namespace tern {
namespace {

constexpr Option kOptions[] = {
    {"--model", "FILE", "also measure decoding and prefill with this model, GGUF"},
    {"--milliseconds", "N", "time per measurement, 10 to 60000 (default 200)"},
    kThreadsOption,
};

volatile uint64_t g_sink;  // results go here, so that no measured work can be left out

// Of one thread processor time: on an idle machine the same as time, and not disturbed by waiting for other programs.
double seconds_now() {
  if (threads() == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Rate of the best of at least five batches, in units per second: interruptions and the other half of a shared core can
// only slow a batch down.  `work` does `units` per call.
template <class Work>
double best_rate(double seconds, double units, Work work) {
  work();  // warms the caches
  size_t calls = 1;
  double best = 0;
  const double end = seconds_now() + seconds;
  for (int batch = 0; batch < 5 || seconds_now() < end; ++batch) {
    const double start = seconds_now();
    for (size_t i = 0; i < calls; ++i) work();
    const double taken = seconds_now() - start;
    best = std::max(best, units * static_cast<double>(calls) / taken);
    if (taken < seconds / 40)
      calls *= 2;  // a batch long enough for the clock, short enough to fall between interruptions
  }
  return best;
}

void print(JsonWriter& line) {
  line.close('}');
  std::printf("%s\n", line.result().c_str());
  std::fflush(stdout);
}

// A reproducible filling; the values do not matter for speed.
uint32_t next_random(uint32_t& state) {
  state = state * 1664525 + 1013904223;
  return state >> 16;
}

PackedTernary random_matrix(uint32_t rows, uint32_t cols) {
  uint32_t random = rows ^ cols;
  PackedTernary matrix(rows, cols);
  std::vector<uint8_t> codes(cols);
  for (uint32_t r = 0; r < rows; ++r) {
    for (uint8_t& code : codes) code = static_cast<uint8_t>(next_random(random) % 3);
    matrix.pack_row(r, codes);
  }
  return matrix;
}

struct Shape {
  uint32_t rows, cols;
};

void bench_products(double seconds, const KernelLevel& level, Shape shape, size_t tokens) {
  const PackedTernary matrix = random_matrix(shape.rows, shape.cols);
  uint32_t random = 1;
  std::vector<int8_t> x(tokens * shape.cols);
  for (int8_t& value : x) value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  std::vector<int32_t> y(tokens * shape.rows);
  const std::vector<int32_t> sums(tokens);
  const MatrixView<const int8_t> x_view(x.data(), tokens, shape.cols);
  const MatrixView<int32_t> y_view(y.data(), tokens, shape.rows);
  const double macs = static_cast<double>(shape.rows) * shape.cols * static_cast<double>(tokens);
  const double rate = best_rate(seconds, macs, [&] {
    if (tokens == 1) {
      level.matvec(matrix.view(), x.data(), 0, y.data());
    } else {
      level.matmul(matrix.view(), x_view, sums.data(), y_view);
    }
    g_sink = static_cast<uint64_t>(y[0]);
  });
  JsonWriter line;
  line.open('{').key("bench").text(tokens == 1 ? "ternary_matvec" : "ternary_matmul").key("level").text(level.name);
  line.key("rows").unsigned_integer(shape.rows).key("cols").unsigned_integer(shape.cols);
  line.key("tokens").unsigned_integer(tokens).key("gmac_per_s").real(rate / 1e9);
  print(line);
}

#if TERN_SIMD >= 1
// Dot products alone, with four independent sums in registers: no kernel built on this instruction can be faster.
template <class DotAdd>
void bench_dot_limit(double seconds, const char* level, int macs_per_dot, DotAdd dot_add) {
  constexpr int kRounds = 10000;
  const double rate = best_rate(seconds, 4.0 * kRounds * macs_per_dot, [&] {
    const simd::Vec step = simd::splat_i16(1);
    const simd::Vec w0 = simd::splat_i8(0), w1 = simd::splat_i8(1), w2 = simd::splat_i8(2), w3 = simd::splat_i8(3);
    simd::Vec x = simd::zero();
    simd::Vec s0 = x, s1 = x, s2 = x, s3 = x;
    for (int round = 0; round < kRounds; ++round) {
      x = simd::add_i16(x, step);  // another operand each time, so that no product can be kept
      s0 = dot_add(x, w0, s0);
      s1 = dot_add(x, w1, s1);
      s2 = dot_add(x, w2, s2);
      s3 = dot_add(x, w3, s3);
    }
    std::array<uint64_t, 2> result;
    simd::store(result.data(), simd::add_i32(simd::add_i32(s0, s1), simd::add_i32(s2, s3)));
    g_sink = result[0];
  });
  JsonWriter line;
  line.open('{').key("bench").text("limit_dot").key("level").text(level).key("gmac_per_s").real(rate / 1e9);
  print(line);
}

// Reading memory and nothing else.
void bench_read_limit(double seconds, const char* name, size_t bytes) {
  const std::vector<uint8_t> memory(bytes, 1);
  const double rate = best_rate(seconds, static_cast<double>(bytes), [&] {
    simd::Vec sums[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (size_t at = 0; at < bytes; at += 64) {
      for (size_t i = 0; i < 4; ++i) sums[i] = simd::add_i32(sums[i], simd::load(memory.data() + at + 16 * i));
    }
    std::array<uint64_t, 2> result;
    simd::store(result.data(), simd::add_i32(simd::add_i32(sums[0], sums[1]), simd::add_i32(sums[2], sums[3])));
    g_sink = result[0];
  });
  JsonWriter line;
  line.open('{').key("bench").text("limit_read").key("memory").text(name).key("gb_per_s").real(rate / 1e9);
  print(line);
}
#endif

void bench_limits(double seconds) {
#if TERN_SIMD >= 1
  using simd::Vec;
  bench_dot_limit(seconds, "simd128", 8, [](Vec x, Vec w, Vec sum) { return simd::add_i32(sum, simd::dot_i16(x, w)); });
#if TERN_SIMD >= 2
  bench_dot_limit(seconds, "relaxed", 16, [](Vec x, Vec w, Vec sum) { return simd::dot_add_i8_i7(x, w, sum); });
#endif
  bench_read_limit(seconds, "cache", size_t{1} << 14);
  bench_read_limit(seconds, "dram", size_t{1} << 28);
#else
  (void)seconds;
#endif
}

void bench_activations(double seconds, uint32_t cols) {
  uint32_t random = 1;
  std::vector<Act> x(cols);
  std::vector<NormWeight> w(cols);
  for (Act& a : x) a.raw = static_cast<int32_t>(next_random(random)) - 32768;
  for (NormWeight& a : w) a.raw = static_cast<int32_t>(next_random(random)) + 32768;
  std::vector<int8_t> codes(padded_cols(cols));
  const double rate = best_rate(seconds, cols, [&] {
    const Scale rms = root_mean_square(x, Scale::from_integer(1, -20));
    g_sink = static_cast<uint64_t>(quantize_activations(x, w, rms, codes).sum);
  });
  JsonWriter line;
  line.open('{').key("bench").text("quantize_activations").key("cols").unsigned_integer(cols);
  line.key("million_values_per_s").real(rate / 1e6);
  print(line);
}

// Kernels that lost, measured on a matrix as wide as both of their layouts allow, and checked.
void bench_lab(double seconds) {
  constexpr uint32_t kRows = 2048, kCols = 1920;
  const PackedTernary matrix = random_matrix(kRows, kCols);
  std::vector<uint8_t> codes(size_t{kRows} * kCols);
  for (uint32_t r = 0; r < kRows; ++r) matrix.unpack_row(r, std::span(codes).subspan(size_t{r} * kCols, kCols));
  uint32_t random = 1;
  int32_t sum = 0;
  std::vector<int8_t> x(kCols);
  for (int8_t& value : x) sum += value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  std::vector<int32_t> expected(kRows), y(kRows);
  ternary_matvec(matrix.view(), x, sum, expected);

  const auto measure = [&](const char* name, auto matvec) {
    const double rate = best_rate(seconds, static_cast<double>(kRows) * kCols, [&] {
      matvec();
      g_sink = static_cast<uint64_t>(y[0]);
    });
    TERN_CHECK(y == expected);
    JsonWriter line;
    line.open('{').key("bench").text("lab_matvec").key("kernel").text(name);
    line.key("rows").unsigned_integer(kRows).key("cols").unsigned_integer(kCols).key("gmac_per_s").real(rate / 1e9);
    print(line);
  };
  lab::BitPlanes planes(kRows, kCols, codes);
  measure("bit_planes", [&] { planes.matvec(x, y); });
  const lab::BaseThree digits(kRows, kCols, codes);
  measure("base_three", [&] { digits.matvec(x, sum, y); });
#if TERN_SIMD >= 1
  measure("one_row_dots", [&] { lab::one_row_dots(matrix.view(), x, sum, y); });
#endif
}

constexpr std::string_view kPrompt =
    "Once upon a time, there was a little girl named Lily. She loved to play outside. ";

std::span<const uint8_t> prompt_bytes() { return {reinterpret_cast<const uint8_t*>(kPrompt.data()), kPrompt.size()}; }

double decode_rate(double seconds, const std::shared_ptr<const Model>& model) {
  Session session(model);
  SampleOptions options;
  std::array<uint8_t, 256> out;  // long enough for a hierarchical model's chunks to come at their usual rate
  return best_rate(seconds, static_cast<double>(out.size()), [&] {
    for (size_t written = 0; written < out.size();) {
      if (session.finish_state() != Finish::kNotFinished) {  // at the start, and after each end of text
        session.reset();
        session.feed(prompt_bytes());
        ++options.seed;
        TERN_CHECK(session.start(options, ~uint64_t{0}).ok());
      }
      written += session.generate(std::span(out).subspan(written));
    }
    g_sink = out[0];
  });
}

double prefill_rate(double seconds, const std::shared_ptr<const Model>& model) {
  Session session(model);
  std::vector<uint8_t> text;
  while (text.size() < 512) text.insert(text.end(), kPrompt.begin(), kPrompt.end());
  return best_rate(seconds, static_cast<double>(text.size()), [&] {
    session.feed(text);
    g_sink = static_cast<uint64_t>(session.logits()[0]);
  });
}

// A level that computes nothing, but gives numbers of the size of products: a step with it takes as long as everything
// that is not a product.
void no_matvec(const TernaryView& w, const int8_t*, int32_t, int32_t* y) {
  for (uint32_t r = 0; r < w.rows; ++r) y[r] = static_cast<int32_t>(r * 2654435761u) >> 19;
}

void no_matmul(const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x, MatrixView<int32_t> y) {
  for (size_t t = 0; t < x.rows; ++t) no_matvec(w, x.row(t).data(), sum_x[t], y.row(t).data());
}

constexpr KernelLevel kNoProducts = {"none", nullptr, no_matvec, no_matmul};

const KernelLevel& level_in_use() {
  return *std::ranges::find_if(kernel_levels(),
                               [](const KernelLevel& l) { return std::string_view(l.name) == kernel_level(); });
}

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
void bench_breakdown(const char* what, const std::string& path, ConversionSeconds conversion, double rate,
                     double rate_without_products) {
  const double rest = rate / rate_without_products;
  const double quantize = conversion.quantize * rate, rescale = conversion.rescale * rate;
  JsonWriter line;
  line.open('{').key("bench").text("breakdown").key("of").text(what).key("level").text(kernel_level());
  line.key("model").text(path).key("products").real(1 - rest).key("quantize").real(quantize);
  line.key("rescale").real(rescale).key("other").real(rest - quantize - rescale);
  print(line);
}

void bench_model(double seconds, const std::string& path, const std::shared_ptr<const Model>& model) {
  double macs = 0;  // per byte
  for (const MatrixInfo& m : model->info().matrices) macs += static_cast<double>(m.rows) * m.cols;
  const auto report = [&](const char* what, double rate) {
    JsonWriter line;
    line.open('{').key("bench").text(what).key("level").text(kernel_level()).key("model").text(path);
    line.key("threads").unsigned_integer(threads()).key("bytes_per_s").real(rate);
    line.key("gmac_per_s").real(rate * macs / 1e9);
    print(line);
  };
  const double decode = decode_rate(seconds, model), prefill = prefill_rate(seconds, model);
  report("decode", decode);
  report("prefill", prefill);
  const KernelLevel& level = level_in_use();
  use_level(kNoProducts);
  const double decode_rest = decode_rate(seconds, model), prefill_rest = prefill_rate(seconds, model);
  use_level(level);
  const ConversionSeconds conversion = conversion_seconds(seconds, model->info());
  bench_breakdown("decode", path, conversion, decode, decode_rest);
  bench_breakdown("prefill", path, conversion, prefill, prefill_rest);
}

Result<void> bench(std::span<char* const> words) {
  const Result<Arguments> arguments = Arguments::parse(words, kOptions);
  if (!arguments.ok()) return arguments.error();
  const Result<uint64_t> milliseconds = arguments.value().integer("--milliseconds", 200, 10, 60000);
  if (!milliseconds.ok()) return milliseconds.error();
  const double seconds = static_cast<double>(milliseconds.value()) / 1e3;

  if (arguments.value().has("--model")) {  // first of all, so that a wrong path is found out at once
    const std::string path = arguments.value().text("--model");
    const auto model = load_model(path);
    if (!model.ok()) return model.error();
    const Result<void> started = use_threads(arguments.value(), model.value());
    if (!started.ok()) return started;
    bench_model(seconds, path, model.value());
  }
  bench_limits(seconds);
  for (const KernelLevel& level : kernel_levels()) {
    if (!level.is_exact()) continue;
    for (const Shape shape : {Shape{512, 512}, {2048, 512}, {512, 1536}, {2048, 2048}, {8192, 4096}}) {
      bench_products(seconds, level, shape, 1);
      bench_products(seconds, level, shape, 32);
    }
  }
  bench_lab(seconds);
  bench_activations(seconds, 512);
  return {};
}

}  // namespace

int run_bench(int argc, char** argv) {
  const std::span<char* const> words(argv + 1, static_cast<size_t>(argc - 1));
  for (const char* word : words) {
    if (std::string_view(word) == "--help") {
      std::fputs(help_text("tern bench [options]", kOptions).c_str(), stdout);
      return 0;
    }
  }
  const Result<void> done = bench(words);
  if (done.ok()) return 0;
  std::fprintf(stderr, "tern: %s\n", done.error().message.c_str());
  return done.error().code == ErrorCode::kBadOption ? 2 : 1;
}

}  // namespace tern
