// tokenizer_file.cc: from the keys of FORMAT.md to a Tokenizer.
#include "tools/tokenizer_file.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "format/gguf.h"
#include "model/model.h"

namespace tern {
namespace {

/// Keeps the header, with all of the tokenizer's texts but the one that only the package reads.
class HeaderSink final : public GgufSink {
 public:
  bool keeps(std::string_view key) const override { return key.starts_with("tokenizer.") && key != kTokenizerKey; }
  Result<void> on_header(const GgufHeader& found) override {
    header = found;
    return {};
  }
  Result<void> on_row(size_t /*tensor*/, uint64_t /*row*/, std::span<const uint8_t> /*bytes*/) override { return {}; }

  GgufHeader header;
};

Result<GgufHeader> read_header(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (file == nullptr) return error_f(ErrorCode::kBadFile, "%s", std::strerror(errno));
  HeaderSink sink;
  GgufReader reader(sink);
  std::vector<uint8_t> piece(size_t{1} << 16);
  while (reader.bytes_expected() == 0) {
    const size_t size = std::fread(piece.data(), 1, piece.size(), file.get());
    if (std::ferror(file.get()) != 0) return error_f(ErrorCode::kBadFile, "%s", std::strerror(errno));
    const Result<void> read = size == 0 ? reader.finish() : reader.push(std::span(piece).first(size));
    if (!read.ok()) return read.error();
  }
  return std::move(sink.header);
}

Result<Tokenizer> from_header(const GgufHeader& header) {
  const auto text = [&](std::string_view key) -> std::string {
    const GgufValue* value = header.find(key);
    return value != nullptr && value->type == GgufType::kString ? value->text : "";
  };
  const auto flag = [&](std::string_view key) {
    const GgufValue* value = header.find(key);
    return value != nullptr && value->type == GgufType::kBool && value->bits == 1;
  };
  const auto texts = [&](std::string_view key) -> std::vector<std::string> {
    const GgufValue* value = header.find(key);
    return value != nullptr ? value->texts : std::vector<std::string>{};
  };
  TokenizerSettings settings;
  settings.model = text("tokenizer.ggml.model");
  if (settings.model == "byte") {
    return error_f(ErrorCode::kUnsupported, "the model reads bytes: it has no tokenizer");
  }
  settings.tokens = texts("tokenizer.ggml.tokens");
  settings.merges = texts("tokenizer.ggml.merges");
  settings.split = texts("tokenizer.ternlm.split");
  settings.add_space_prefix = flag("tokenizer.ggml.add_space_prefix");
  settings.ignore_merges = flag("tokenizer.ternlm.ignore_merges");
  if (const GgufValue* types = header.find("tokenizer.ggml.token_type"); types != nullptr) {
    for (const uint64_t type : types->items) settings.types.push_back(static_cast<PieceType>(type));
  }
  const GgufValue* vocabulary = header.find(text("general.architecture") + ".vocab_size");
  if (vocabulary == nullptr || vocabulary->type != GgufType::kU32) {
    return error_f(ErrorCode::kBadFile, "expected the key vocab_size of the architecture, found none");
  }
  return Tokenizer::create(settings, vocabulary->bits);
}

}  // namespace

Result<Tokenizer> load_tokenizer(const std::string& path) {
  const Result<GgufHeader> header = read_header(path);
  if (!header.ok()) return Error{header.error().code, path + ": " + header.error().message};
  Result<Tokenizer> tokenizer = from_header(header.value());
  if (!tokenizer.ok()) return Error{tokenizer.error().code, path + ": " + tokenizer.error().message};
  return tokenizer;
}

}  // namespace tern
