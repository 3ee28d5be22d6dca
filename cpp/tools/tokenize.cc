// tokenize.cc: tern tokenize: the tokens of a text, a number on each line; and back.
#include <string>

#include "tools/commands.h"
#include "tools/files.h"
#include "tools/tokenizer_file.h"

namespace tern {
namespace {

constexpr Option kOptions[] = {
    {"--model", "FILE", "model file with a tokenizer"},
    {"--text", "FILE", "text to read; what is not UTF-8 in it counts as U+FFFD"},
    {"--prompt", "TEXT", "text to read, instead of --text"},
    {"--control", nullptr, "names of control tokens in the text are those tokens, not text"},
    {"--decode", nullptr, "the other way: numbers of tokens in, their bytes out"},
};

Result<void> decode(const Tokenizer& tokenizer, std::span<const uint8_t> text, Output& to) {
  std::string out;
  bool first = tokenizer.begins_with_space();
  std::string number;
  for (size_t at = 0; at <= text.size(); ++at) {
    const char c = at < text.size() ? static_cast<char>(text[at]) : '\n';
    if (c != ' ' && c != '\n' && c != '\r' && c != ',') {
      number.push_back(c);
      continue;
    }
    if (number.empty()) continue;
    const Result<uint64_t> token = parse_integer("a token", number, 0, tokenizer.size() - 1);
    if (!token.ok()) return token.error();
    std::string_view bytes = tokenizer.bytes(static_cast<uint32_t>(token.value()));
    if (first && !bytes.empty()) {
      if (bytes[0] == ' ') bytes.remove_prefix(1);
      first = false;
    }
    out += bytes;
    number.clear();
  }
  to.write_text(out);
  return {};
}

Result<void> run_tokenize(const Arguments& arguments, Output& out) {
  const Result<std::string> path = arguments.required("--model");
  if (!path.ok()) return path.error();
  if (arguments.has("--text") == arguments.has("--prompt")) {
    return error_f(ErrorCode::kBadOption, "expected one of --text and --prompt");
  }
  const Result<Tokenizer> tokenizer = load_tokenizer(path.value());
  if (!tokenizer.ok()) return tokenizer.error();
  std::vector<uint8_t> text;
  if (arguments.has("--prompt")) {
    const std::string prompt = arguments.text("--prompt");
    text.assign(prompt.begin(), prompt.end());
  } else {
    Result<std::vector<uint8_t>> file = read_file(arguments.text("--text"));
    if (!file.ok()) return file.error();
    text = std::move(file.value());
  }
  if (arguments.has("--decode")) return decode(tokenizer.value(), text, out);
  const auto control = arguments.has("--control") ? Tokenizer::Control::kToken : Tokenizer::Control::kText;
  const Result<std::vector<uint32_t>> tokens = tokenizer.value().encode(text, control);
  if (!tokens.ok()) return tokens.error();
  for (const uint32_t token : tokens.value()) out.print("%u\n", token);
  return {};
}

}  // namespace

const Command kTokenizeCommand = {"tokenize",
                                  "tern tokenize --model FILE (--text FILE | --prompt TEXT) [--control] [--decode]",
                                  kOptions, &run_tokenize};

}  // namespace tern
