// tokenizer.cc: the pieces, the expressions, and merging with a heap, so that a text of any length takes n log n steps.
#include "text/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdio>
#include <queue>

#include "text/utf8.h"

namespace tern {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581
constexpr uint32_t kNone = 0xFFFFFFFF;
constexpr uint64_t kMostPieces = uint64_t{1} << 24;

uint64_t pair_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

size_t character_length(char lead) {
  const auto byte = static_cast<uint8_t>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// UTF-8 of a character below U+0800.
std::string short_utf8(uint32_t character) {
  if (character < 0x80) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 63))};
}

/// The character that stands for a byte in pieces of bytes: printable ones for themselves, the others from U+0100 on.
struct ByteCharacters {
  std::string of_byte[256];
  std::unordered_map<std::string, uint8_t> to_byte;

  ByteCharacters() {
    uint32_t hidden = 256;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      of_byte[byte] = short_utf8(shown ? byte : hidden++);
      to_byte[of_byte[byte]] = static_cast<uint8_t>(byte);
    }
  }
};

const ByteCharacters& byte_characters() {
  static const ByteCharacters characters;
  return characters;
}

/// The bytes that a piece of bytes stands for; a piece with another character in it stands for its own text.
std::string bytes_of_piece(const std::string& piece) {
  const auto& to_byte = byte_characters().to_byte;
  std::string out;
  for (size_t at = 0; at < piece.size();) {
    const size_t length = character_length(piece[at]);
    const auto found = to_byte.find(piece.substr(at, length));
    if (found == to_byte.end()) return piece;
    out.push_back(static_cast<char>(found->second));
    at += length;
  }
  return out;
}

std::string with_spaces(std::string_view piece) {
  std::string out;
  while (!piece.empty()) {
    const size_t plain = std::min(piece.find(kSpace), piece.size());
    out.append(piece.substr(0, plain));
    piece.remove_prefix(plain);
    if (piece.empty()) break;
    out.push_back(' ');
    piece.remove_prefix(kSpace.size());
  }
  return out;
}

std::string byte_piece(uint32_t byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", byte);
  return name;
}

/// White_Space is what \s means in Oniguruma; PCRE2's \s also has U+180E.
std::string pcre2_pattern(const std::string& pattern) {
  std::string out;
  for (size_t at = 0; at < pattern.size(); ++at) {
    if (pattern[at] != '\\' || at + 1 == pattern.size()) {
      out.push_back(pattern[at]);
      continue;
    }
    const char next = pattern[++at];
    if (next == 's') {
      out += "\\p{White_Space}";
    } else if (next == 'S') {
      out += "\\P{White_Space}";
    } else {
      out += {'\\', next};
    }
  }
  return out;
}

}  // namespace

struct Tokenizer::Expression {
  explicit Expression(pcre2_code* compiled) : code(compiled), match(pcre2_match_data_create(1, nullptr)) {}
  ~Expression() {
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  pcre2_code* code;
  pcre2_match_data* match;
};

Tokenizer::Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::create(const TokenizerSettings& settings, uint64_t vocabulary) {
  if (settings.model != "gpt2" && settings.model != "llama") {
    return error_f(ErrorCode::kUnsupported, "tokenizer.ggml.model: expected gpt2 or llama, found \"%s\"",
                   settings.model.c_str());
  }
  const auto count = [](size_t n) { return static_cast<unsigned long long>(n); };
  if (settings.tokens.size() != vocabulary || settings.tokens.size() > kMostPieces) {
    return error_f(ErrorCode::kBadFile,
                   "tokenizer.ggml.tokens: expected a piece for each of the %llu tokens, found %llu", count(vocabulary),
                   count(settings.tokens.size()));
  }
  if (settings.types.size() != settings.tokens.size()) {
    return error_f(ErrorCode::kBadFile,
                   "tokenizer.ggml.token_type: expected a type for each of %llu pieces, found %llu",
                   count(settings.tokens.size()), count(settings.types.size()));
  }
  if (settings.merges.empty()) {
    return error_f(
        ErrorCode::kBadFile,
        "tokenizer.ggml.merges: expected the merges of the tokenizer, found none; convert the checkpoint again");
  }
  Tokenizer tokenizer;
  tokenizer.pieces_of_bytes_ = settings.model == "gpt2";
  tokenizer.add_space_prefix_ = !tokenizer.pieces_of_bytes_ && settings.add_space_prefix;
  tokenizer.ignore_merges_ = settings.ignore_merges;
  for (const auto& read : {&Tokenizer::read_pieces, &Tokenizer::read_merges, &Tokenizer::read_expressions}) {
    const Result<void> done = (tokenizer.*read)(settings);
    if (!done.ok()) return done.error();
  }
  return tokenizer;
}

Result<void> Tokenizer::read_pieces(const TokenizerSettings& settings) {
  added_.resize(256);
  control_.resize(256);
  std::ranges::fill(byte_ids_, kNone);
  for (size_t n = 0; n < settings.tokens.size(); ++n) {
    const std::string& piece = settings.tokens[n];
    const auto id = static_cast<uint32_t>(n);
    const std::span<const uint8_t> raw(reinterpret_cast<const uint8_t*>(piece.data()), piece.size());
    if (piece.empty() || !is_valid_utf8(raw) || !ids_.emplace(piece, id).second) {
      return error_f(ErrorCode::kBadFile, "tokenizer.ggml.tokens: expected pieces of UTF-8, each once; piece %u is not",
                     id);
    }
    switch (settings.types[n]) {
      case PieceType::kUnknown:
      case PieceType::kControl:
        bytes_.emplace_back();
        control_[raw[0]].emplace_back(piece, id);
        break;
      case PieceType::kAdded:
        bytes_.push_back(piece);
        added_[raw[0]].emplace_back(piece, id);
        break;
      case PieceType::kText:
        bytes_.push_back(pieces_of_bytes_ ? bytes_of_piece(piece) : with_spaces(piece));
        break;
      case PieceType::kUnused:
        bytes_.emplace_back();
        break;
      case PieceType::kByte:
        bytes_.emplace_back();  // below
        break;
      default:
        return error_f(ErrorCode::kBadFile, "tokenizer.ggml.token_type: expected types 1 to 6, found %d for piece %u",
                       static_cast<int>(settings.types[n]), id);
    }
  }
  const auto longest_first = [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); };
  for (auto* table : {&added_, &control_}) {
    for (auto& pieces : *table) std::ranges::stable_sort(pieces, longest_first);
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const std::string piece = pieces_of_bytes_ ? byte_characters().of_byte[byte] : byte_piece(byte);
    const auto found = ids_.find(piece);
    if (found == ids_.end()) {
      if (pieces_of_bytes_) continue;  // real vocabularies lack bytes that their text had not
      return error_f(ErrorCode::kBadFile, "tokenizer.ggml.tokens: expected a piece for every byte, found none for %u",
                     byte);
    }
    byte_ids_[byte] = found->second;
    bytes_[found->second].assign(1, static_cast<char>(byte));
  }
  return {};
}

