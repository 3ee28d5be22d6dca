// codec.cc: texts to tokens and back.
#include "tools/codec.h"

#include <algorithm>
#include <utility>

#include "tools/tokenizer_file.h"

namespace tern {

Codec::Codec(std::optional<Tokenizer> tokenizer, Token end) : tokenizer_(std::move(tokenizer)), end_(end) {
  for (size_t n = 0; n < std::size(bytes_); ++n) bytes_[n] = static_cast<char>(n);
}

Result<Codec> Codec::of(const Model& model, const std::string& path) {
  const Vocabulary& vocabulary = model.info().vocabulary;
  if (vocabulary == kBytes) return Codec(std::nullopt, vocabulary.eos);
  Result<Tokenizer> tokenizer = load_tokenizer(path);
  if (!tokenizer.ok()) return tokenizer.error();
  return Codec(std::move(tokenizer).value(), vocabulary.eos);
}

Result<std::vector<Token>> Codec::encode(std::span<const uint8_t> text) const {
  if (!tokenizer_) return std::vector<Token>(text.begin(), text.end());
  std::vector<Token> tokens;
  while (!text.empty()) {
    const auto end = static_cast<size_t>(std::ranges::find(text, kBytes.eos) - text.begin());
    const Result<std::vector<uint32_t>> document = tokenizer_->encode(text.first(end));
    if (!document.ok()) return document;
    tokens.insert(tokens.end(), document.value().begin(), document.value().end());
    if (end < text.size()) tokens.push_back(end_);
    text = text.subspan(std::min(end + 1, text.size()));
  }
  return tokens;
}

std::string_view Codec::bytes(Token token) const {
  return tokenizer_ ? std::string_view(tokenizer_->bytes(token)) : std::string_view(bytes_ + token, 1);
}

Continuation::Continuation(const Codec& codec, uint64_t most, bool first, bool raw)
    : codec_(&codec),
      most_(most),
      drops_space_(first && codec.begins_with_space()),
      whole_characters_(!raw && !codec.reads_bytes()) {}

std::string Continuation::push(Token token) {
  std::string_view bytes = codec_->bytes(token);
  if (!bytes.empty() && std::exchange(drops_space_, false) && bytes[0] == ' ') bytes.remove_prefix(1);
  is_full_ = is_full_ || bytes.size() > most_ - written_;
  if (is_full_) return {};
  written_ += bytes.size();
  is_full_ = written_ == most_;
  if (!whole_characters_) return std::string(bytes);
  return characters_.push({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
}

}  // namespace tern
