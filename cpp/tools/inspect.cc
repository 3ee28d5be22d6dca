// inspect.cc: `tern inspect` shows what is in a model file and what it becomes in memory.
#include <string>
#include <vector>

#include "session/session.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/json.h"

namespace tern {
namespace {

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--text", "FILE", "show where the model begins chunks in this text instead (hierarchical models)"},
    {"--json", nullptr, "print one JSON object"},
};

std::string shape_text(const TensorInfo& tensor) {
  std::string text;
  for (const uint64_t extent : tensor.shape) text += (text.empty() ? "" : " x ") + std::to_string(extent);
  return text;
}

double percent(uint64_t part, const MatrixInfo& matrix) {
  return 100.0 * static_cast<double>(part) / (static_cast<double>(matrix.rows) * static_cast<double>(matrix.cols));
}

void print_text(Output& out, const ModelInfo& info) {
  const auto line = [](const std::string& text) { return printable(text, false); };
  out.print("%s (%s), %llu parameters\n", line(info.name).c_str(), line(info.architecture).c_str(),
            static_cast<unsigned long long>(info.parameters));
  out.print("file %llu bytes, weights in memory %llu, state per conversation %llu, fingerprint %s\n",
            static_cast<unsigned long long>(info.file_bytes), static_cast<unsigned long long>(info.packed_bytes),
            static_cast<unsigned long long>(info.state_bytes), to_hex(info.fingerprint).c_str());
  if (info.context > 0) {
    out.print("of which %llu for each token, taken as a text grows to at most %llu tokens\n",
              static_cast<unsigned long long>(info.state_bytes_per_token),
              static_cast<unsigned long long>(info.context));
  }
  out.print("%s\n\n",
            info.checked ? "checked: the file's own SHA-256 is right" : "unchecked: the file has no key tern.sha256");
  for (const KeyValue& item : info.config) out.print("%-24s %s\n", line(item.key).c_str(), line(item.value).c_str());
  out.print("\n");
  for (const KeyValue& item : info.metadata) out.print("%-32s %s\n", line(item.key).c_str(), line(item.value).c_str());

  out.print("\n%-28s %-6s %6s %6s %10s %7s %7s %7s\n", "ternary matrix", "type", "rows", "cols", "packed", "-1 %",
            "0 %", "+1 %");
  for (const MatrixInfo& m : info.matrices) {
    out.print("%-28s %-6s %6u %6u %10llu %7.2f %7.2f %7.2f\n", m.name.c_str(), m.type.c_str(), m.rows, m.cols,
              static_cast<unsigned long long>(m.packed_bytes), percent(m.minus, m), percent(m.zero, m),
              percent(m.plus, m));
  }
  out.print("\n%-36s %-6s %14s %10s\n", "tensor", "type", "shape", "bytes");
  for (const TensorInfo& t : info.tensors) {
    out.print("%-36s %-6s %14s %10llu\n", t.name.c_str(), t.type.c_str(), shape_text(t).c_str(),
              static_cast<unsigned long long>(t.file_bytes));
  }
}

void write_pairs(JsonWriter& json, const std::vector<KeyValue>& pairs) {
  json.open('{');
  for (const KeyValue& pair : pairs) json.key(pair.key).text(pair.value);
  json.close('}');
}

void print_json(Output& out, const ModelInfo& info) {
  JsonWriter json;
  json.open('{').key("name").text(info.name).key("architecture").text(info.architecture);
  json.key("parameters").unsigned_integer(info.parameters).key("file_bytes").unsigned_integer(info.file_bytes);
  json.key("packed_bytes").unsigned_integer(info.packed_bytes).key("state_bytes").unsigned_integer(info.state_bytes);
  json.key("state_bytes_per_token").unsigned_integer(info.state_bytes_per_token);
  json.key("context").unsigned_integer(info.context);
  json.key("fingerprint").text(to_hex(info.fingerprint)).key("checked").boolean(info.checked);
  json.key("warnings");
  write_pairs(json, info.warnings);
  json.key("config");
  write_pairs(json, info.config);
  json.key("metadata");
  write_pairs(json, info.metadata);
  json.key("matrices").open('[');
  for (const MatrixInfo& m : info.matrices) {
    json.open('{').key("name").text(m.name).key("type").text(m.type).key("rows").integer(m.rows);
    json.key("cols").integer(m.cols).key("packed_bytes").unsigned_integer(m.packed_bytes);
    json.key("minus").unsigned_integer(m.minus).key("zero").unsigned_integer(m.zero);
    json.key("plus").unsigned_integer(m.plus).close('}');
  }
  json.close(']').key("tensors").open('[');
  for (const TensorInfo& t : info.tensors) {
    json.open('{').key("name").text(t.name).key("type").text(t.type).key("shape").open('[');
    for (const uint64_t extent : t.shape) json.unsigned_integer(extent);
    json.close(']').key("file_bytes").unsigned_integer(t.file_bytes).close('}');
  }
  json.close(']').close('}');
  out.print("%s\n", json.result().c_str());
}

// ---- chunks ---------------------------------------------------------------------------------------------------------

/// A text and where a model begins chunks in it.
struct Chunking {
  std::vector<uint8_t> text;
  std::vector<uint8_t> boundaries;  // a mask per byte: bit s is set where a chunk of stage s begins
  std::vector<uint64_t> chunks;     // per stage: how many begin
};

Result<Chunking> chunking_of(const std::shared_ptr<const Model>& model, std::vector<uint8_t> text) {
  Chunking chunking{std::move(text), {}, std::vector<uint64_t>(model->info().stages)};
  chunking.boundaries.resize(chunking.text.size());
  Session session(model);
  ChunkMasks masks(chunking.boundaries, 1);
  const Result<void> fed = feed_whole(session, chunking.text, &masks);
  if (!fed.ok()) return fed.error();
  for (const uint8_t mask : chunking.boundaries) {
    for (size_t s = 0; s < chunking.chunks.size(); ++s) {
      if ((mask >> s & 1) != 0) ++chunking.chunks[s];
    }
  }
  return chunking;
}

double bytes_per_chunk(const Chunking& chunking, size_t stage) {
  const uint64_t chunks = chunking.chunks[stage];
  return chunks == 0 ? 0 : static_cast<double>(chunking.text.size()) / static_cast<double>(chunks);
}

/// One bar where a chunk of stage 0 begins, one more for each further stage; a chunk that begins inside a character is
/// marked in front of it, so that UTF-8 stays readable.
void print_chunks(Output& out, const Chunking& chunking) {
  const std::vector<uint8_t>& text = chunking.text;
  std::string marked;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;  // the bytes that continue a character
    unsigned mask = 0;
    for (size_t byte = at; byte < end; ++byte) mask |= chunking.boundaries[byte];
    for (; mask != 0; mask >>= 1) marked += '|';
    for (; at < end; ++at) {
      if (text[at] == kBytes.eos) {
        marked += "<|endoftext|>\n";
      } else {
        marked += static_cast<char>(text[at]);
      }
    }
  }
  out.write_text(marked);
  out.print("\n\n%llu bytes\n", static_cast<unsigned long long>(chunking.text.size()));
  for (size_t s = 0; s < chunking.chunks.size(); ++s) {
    out.print("stage %zu: %llu chunks, %.2f bytes per chunk (marked by %s)\n", s,
              static_cast<unsigned long long>(chunking.chunks[s]), bytes_per_chunk(chunking, s),
              std::string(s + 1, '|').c_str());
  }
}