Result<void> Tokenizer::read_merges(const TokenizerSettings& settings) {
  for (size_t rank = 0; rank < settings.merges.size(); ++rank) {
    const std::string& line = settings.merges[rank];
    const size_t space = line.find(' ');
    const auto left = ids_.find(line.substr(0, space));
    const auto right = space == std::string::npos ? ids_.end() : ids_.find(line.substr(space + 1));
    const auto both = left == ids_.end() || right == ids_.end() ? ids_.end() : ids_.find(left->first + right->first);
    if (both == ids_.end()) {
      return error_f(ErrorCode::kBadFile,
                     "tokenizer.ggml.merges: expected two pieces that make a third, found \"%s\" (merge %llu)",
                     line.substr(0, 80).c_str(), static_cast<unsigned long long>(rank));
    }
    merges_.insert_or_assign(pair_of(left->second, right->second), Merge{static_cast<uint32_t>(rank), both->second});
  }
  return {};
}

Result<void> Tokenizer::read_expressions(const TokenizerSettings& settings) {
  if (!pieces_of_bytes_) return {};
  for (const std::string& pattern : settings.split) {
    const std::string text = pcre2_pattern(pattern);
    int fault = 0;
    PCRE2_SIZE at = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &fault, &at, nullptr);
    if (code == nullptr) {
      PCRE2_UCHAR message[128] = {};
      pcre2_get_error_message(fault, message, sizeof message);
      return error_f(ErrorCode::kBadFile, "tokenizer.ternlm.split: expected a regular expression, found \"%s\": %s",
                     pattern.substr(0, 80).c_str(), reinterpret_cast<const char*>(message));
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // only speed: without it the interpreter runs
    expressions_.push_back(std::make_unique<Expression>(code));
  }
  return {};
}

/// The longest piece that is taken whole and begins the text: its length, or 0.
size_t Tokenizer::whole_piece_at(std::string_view text, Control control, uint32_t& token) const {
  size_t length = 0;
  const auto look_in = [&](const auto& table) {
    for (const auto& [piece, id] : table[static_cast<uint8_t>(text[0])]) {
      if (piece.size() > length && text.starts_with(piece)) {
        length = piece.size();
        token = id;
      }
    }
  };
  look_in(added_);
  if (control == Control::kToken) look_in(control_);
  return length;
}

Result<std::vector<uint32_t>> Tokenizer::encode(std::span<const uint8_t> bytes, Control control, size_t plain_from,
                                                size_t plain_to) const {
  Utf8Splitter splitter;
  std::string all = splitter.push(bytes);
  all += splitter.finish();
  std::vector<uint32_t> out;
  const std::string_view text = all;
  size_t begin = 0;
  for (size_t at = 0; at <= text.size();) {
    uint32_t token = 0;
    const Control here = at >= plain_from && at < plain_to ? Control::kText : control;
    const size_t length = at < text.size() ? whole_piece_at(text.substr(at), here, token) : 0;
    if (length == 0 && at < text.size()) {
      ++at;
      continue;
    }
    if (at > begin) {
      const Result<void> done = encode_part(text.substr(begin, at - begin), out);
      if (!done.ok()) return done.error();
    }
    if (length == 0) break;
    out.push_back(token);
    begin = at += length;
  }
  return out;
}

