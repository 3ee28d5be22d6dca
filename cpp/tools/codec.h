// codec.h: the tokens of a model's texts, for the command line programs: bytes, or the pieces of its tokenizer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/vocabulary.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace tern {

class Codec {
 public:
  /// Of a model and the file that it was loaded from.
  static Result<Codec> of(const Model& model, const std::string& path);

  bool reads_bytes() const { return !tokenizer_; }

  /// text  bytes, 255 after each document (text/documents.h).  Names of control tokens in it are text.
  Result<std::vector<Token>> encode(std::span<const uint8_t> text) const;

  /// The bytes that a token stands for, which may be a part of a character; none for a control token.
  std::string_view bytes(Token token) const;

  /// Whether the first byte of a decoded text is a space that encode() put there.
  bool begins_with_space() const { return tokenizer_ && tokenizer_->begins_with_space(); }

 private:
  Codec(std::optional<Tokenizer> tokenizer, Token end);

  std::optional<Tokenizer> tokenizer_;
  Token end_;
  char bytes_[256];
};

/// What a generation writes, token by token.
class Continuation {
 public:
  /// most   bytes; a piece that would go beyond is not written
  /// first  nothing was before it
  /// raw    pieces as they are, also parts of characters
  Continuation(const Codec& codec, uint64_t most, bool first, bool raw);

  /// The text that is complete after this token.
  std::string push(Token token);
  /// What an unfinished character at the end becomes: U+FFFD, or nothing.
  std::string finish() { return characters_.finish(); }
  /// Nothing more will be written.
  bool is_full() const { return is_full_; }
  uint64_t written() const { return written_; }

 private:
  const Codec* codec_;
  uint64_t most_;
  bool drops_space_;
  bool whole_characters_;  // of bytes the sampler already makes characters
  uint64_t written_ = 0;
  bool is_full_ = false;
  Utf8Splitter characters_;
};

}  // namespace tern
