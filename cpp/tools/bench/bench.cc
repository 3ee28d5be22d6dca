// bench.cc: what to measure: the options and the order of the parts.
#include "tools/bench/bench.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dispatch.h"
#include "session/session.h"
#include "tools/bench/measure.h"
#include "tools/files.h"
#include "tools/options.h"
#include "tools/threads.h"

namespace tern {
namespace {

#define TERN_BENCH_PARTS "limits, products, dram, lab, lab_dram, activations, sampler, model, prompts, stream"

constexpr Option kOptions[] = {
    {"--model", "FILE", "also measure decoding and prefill with this model, GGUF"},
    {"--milliseconds", "N", "time per measurement, 10 to 60000 (default 200)"},
    kThreadsOption,
    {"--parts", "LIST",
     "of " TERN_BENCH_PARTS "; with commas (default: all but dram, lab_dram, sampler, prompts and stream)"},
    {"--level", "NAME", "kernel level that the model runs with (default: the fastest)"},
    {"--stream-bytes", "N", "length of the text of part stream (default 10000000)"},
};

constexpr std::string_view kParts[] = {"limits",      "products", "dram",  "lab",     "lab_dram",
                                       "activations", "sampler",  "model", "prompts", "stream"};
constexpr std::string_view kDefaultParts = "limits,products,lab,activations,model";

Result<std::vector<std::string_view>> parse_parts(std::string_view list) {
  std::vector<std::string_view> parts;
  while (!list.empty()) {
    const size_t end = std::min(list.find(','), list.size());
    const std::string_view part = list.substr(0, end);
    if (std::ranges::find(kParts, part) == std::end(kParts)) {
      return error_f(ErrorCode::kBadOption, "--parts: expected some of " TERN_BENCH_PARTS "; found \"%s\"",
                     std::string(part).c_str());
    }
    parts.push_back(part);
    list.remove_prefix(std::min(end + 1, list.size()));
  }
  return parts;
}

Result<void> choose_level(const Arguments& arguments) {
  if (!arguments.has("--level")) return {};
  const std::string name = arguments.text("--level");
  for (const KernelLevel& level : kernel_levels()) {
    if (level.name != name) continue;
    if (!level.is_exact()) {
      return error_f(ErrorCode::kUnsupported, "--level: %s is not exact on this machine", name.c_str());
    }
    dispatch().level = &level;
    return {};
  }
  return error_f(ErrorCode::kBadOption, "--level: expected one that `tern_bench` lists, found \"%s\"", name.c_str());
}

Result<void> bench(std::span<char* const> words, std::shared_ptr<const Model> model) {
  const Result<Arguments> parsed = Arguments::parse(words, kOptions);
  if (!parsed.ok()) return parsed.error();
  const Arguments& arguments = parsed.value();
  const Result<uint64_t> milliseconds = arguments.integer("--milliseconds", 200, 10, 60000);
  if (!milliseconds.ok()) return milliseconds.error();
  const Result<uint64_t> stream_bytes = arguments.integer("--stream-bytes", 10'000'000, 1, uint64_t{1} << 40);
  if (!stream_bytes.ok()) return stream_bytes.error();
  const std::string list = arguments.text("--parts", kDefaultParts);
  const Result<std::vector<std::string_view>> parts = parse_parts(list);
  if (!parts.ok()) return parts.error();
  if (const Result<void> level = choose_level(arguments); !level.ok()) return level;
  const auto wanted = [&](std::string_view part) {
    return std::ranges::find(parts.value(), part) != parts.value().end();
  };
  const double seconds = static_cast<double>(milliseconds.value()) / 1e3;

  // Models first: a wrong path is found out at once, and the memory is not yet that of other parts.
  const std::string path = arguments.text("--model");
  if (model == nullptr && !path.empty()) {
    Result<std::shared_ptr<const Model>> loaded = load_model(path);
    if (!loaded.ok()) return loaded.error();
    model = loaded.value();
  }
  if (model != nullptr) {
#if !defined(__EMSCRIPTEN__)  // the bench's module has one thread
    if (const Result<void> started = use_threads(arguments, model); !started.ok()) return started;
#endif
    const BenchedModel benched{path, model};
    bench_memory(benched);
    if (wanted("model")) bench_model(seconds, benched);
    if (wanted("prompts")) bench_prompts(seconds, benched);
    if (wanted("stream")) bench_stream(stream_bytes.value(), benched);
  }
  Limits limits;
  const auto measure_limits = [&] {
    if (wanted("limits")) limits.measure(seconds);
  };
  measure_limits();
  struct KernelPart {
    std::string_view name;
    void (*measure)(double seconds);
  };
  for (const auto& [part, measure] : {KernelPart{"products", bench_products},
                                      {"dram", bench_dram},
                                      {"lab", bench_lab},
                                      {"lab_dram", bench_lab_dram},
                                      {"activations", bench_activations},
                                      {"sampler", bench_sampler}}) {
    if (!wanted(part)) continue;
    measure(seconds);
    measure_limits();
  }
  limits.print();
  return {};
}

}  // namespace

int run_bench(int argc, char** argv, std::shared_ptr<const Model> model) {
  const std::span<char* const> words(argv + 1, static_cast<size_t>(argc - 1));
  for (const char* word : words) {
    if (std::string_view(word) == "--help") {
      std::fputs(help_text("tern_bench [options]", kOptions).c_str(), stdout);
      return 0;
    }
  }
  const Result<void> done = bench(words, std::move(model));
  if (done.ok()) return 0;
  std::fprintf(stderr, "tern_bench: %s\n", done.error().message.c_str());
  return done.error().code == ErrorCode::kBadOption ? 2 : 1;
}

}  // namespace tern