/// Text between pieces that are taken whole.
Result<void> Tokenizer::encode_part(std::string_view text, std::vector<uint32_t>& out) const {
  if (!pieces_of_bytes_) {
    encode_characters(text, out);
    return {};
  }
  std::vector<std::string_view> words = {text};
  for (const auto& expression : expressions_) {
    std::vector<std::string_view> split;
    for (const std::string_view word : words) {
      size_t done = 0;
      for (size_t from = 0; from < word.size();) {
        const int found = pcre2_match(expression->code, reinterpret_cast<PCRE2_SPTR>(word.data()), word.size(), from,
                                      PCRE2_NO_UTF_CHECK, expression->match, nullptr);
        if (found == PCRE2_ERROR_NOMATCH) break;
        if (found < 0) {
          return error_f(ErrorCode::kUnsupported, "tokenizer.ternlm.split: matching stopped with PCRE2's error %d",
                         found);
        }
        const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(expression->match);
        if (ends[1] <= ends[0]) {  // an empty match splits nothing
          from = std::max<size_t>(ends[0], from) + character_length(word[std::min<size_t>(ends[0], word.size() - 1)]);
          continue;
        }
        if (ends[0] > done) split.push_back(word.substr(done, ends[0] - done));
        split.push_back(word.substr(ends[0], ends[1] - ends[0]));
        from = done = ends[1];
      }
      if (done < word.size()) split.push_back(word.substr(done));
    }
    words = std::move(split);
  }
  for (const std::string_view word : words) encode_bytes(word, out);
  return {};
}

void Tokenizer::encode_bytes(std::string_view word, std::vector<uint32_t>& out) const {
  if (ignore_merges_) {
    std::string piece;
    for (const char byte : word) piece += byte_characters().of_byte[static_cast<uint8_t>(byte)];
    if (const auto whole = ids_.find(piece); whole != ids_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  std::vector<uint32_t> symbols;
  symbols.reserve(word.size());
  for (const char byte : word) {
    const uint32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id != kNone) symbols.push_back(id);
  }
  merge(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void Tokenizer::encode_characters(std::string_view text, std::vector<uint32_t>& out) const {
  std::vector<uint32_t> symbols;
  symbols.reserve(text.size() + 1);
  const auto push = [&](std::string_view character) {
    if (const auto found = ids_.find(std::string(character)); found != ids_.end()) {
      symbols.push_back(found->second);
    } else {
      for (const char byte : character) symbols.push_back(byte_ids_[static_cast<uint8_t>(byte)]);
    }
  };
  if (add_space_prefix_) push(kSpace);
  for (size_t at = 0; at < text.size();) {
    const size_t length = character_length(text[at]);
    push(text[at] == ' ' ? kSpace : text.substr(at, length));
    at += length;
  }
  merge(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

/// The list is a chain: a merge takes the right symbol out, and offers the two new pairs to the heap.  Entries of the
/// heap that have become untrue are recognised when they come up.
void Tokenizer::merge(std::vector<uint32_t>& symbols) const {
  const size_t size = symbols.size();
  if (size < 2) return;
  std::vector<uint32_t> before(size);
  std::vector<uint32_t> after(size);
  for (uint32_t n = 0; n < size; ++n) {
    before[n] = n - 1;  // kNone for the first
    after[n] = n + 1 < size ? n + 1 : kNone;
  }
  struct Offer {
    uint32_t rank;
    uint32_t at;
    uint32_t token;
    bool operator>(const Offer& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  std::priority_queue<Offer, std::vector<Offer>, std::greater<>> offers;
  const auto offer = [&](uint32_t at) {
    if (at == kNone || after[at] == kNone) return;
    const auto found = merges_.find(pair_of(symbols[at], symbols[after[at]]));
    if (found != merges_.end()) offers.push({found->second.rank, at, found->second.token});
  };
  for (uint32_t n = 0; n < size; ++n) offer(n);
  while (!offers.empty()) {
    const Offer best = offers.top();
    offers.pop();
    if (symbols[best.at] == kNone || after[best.at] == kNone) continue;
    const uint32_t right = after[best.at];
    const auto found = merges_.find(pair_of(symbols[best.at], symbols[right]));
    if (found == merges_.end() || found->second.token != best.token) continue;
    symbols[best.at] = best.token;
    symbols[right] = kNone;
    after[best.at] = after[right];
    if (after[right] != kNone) before[after[right]] = best.at;
    offer(before[best.at]);
    offer(best.at);
  }
  std::erase(symbols, kNone);
}

}  // namespace tern
