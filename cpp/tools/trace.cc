// trace.cc: the program tern_trace writes what every operation of every block computes for a text, for analysis.
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <ranges>
#include <string>
#include <vector>

#include "base/view.h"
#include "format/gguf.h"
#include "model/chunking.h"
#include "model/hgrnbit.h"
#include "model/hnetbit.h"
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

/// Loads a network without the rest of a Model, so that its parts can be run one by one.
class Loader : public GgufSink {
 public:
  Result<void> on_header(const GgufHeader& header) override {
    const GgufValue* architecture = header.find("general.architecture");
    const std::string name = architecture == nullptr ? "none" : architecture->text;
    if (name != "hgrnbit" && name != "hnetbit") {
      return error_f(ErrorCode::kUnsupported, "expected a model of architecture hgrnbit or hnetbit, found \"%s\"",
                     name.c_str());
    }
    hierarchical = name == "hnetbit";
    return hierarchical ? hnet_builder_.on_header(header) : flat_builder_.on_header(header);
  }
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) override {
    return hierarchical ? hnet_builder_.on_row(tensor, row, bytes) : flat_builder_.on_row(tensor, row, bytes);
  }
  void finish() {
    ModelInfo info;
    hierarchical ? hnet_builder_.finish(info) : flat_builder_.finish(info);
  }

  bool hierarchical = false;
  hgrnbit::Network flat;
  hnetbit::Network hnet;

 private:
  hgrnbit::Builder flat_builder_{&flat};
  hnetbit::Builder hnet_builder_{&hnet};
};

Result<void> load(const std::string& path, Loader& loader) {
  GgufReader reader(loader);
  Result<void> done = for_each_piece(path, [&](std::span<const uint8_t> piece) { return reader.push(piece); });
  if (done.ok()) done = reader.finish();
  if (!done.ok()) return error_f(done.error().code, "%s: %s", path.c_str(), done.error().message.c_str());
  loader.finish();
  return {};
}

/// Collects the rows.  What is in them is noted during the first, in which every part runs.
class Trace {
 public:
  struct Operation {
    std::string name;
    size_t width;
    int fraction_bits;
  };
  struct Part {
    std::string name;
    std::vector<Operation> operations;
  };

  void part(const std::string& name) {
    if (first_row_) parts_.push_back({name, {}});
  }
  /// Raw numbers of any fixed-point type.
  template <class Range>
  void add(const char* name, const Range& values) {
    if (first_row_) {
      parts_.back().operations.push_back({name, values.size(), std::ranges::range_value_t<Range>::kFractionBits});
    }
    for (const auto value : values) words_.push_back(static_cast<int32_t>(value.raw));
  }
  void skip(size_t words) { words_.insert(words_.end(), words, 0); }
  void end_row() { first_row_ = false; }

  std::span<const int32_t> words() const { return words_; }
  std::span<const Part> parts() const { return parts_; }

 private:
  bool first_row_ = true;
  std::vector<int32_t> words_;
  std::vector<Part> parts_;
};

std::vector<Act> difference(std::span<const Act> a, std::span<const Act> b) {
  std::vector<Act> result(a.begin(), a.end());
  for (size_t c = 0; c < b.size(); ++c) result[c].raw -= b[c].raw;
  return result;
}

/// One block on one token.  Most is in the scratch memory afterwards; the residual stream between the halves is what
/// the second half was added to.  g is computed once more, for the output gate may have normed it in place.
void trace_block(const hgrn::BlockConfig& config, const hgrn::Block& block, const hgrn::BlockState& state,
                 MatrixView<Act> h, hgrn::Scratch& scratch, Trace& trace) {
  const size_t H = config.hidden, E = config.recurrent, I = config.feed_forward;
  const std::vector<Act> in(h.row(0).begin(), h.row(0).end());
  std::vector<Act> attn_norm(H);
  rms_norm(h.row(0), block.attn_norm, config.epsilon, attn_norm);
  hgrn::run_block(config, block, std::array{&state}, h, scratch);
  const std::vector<Act> between = difference(h.row(0), scratch.out.first(H));
  const MatrixView<const Act> mixed_in(config.conv_kernel > 0 ? scratch.a.data() : attn_norm.data(), 1, H);
  bit_linear(block.attn_g, mixed_in, tile_rms(mixed_in, config.epsilon), scratch.bit_linear, {scratch.g.data(), 1, E});

  trace.add("in", in);
  trace.add("attn_norm", attn_norm);
  if (config.conv_kernel > 0) trace.add("conv", scratch.a.first(H));
  trace.add("i", scratch.i.first(E));
  trace.add("f", scratch.z.first(E));
  trace.add("g", scratch.g.first(E));
  trace.add("state", scratch.states.first(E));
  trace.add("o", scratch.o.first(E));
  trace.add("mixed", difference(between, in));
  trace.add("h1", between);
  trace.add("ffn_norm", scratch.window.subspan(config.window_rows() * H, H));
  trace.add("gate_up", scratch.gate_up.first(2 * I));
  trace.add("mlp", scratch.mlp.first(I));
  trace.add("down", scratch.out.first(H));
  trace.add("out", h.row(0));
}

/// A stack on one token, and the norm after it as a part of its own; h ends normed.
void trace_stack(const std::string& prefix, const hgrn::BlockConfig& config, const hgrn::Stack& stack,
                 const hgrn::StackState& states, std::span<const NormWeight> norm, const std::string& after,
                 MatrixView<Act> h, hgrn::Scratch& scratch, Trace& trace) {
  for (size_t n = 0; n < stack.size(); ++n) {
    trace.part(prefix + std::to_string(n));
    trace_block(config, stack[n], states[n], h, scratch, trace);
  }
  rms_norm(h, norm, config.epsilon, h);
  trace.part(after);
  trace.add("norm", h.row(0));
}

