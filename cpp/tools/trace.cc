// trace.cc: the program tern_trace writes what every operation of every block computes for a text, for analysis.
#include <algorithm>
#include <string>
#include <vector>

#include "session/session.h"
#include "tools/files.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/output.h"

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

Result<void> run_trace(const Arguments& arguments, Output& out) {
  const Result<std::string> model_path = arguments.required("--model");
  if (!model_path.ok()) return model_path.error();
  const Result<std::string> text_path = arguments.required("--text");
  if (!text_path.ok()) return text_path.error();
  const Result<std::string> out_path = arguments.required("--out");
  if (!out_path.ok()) return out_path.error();
  const Result<uint64_t> most = arguments.integer("--max-bytes", 512, 1, 1 << 16);
  if (!most.ok()) return most.error();
  const std::string inputs[] = {model_path.value(), text_path.value()};
  Result<Output> file = Output::file(out_path.value(), inputs);
  if (!file.ok()) return error_f(file.error().code, "--out: %s", file.error().message.c_str());
  const Result<std::shared_ptr<const Model>> model = load_model(model_path.value());
  if (!model.ok()) return model.error();
  const Result<std::vector<uint8_t>> text = read_text_file(text_path.value());
  if (!text.ok()) return text.error();

  const auto size = static_cast<size_t>(std::min<uint64_t>(most.value(), text.value().size()));
  Trace trace;
  Session session(model.value());
  for (size_t at = 0; at < size; ++at) {
    if (session.feed(std::span(text.value()).subspan(at, 1), {.observer = &trace}) == 0)
      return cut_short(session, at, size);
  }
  const std::span<const std::byte> words = std::as_bytes(trace.words());
  file.value().write({reinterpret_cast<const char*>(words.data()), words.size()});
  const Result<void> written = file.value().finish();
  if (!written.ok()) return written;
  JsonWriter json;
  write_layout(trace, size + 1, json);
  out.write(json.result() + "\n");
  return {};
}

Result<void> run(std::span<char* const> words, Output& out) {
  for (const std::string_view word : words) {
    if (word != "--help" && word != "-h") continue;
    out.write(help_text(kUsage, kOptions) + kOutput);
    return {};
  }
  const Result<Arguments> arguments = Arguments::parse(words, kOptions);
  return arguments.ok() ? run_trace(arguments.value(), out) : arguments.error();
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  return tern::run_program("tern_trace", [&](tern::Output& out) {
    return tern::run({argv + std::min(argc, 1), static_cast<size_t>(std::max(argc - 1, 0))}, out);
  });
}
