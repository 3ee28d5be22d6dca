// tokenizer.h: text to tokens and back by byte-pair merging, as the tokenizer of a model file says (models/FORMAT.md).
// SPDX-License-Identifier: MIT
//
// Same tokens as the Hugging Face library `tokenizers` for the two pipelines of FORMAT.md; a test holds them equal.
// Only in native programs: the package has a library for it.  Regular expressions are PCRE2's. Merging: Sennrich et al.
// 2016 (arXiv 1508.07909), always the first merge of the list, leftmost first.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace tern {

enum class PieceType : int32_t { kText = 1, kUnknown = 2, kControl = 3, kAdded = 4, kUnused = 5, kByte = 6 };

/// The keys of a file's tokenizer, by the names of FORMAT.md.
struct TokenizerSettings {
  std::string model;  // "gpt2" or "llama"
  std::vector<std::string> tokens;
  std::vector<PieceType> types;
  std::vector<std::string> merges;
  std::vector<std::string> split;
  bool add_space_prefix = false;
  bool ignore_merges = false;
};

class Tokenizer {
 public:
  /// Whether the text of a control token in a prompt is that token or text like any other.
  enum class Control { kText, kToken };

  /// Error: pieces, types, merges or expressions that do not fit together, or not `vocabulary` pieces.
  static Result<Tokenizer> create(const TokenizerSettings& settings, uint64_t vocabulary);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Each maximal ill-formed part of the bytes counts as one U+FFFD; a byte that has no piece is left out.  No token is
  /// put before or after the text. Error: a regular expression that takes more steps than PCRE2 allows.
  ///   plain_from, plain_to  bytes of a well-formed text in which control tokens are text in any case
  Result<std::vector<uint32_t>> encode(std::span<const uint8_t> text, Control control = Control::kText,
                                       size_t plain_from = 0, size_t plain_to = 0) const;

  size_t size() const { return bytes_.size(); }

  /// The bytes that a token stands for; none for a control token.  They may be a part of a character.
  const std::string& bytes(uint32_t token) const { return bytes_[token]; }

  /// Whether the first byte of a decoded text is a space that encode() put there.
  bool begins_with_space() const { return add_space_prefix_; }

 private:
  struct Expression;  // a compiled regular expression
  struct Merge {
    uint32_t rank;
    uint32_t token;
  };

  Tokenizer();
  Result<void> read_pieces(const TokenizerSettings& settings);
  Result<void> read_merges(const TokenizerSettings& settings);
  Result<void> read_expressions(const TokenizerSettings& settings);
  Result<void> encode_part(std::string_view text, std::vector<uint32_t>& out) const;
  void encode_bytes(std::string_view word, std::vector<uint32_t>& out) const;
  void encode_characters(std::string_view text, std::vector<uint32_t>& out) const;
  void merge(std::vector<uint32_t>& symbols) const;
  size_t whole_piece_at(std::string_view text, Control control, uint32_t& token) const;

  bool pieces_of_bytes_ = false;
  bool add_space_prefix_ = false;
  bool ignore_merges_ = false;
  std::vector<std::string> bytes_;  // of each token
  std::unordered_map<std::string, uint32_t> ids_;
  std::unordered_map<uint64_t, Merge> merges_;                          // by left << 32 | right
  uint32_t byte_ids_[256] = {};                                         // all ones: no piece
  std::vector<std::vector<std::pair<std::string, uint32_t>>> added_;    // by first byte, longest first
  std::vector<std::vector<std::pair<std::string, uint32_t>>> control_;  // the same
  std::vector<std::unique_ptr<Expression>> expressions_;
};

}  // namespace tern