void trace_head(const BitLinear& head, MatrixView<const Act> h, Scale epsilon, hgrn::Scratch& scratch, Trace& trace) {
  std::vector<Act> logits(kVocab);
  bit_linear(head, h, tile_rms(h, epsilon), scratch.bit_linear, {logits.data(), 1, kVocab});
  trace.add("logits", logits);
}

void trace_flat(const hgrnbit::Network& network, std::span<const uint8_t> tokens, Trace& trace) {
  const hgrn::BlockConfig& config = network.config.block;
  hgrnbit::Memory memory(network.config);
  const MatrixView<Act> h(memory.h.data(), 1, config.hidden);
  for (const uint8_t& token : tokens) {
    hgrn::embed(network.weights.embedding, {&token, 1}, h);
    trace_stack("blk.", config, network.weights.layers, memory.layers, network.weights.output_norm, "head", h,
                memory.scratch, trace);
    trace_head(network.weights.output, h, config.epsilon, memory.scratch, trace);
    trace.end_row();
  }
}

/// One row of a level, as hnetbit.cc runs it; `below` has the words of a whole row of each level, from the first row.
void trace_level(const hnetbit::Network& network, size_t level, hnetbit::Memory& memory, std::vector<size_t>& below,
                 Trace& trace) {
  const hgrn::BlockConfig& config = network.config.block(level);
  const MatrixView<Act> x(memory.x[level].data(), 1, config.hidden);
  hgrn::Scratch& scratch = memory.scratch;
  if (level == network.config.stages.size()) {
    trace_stack("main.", config, network.weights.inner, memory.inner, network.weights.inner_norm, "main_norm", x,
                scratch, trace);
    return;
  }
  const hnetbit::Stage& stage = network.weights.stages[level];
  hnetbit::StageState& state = memory.stages[level];
  const std::string name = "stage." + std::to_string(level) + ".";
  trace_stack(name + "enc.", config, stage.encoder, state.encoder, stage.encoder_norm, name + "router", x, scratch,
              trace);

  const size_t d = config.hidden, R = state.q.size();
  std::vector<Act> q(R), k(R), residual(d);
  const std::span<int8_t> codes = scratch.bit_linear.codes.first(padded_cols(config.hidden));
  const std::span<int32_t> acc = scratch.bit_linear.acc;
  const std::span<const NormWeight> no_norm = std::span(network.weights.ones).first(d);
  const Scale scale = quantize_activations(x.row(0), no_norm, Scale::from_integer(1), codes).scale;
  dense_linear(stage.router_q, codes, scale, acc.first(R), q);
  dense_linear(stage.router_k, codes, scale, acc.first(R), k);
  dense_linear(stage.residual, codes, scale, acc.first(d), residual);
  Gate p = boundary_probability(state.q, k).value_or(Gate{});
  if (state.started[0] == 0) p = kMostProbable;  // a text begins with a chunk
  p = std::min(p, kMostProbable);
  state.started[0] = 1;
  std::ranges::copy(q, state.q.begin());
  trace.add("q", q);
  trace.add("k", k);
  trace.add("residual", residual);
  trace.add("p", std::array{p});

  if (p == Gate{}) {
    trace.skip(below[level]);
  } else {
    const std::span<Act> row = memory.x[level + 1].first(d + stage.pad.size());
    std::ranges::copy(x.row(0), row.begin());
    std::ranges::copy(stage.pad, row.subspan(d).begin());
    const size_t before = trace.words().size();
    trace_level(network, level + 1, memory, below, trace);
    below[level] = trace.words().size() - before;
    blend_chunk(p, row.first(d), state.z);
  }
  constexpr int kFiner = State::kFractionBits - Act::kFractionBits;
  for (size_t c = 0; c < d; ++c) {
    x.row(0)[c] = add({static_cast<int32_t>(round_shift(state.z[c].raw, kFiner))}, residual[c]);
  }
  trace.part(name + "chunks");
  trace.add("z", state.z);
  trace.add("h", x.row(0));
  trace_stack(name + "dec.", config, stage.decoder, state.decoder, stage.decoder_norm, name + "out", x, scratch, trace);
}

void trace_hierarchical(const hnetbit::Network& network, std::span<const uint8_t> tokens, Trace& trace) {
  hnetbit::Memory memory(network.config);
  std::vector<size_t> below(network.config.stages.size());
  const MatrixView<Act> x(memory.x[0].data(), 1, network.config.block(0).hidden);
  for (const uint8_t& token : tokens) {
    hgrn::embed(network.weights.embedding, {&token, 1}, x);
    trace_level(network, 0, memory, below, trace);
    trace.part("head");
    trace_head(network.weights.output, x, network.config.inner.epsilon, memory.scratch, trace);
    trace.end_row();
  }
}

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
  Loader loader;
  const Result<void> loaded = load(model_path.value(), loader);
  if (!loaded.ok()) return loaded;
  const Result<std::vector<uint8_t>> text = read_text_file(text_path.value());
  if (!text.ok()) return text.error();

  const auto size = static_cast<size_t>(std::min<uint64_t>(most.value(), text.value().size()));
  std::vector<uint8_t> tokens = {kBos};
  tokens.insert(tokens.end(), text.value().begin(), text.value().begin() + static_cast<std::ptrdiff_t>(size));
  Trace trace;
  if (loader.hierarchical) {
    trace_hierarchical(loader.hnet, tokens, trace);
  } else {
    trace_flat(loader.flat, tokens, trace);
  }
  write_layout(trace, tokens.size(), json);
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
