// trace.cc: the program tern_trace writes what every operation of every block computes for a text, for analysis.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "session/session.h"
#include "tools/files.h"
#include "tools/json.h"
#include "tools/options.h"

namespace tern {
namespace {

constexpr const char* kUsage = "tern_trace --model FILE --text FILE --out FILE [--max-bytes N]";

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--text", "FILE", "the text: .txt (a line <|endoftext|> ends a document) or prepared .bin"},
    {"--max-bytes", "N", "only the first N bytes (512)"},
    {"--out", "FILE", "where the numbers go"},
};

constexpr const char* kOutput =
    "\noutput: FILE has int32 little endian, [1 + bytes][row], a row for BOS and for each byte of the text.  A row is "
    "the\n"
    "concatenation of its parts, each of its operations; what did not run (the inside of a chunk) is 0.  Printed is "
    "one\n"
    "JSON object with\n"
    "  positions\n"
    "  parts   [{name, operations: [{name, width, fraction_bits}]}], in the order of the row\n"
    "scripts/deviation.py compares them with PyTorch.\n";

/// Collects rows of positions that come one after the other.  What is in them is noted during the first, in which
/// everything runs; what does not run later stays 0.
class Trace : public Observer {
 public:
  struct Operation {
    std::string name;
    size_t at, width;
    int fraction_bits;
  };
  struct Part {
    std::string name;
    std::vector<Operation> operations;
  };

  void on_row(const Place& place, std::span<const int32_t> raw, int fraction_bits) override {
    if (place.position == 0) {
      if (parts_.empty() || parts_.back().name != place.part) parts_.push_back({std::string(place.part), {}});
      parts_.back().operations.push_back({std::string(place.operation), words_.size(), raw.size(), fraction_bits});
      words_.insert(words_.end(), raw.begin(), raw.end());
      width_ = words_.size();
      return;
    }
    words_.resize((static_cast<size_t>(place.position) + 1) * width_);
    const Part& part = *std::ranges::find(parts_, place.part, &Part::name);
    const Operation& operation = *std::ranges::find(part.operations, place.operation, &Operation::name);
    std::ranges::copy(raw, words_.end() - static_cast<ptrdiff_t>(width_ - operation.at));
  }

  std::span<const int32_t> words() const { return words_; }
  std::span<const Part> parts() const { return parts_; }

 private:
  std::vector<int32_t> words_;
  size_t width_ = 0;
  std::vector<Part> parts_;
};

void write_layout(const Trace& trace, size_t positions, JsonWriter& json) {
  json.open('{').key("positions").unsigned_integer(positions).key("parts").open('[');
  for (const Trace::Part& part : trace.parts()) {
    json.open('{').key("name").text(part.name).key("operations").open('[');
    for (const Trace::Operation& operation : part.operations) {
      json.open('{').key("name").text(operation.name).key("width").unsigned_integer(operation.width);
      json.key("fraction_bits").integer(operation.fraction_bits).close('}');
    }
    json.close(']').close('}');
  }
  json.close(']').close('}');
}

Result<void> write_words(const std::string& path, std::span<const int32_t> words) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "wb"), &std::fclose);
  if (file == nullptr || std::fwrite(words.data(), sizeof(int32_t), words.size(), file.get()) != words.size()) {
    return error_f(ErrorCode::kBadState, "--out: %s cannot be written", path.c_str());
  }
  return {};
}

Result<void> run_trace(const Arguments& arguments, JsonWriter& json) {
  const Result<std::string> model_path = arguments.required("--model");
  if (!model_path.ok()) return model_path.error();
  const Result<std::string> text_path = arguments.required("--text");
  if (!text_path.ok()) return text_path.error();
  const Result<std::string> out_path = arguments.required("--out");
  if (!out_path.ok()) return out_path.error();
  const Result<uint64_t> most = arguments.integer("--max-bytes", 512, 1, 1 << 16);
  if (!most.ok()) return most.error();
  const Result<std::shared_ptr<const Model>> model = load_model(model_path.value());
  if (!model.ok()) return model.error();
  const Result<std::vector<uint8_t>> text = read_text_file(text_path.value());
  if (!text.ok()) return text.error();

  const auto size = static_cast<size_t>(std::min<uint64_t>(most.value(), text.value().size()));
  Trace trace;
  Session session(model.value());
  for (size_t at = 0; at < size; ++at) session.feed(std::span(text.value()).subspan(at, 1), {.observer = &trace});
  write_layout(trace, size + 1, json);
  return write_words(out_path.value(), trace.words());
}

int run(std::span<char* const> words) {
  for (const char* word : words) {
    if (std::string_view(word) == "--help") {
      std::fputs((help_text(kUsage, kOptions) + kOutput).c_str(), stdout);
      return 0;
    }
  }
  const Result<Arguments> arguments = Arguments::parse(words, kOptions);
  JsonWriter json;
  const Result<void> done = arguments.ok() ? run_trace(arguments.value(), json) : Result<void>(arguments.error());
  if (!done.ok()) {
    std::fprintf(stderr, "tern_trace: %s\n", done.error().message.c_str());
    return done.error().code == ErrorCode::kBadOption ? 2 : 1;
  }
  std::printf("%s\n", json.result().c_str());
  return 0;
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) { return tern::run({argv + 1, static_cast<size_t>(argc - 1)}); }
