// trace.cc: the program tern_trace writes what every operation of every block computes for a text, for analysis.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <ranges>
#include <string>
#include <vector>

#include "base/view.h"
#include "format/gguf.h"
#include "model/hgrnbit.h"
#include "tools/files.h"
#include "tools/json.h"
#include "tools/options.h"

namespace tern {
namespace {

constexpr const char* kUsage = "tern_trace --model FILE --text FILE --out FILE [--max-bytes N]";

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF, of architecture hgrnbit"},
    {"--text", "FILE", "the text; a line <|endoftext|> ends a document"},
    {"--max-bytes", "N", "only the first N bytes (512)"},
    {"--out", "FILE", "where the numbers go"},
};

constexpr const char* kOutput =
    "\noutput: FILE has int32 little endian, [1 + bytes][row], a row for BOS and for each byte of the text.  A row is\n"
    "block 0, block 1, ..., then the head; each the concatenation of its operations.  Printed is one JSON object with\n"
    "  positions, blocks\n"
    "  block, head   [{name, width, fraction_bits}], in the order of the row\n"
    "scripts/deviation.py compares them with PyTorch.\n";

/// Loads a network without the rest of a Model, so that its parts can be run one by one.
class Loader : public GgufSink {
 public:
  Result<void> on_header(const GgufHeader& header) override {
    const GgufValue* architecture = header.find("general.architecture");
    if (architecture == nullptr || architecture->text != "hgrnbit") {
      return error_f(ErrorCode::kUnsupported, "expected a model of architecture hgrnbit, found \"%s\"",
                     architecture == nullptr ? "none" : architecture->text.c_str());
    }
    return builder_.on_header(header);
  }
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) override {
    return builder_.on_row(tensor, row, bytes);
  }
  void finish() {
    ModelInfo info;
    builder_.finish(info);
  }

  hgrnbit::Network network;

 private:
  hgrnbit::Builder builder_{&network};
};

Result<void> load(const std::string& path, Loader& loader) {
  GgufReader reader(loader);
  Result<void> done = for_each_piece(path, [&](std::span<const uint8_t> piece) { return reader.push(piece); });
  if (done.ok()) done = reader.finish();
  if (!done.ok()) return error_f(done.error().code, "%s: %s", path.c_str(), done.error().message.c_str());
  loader.finish();
  return {};
}

struct Operation {
  std::string name;
  size_t width;
  int fraction_bits;
};

struct Trace {
  std::vector<int32_t> words;          // [1 + bytes][row]
  std::vector<Operation> block, head;  // what is in a row; the same for every block

  /// Appends raw numbers, of any fixed-point type, and notes in `part` what they are.
  template <class Range>
  void add(std::vector<Operation>& part, const char* name, const Range& values) {
    part.push_back({name, values.size(), std::ranges::range_value_t<Range>::kFractionBits});
    for (const auto value : values) words.push_back(value.raw);
  }
};

std::vector<Act> difference(std::span<const Act> a, std::span<const Act> b) {
  std::vector<Act> result(a.begin(), a.end());
  for (size_t c = 0; c < b.size(); ++c) result[c].raw -= b[c].raw;
  return result;
}

/// One block on one token.  Most is in the scratch memory afterwards; the residual stream between the halves is what
/// the second half was added to.
void trace_block(const hgrn::BlockConfig& config, const hgrn::Block& block, const hgrn::BlockState& state,
                 MatrixView<Act> h, hgrn::Scratch& scratch, Trace& trace) {
  const size_t H = config.hidden, E = config.recurrent, I = config.feed_forward;
  const std::vector<Act> in(h.row(0).begin(), h.row(0).end());
  std::vector<Act> attn_norm(H);
  rms_norm(h.row(0), block.attn_norm, config.epsilon, attn_norm);
  hgrn::run_block(config, block, state, h, scratch);
  const std::vector<Act> between = difference(h.row(0), scratch.out.first(H));

  trace.block.clear();
  const auto add = [&](const char* name, const auto& values) { trace.add(trace.block, name, values); };
  add("in", in);
  add("attn_norm", attn_norm);
  if (config.conv_kernel > 0) add("conv", scratch.a.first(H));
  add("i", scratch.i.first(E));
  add("f", scratch.z.first(E));
  add("g", scratch.g.first(E));
  add("state", scratch.states.first(E));
  add("o", scratch.o.first(E));
  add("mixed", difference(between, in));
  add("h1", between);
  add("ffn_norm", scratch.window.subspan(config.window_rows() * H, H));
  add("gate_up", scratch.gate_up.first(2 * I));
  add("mlp", scratch.mlp.first(I));
  add("down", scratch.out.first(H));
  add("out", h.row(0));
}

Trace run_network(const hgrnbit::Network& network, std::span<const uint8_t> text) {
  const hgrn::BlockConfig& config = network.config.block;
  const hgrnbit::Weights& weights = network.weights;
  hgrnbit::Memory memory(network.config);
  const MatrixView<Act> h(memory.h.data(), 1, config.hidden);
  std::vector<Act> normed(config.hidden);
  std::vector<Act> logits(kVocab);
  Trace trace;
  for (size_t p = 0; p <= text.size(); ++p) {
    const uint8_t token[] = {p == 0 ? kBos : text[p - 1]};
    hgrn::embed(weights.embedding, token, h);
    for (size_t l = 0; l < weights.layers.size(); ++l) {
      trace_block(config, weights.layers[l], memory.layers[l], h, memory.scratch, trace);
    }
    rms_norm(h.row(0), weights.output_norm, config.epsilon, normed);
    bit_linear(weights.output, {normed.data(), 1, normed.size()},
               tile_rms({normed.data(), 1, normed.size()}, config.epsilon), memory.scratch.bit_linear,
               {logits.data(), 1, kVocab});
    trace.head.clear();
    trace.add(trace.head, "output_norm", normed);
    trace.add(trace.head, "logits", logits);
  }
  return trace;
}

void write_layout(const char* key, std::span<const Operation> operations, JsonWriter& json) {
  json.key(key).open('[');
  for (const Operation& operation : operations) {
    json.open('{').key("name").text(operation.name).key("width").unsigned_integer(operation.width);
    json.key("fraction_bits").integer(operation.fraction_bits).close('}');
  }
  json.close(']');
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
  Loader loader;
  const Result<void> loaded = load(model_path.value(), loader);
  if (!loaded.ok()) return loaded;
  const Result<std::vector<uint8_t>> text = read_text_file(text_path.value());
  if (!text.ok()) return text.error();

  const auto size = static_cast<size_t>(std::min<uint64_t>(most.value(), text.value().size()));
  const Trace trace = run_network(loader.network, std::span(text.value()).first(size));
  json.open('{').key("positions").unsigned_integer(size + 1);
  json.key("blocks").unsigned_integer(loader.network.weights.layers.size());
  write_layout("block", trace.block, json);
  write_layout("head", trace.head, json);
  json.close('}');
  return write_words(out_path.value(), trace.words);
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