void print_chunks_json(Output& out, const Chunking& chunking) {
  JsonWriter json;
  json.open('{')
      .key("bytes")
      .unsigned_integer(chunking.text.size())
      .key("boundaries")
      .text(to_hex(chunking.boundaries));
  json.key("stages").open('[');
  for (size_t s = 0; s < chunking.chunks.size(); ++s) {
    json.open('{').key("chunks").unsigned_integer(chunking.chunks[s]);
    json.key("bytes_per_chunk").real(bytes_per_chunk(chunking, s)).close('}');
  }
  json.close(']').close('}');
  out.print("%s\n", json.result().c_str());
}

Result<void> inspect_text(const Arguments& arguments, const std::shared_ptr<const Model>& model, Output& out) {
  if (model->info().stages == 0) {
    return error_f(
        ErrorCode::kBadOption,
        "--text: the model has no chunk boundaries, its architecture %s is flat; expected a hierarchical one "
        "(hnetbit)",
        model->info().architecture.c_str());
  }
  Result<std::vector<uint8_t>> text = read_text_file(arguments.text("--text"));
  if (!text.ok()) return text.error();
  const Result<Chunking> chunking = chunking_of(model, std::move(text).value());
  if (!chunking.ok()) return chunking.error();
  (arguments.has("--json") ? print_chunks_json : print_chunks)(out, chunking.value());
  return {};
}

Result<void> run_inspect(const Arguments& arguments, Output& out) {
  const Result<std::string> path = arguments.required("--model");
  if (!path.ok()) return path.error();
  const Result<std::shared_ptr<const Model>> model = load_model(path.value());
  if (!model.ok()) return model.error();
  if (arguments.has("--text")) return inspect_text(arguments, model.value(), out);
  if (arguments.has("--json")) {
    print_json(out, model.value()->info());
  } else {
    print_text(out, model.value()->info());
  }
  return {};
}

}  // namespace

const Command kInspectCommand{"inspect", "tern inspect --model FILE [--text FILE] [--json]", kOptions, &run_inspect};

}  // namespace tern
