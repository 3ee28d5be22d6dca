// bench.cc: what to measure: the options and the order of the parts.
#include "tools/bench/bench.h"

#include <algorithm>
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

Result<void> bench(std::span<char* const> words, std::shared_ptr<const Model> model, Output& out) {
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
  const Meter meter{static_cast<double>(milliseconds.value()) / 1e3, out};

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
    bench_memory(meter, benched);
    if (const Result<void> written = out.flush(); !written.ok()) return written;  // before it takes minutes
    if (wanted("model")) bench_model(meter, benched);
    if (wanted("prompts")) bench_prompts(meter, benched);
    if (wanted("stream")) bench_stream(meter, stream_bytes.value(), benched);
  }
  Limits limits;
  const auto measure_limits = [&] {
    if (wanted("limits")) limits.measure(meter.seconds);
  };
  measure_limits();
  struct KernelPart {
    std::string_view name;
    void (*measure)(const Meter&);
  };
  for (const auto& [part, measure] : {KernelPart{"products", bench_products},
                                      {"dram", bench_dram},
                                      {"lab", bench_lab},
                                      {"lab_dram", bench_lab_dram},
                                      {"activations", bench_activations},
                                      {"sampler", bench_sampler}}) {
    if (!wanted(part)) continue;
    if (const Result<void> written = out.flush(); !written.ok()) return written;
    measure(meter);
    measure_limits();
  }
  limits.print(meter);
  return {};
}

}  // namespace

Result<void> run_bench(std::span<char* const> words, std::shared_ptr<const Model> model, Output& out) {
  for (const std::string_view word : words) {
    if (word != "--help" && word != "-h") continue;
    out.write(help_text("tern_bench [options]", kOptions));
    return {};
  }
  return bench(words, std::move(model), out);
}

}  // namespace tern
