// tokenizer_test.cc: small vocabularies whose tokens one can count by hand, and tokenizers that do not fit together.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "format/gguf.h"
#include "gguf_writer.h"

namespace tern {
namespace {

using test::GgufWriter;

std::string byte_character(uint32_t byte) {
  const bool shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  static const std::vector<uint32_t> hidden = [] {
    std::vector<uint32_t> all;
    for (uint32_t b = 0; b < 256; ++b) {
      if (!((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)) all.push_back(b);
    }
    return all;
  }();
  uint32_t c = byte;
  if (!shown) c = 256 + static_cast<uint32_t>(std::ranges::find(hidden, byte) - hidden.begin());
  if (c < 128) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
}

/// Bytes at their numbers, then "ab", "abc", " a" and the control token "<end>".
TokenizerSettings small_gpt2() {
  TokenizerSettings s;
  s.model = "gpt2";
  for (uint32_t byte = 0; byte < 256; ++byte) s.tokens.push_back(byte_character(byte));
  for (const char* piece : {"ab", "abc",
                            "\xC4\xA0"
                            "a",
                            "<end>"}) {
    s.tokens.emplace_back(piece);
  }
  s.types.assign(259, PieceType::kText);
  s.types.push_back(PieceType::kControl);
  s.merges = {"a b", "ab c", "\xC4\xA0 a"};
  s.split = {R"( ?\p{L}+|\s+)"};
  return s;
}

/// "<0x00>" to "<0xFF>" at their numbers, then the space, "a", "▁a" and the added token "[x]".
TokenizerSettings small_llama() {
  TokenizerSettings s;
  s.model = "llama";
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", static_cast<unsigned>(byte));
    s.tokens.emplace_back(name);
  }
  s.types.assign(256, PieceType::kByte);
  const std::string space = "\xE2\x96\x81";
  for (const std::string& piece : {space, std::string("a"), space + "a"}) {
    s.tokens.push_back(piece);
    s.types.push_back(PieceType::kText);
  }
  s.tokens.emplace_back("[x]");
  s.types.push_back(PieceType::kAdded);
  s.merges = {space + " a"};
  s.add_space_prefix = true;
  return s;
}

using Tokens = std::vector<uint32_t>;

Tokens encode(const TokenizerSettings& settings, std::string_view text,
              Tokenizer::Control control = Tokenizer::Control::kText) {
  const Result<Tokenizer> tokenizer = Tokenizer::create(settings, settings.tokens.size());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  const auto tokens = tokenizer.value().encode({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, control);
  EXPECT_TRUE(tokens.ok());
  return tokens.value();
}

TEST(Tokenizer, MergesInTheOrderOfTheListAndNeverAcrossABorder) {
  EXPECT_EQ(encode(small_gpt2(), "abcab"), (Tokens{257, 256}));
  EXPECT_EQ(encode(small_gpt2(), "aabb"), (Tokens{'a', 256, 'b'}));
  EXPECT_EQ(encode(small_gpt2(), "b abc"), (Tokens{'b', ' ', 257})) << "a b comes before the space and a";
  EXPECT_EQ(encode(small_gpt2(), "  a"), (Tokens{' ', ' ', 'a'})) << "\\s+ takes both spaces";
  EXPECT_EQ(encode(small_gpt2(), " a"), (Tokens{258}));
  EXPECT_EQ(encode(small_gpt2(), ""), Tokens{});
  EXPECT_EQ(encode(small_gpt2(), std::string_view("\0\xFF", 2)), (Tokens{0, 0xEF, 0xBF, 0xBD}));
}

TEST(Tokenizer, AWordThatIsAPieceIsTakenWholeWhenMergesAreIgnored) {
  TokenizerSettings s = small_gpt2();
  s.tokens.push_back("cc");
  s.types.push_back(PieceType::kText);
  EXPECT_EQ(encode(s, "cc"), (Tokens{'c', 'c'}));
  s.ignore_merges = true;
  EXPECT_EQ(encode(s, "cc"), (Tokens{260}));
}

TEST(Tokenizer, AByteThatHasNoPieceIsLeftOut) {
  TokenizerSettings s = small_gpt2();
  s.split = {};
  s.tokens['-'] = "other";
  EXPECT_EQ(encode(s, "a-b"), (Tokens{256})) << "and what is around it is merged";
}

TEST(Tokenizer, TheNameOfAControlTokenIsTextUnlessItIsAskedFor) {
  EXPECT_EQ(encode(small_gpt2(), "ab<end>"), (Tokens{256, '<', 'e', 'n', 'd', '>'}));
  EXPECT_EQ(encode(small_gpt2(), "ab<end>ab", Tokenizer::Control::kToken), (Tokens{256, 259, 256}));
}

TEST(Tokenizer, CharactersThatAreNoPieceBecomeTheirBytes) {
  EXPECT_EQ(encode(small_llama(), "a a"), (Tokens{258, 258}));
  EXPECT_EQ(encode(small_llama(), "\xC3\xA9"), (Tokens{256, 0xC3, 0xA9}));
  EXPECT_EQ(encode(small_llama(), "a[x]a"), (Tokens{258, 259, 258})) << "every part begins with a space";
  EXPECT_EQ(encode(small_llama(), ""), Tokens{});
  TokenizerSettings s = small_llama();
  s.add_space_prefix = false;
  EXPECT_EQ(encode(s, "a a"), (Tokens{257, 258}));
}

TEST(Tokenizer, TokensStandForTheirBytesAndControlTokensForNone) {
  const Result<Tokenizer> gpt2 = Tokenizer::create(small_gpt2(), 260);
  ASSERT_TRUE(gpt2.ok());
  EXPECT_EQ(gpt2.value().bytes(258), " a");
  EXPECT_EQ(gpt2.value().bytes(0xC3), "\xC3");
  EXPECT_EQ(gpt2.value().bytes(259), "");
  const Result<Tokenizer> llama = Tokenizer::create(small_llama(), 260);
  ASSERT_TRUE(llama.ok());
  EXPECT_EQ(llama.value().bytes(0xC3), "\xC3");
  EXPECT_EQ(llama.value().bytes(258), " a");
  EXPECT_EQ(llama.value().bytes(259), "[x]");
  EXPECT_TRUE(llama.value().begins_with_space());
}

TEST(Tokenizer, ALongTextWithoutBordersIsMergedInReasonableSteps) {
  std::string text(1 << 20, 'a');
  EXPECT_EQ(encode(small_llama(), text).size(), text.size());
}

struct Broken {
  const char* expected;
  void (*change)(TokenizerSettings&);
};

TEST(Tokenizer, OneThatDoesNotFitTogetherIsAnErrorThatSaysWhat) {
  const Broken kBroken[] = {
      {"expected gpt2 or llama, found \"unigram\"", [](TokenizerSettings& s) { s.model = "unigram"; }},
      {"expected a piece for each of the 260 tokens, found 259", [](TokenizerSettings& s) { s.tokens.pop_back(); }},
      {"expected a type for each of 260 pieces, found 1", [](TokenizerSettings& s) { s.types.resize(1); }},
      {"expected the merges of the tokenizer, found none", [](TokenizerSettings& s) { s.merges.clear(); }},
      {"found \"a zz\" (merge 3)", [](TokenizerSettings& s) { s.merges.push_back("a zz"); }},
      {"found \"ab\" (merge 3)", [](TokenizerSettings& s) { s.merges.push_back("ab"); }},
      {"each once; piece 258 is not", [](TokenizerSettings& s) { s.tokens[258] = "ab"; }},
      {"each once; piece 258 is not", [](TokenizerSettings& s) { s.tokens[258] = "\xFF"; }},
      {"each once; piece 258 is not", [](TokenizerSettings& s) { s.tokens[258] = ""; }},
      {"a piece for every byte, found none for 65",
       [](TokenizerSettings& s) {
         s = small_llama();
         s.tokens['A'] = "other";
       }},
      {"expected types 1 to 6, found 9", [](TokenizerSettings& s) { s.types[2] = static_cast<PieceType>(9); }},
      {"expected a regular expression, found \"(\"", [](TokenizerSettings& s) { s.split = {"("}; }},
  };
  for (const Broken& broken : kBroken) {
    TokenizerSettings settings = small_gpt2();
    broken.change(settings);
    const Result<Tokenizer> tokenizer = Tokenizer::create(settings, 260);
    ASSERT_FALSE(tokenizer.ok()) << broken.expected;
    EXPECT_NE(tokenizer.error().message.find(broken.expected), std::string::npos) << tokenizer.error().message;
  }
}

TEST(Tokenizer, AnExpressionThatWouldTakeForEverIsAnError) {
  TokenizerSettings s = small_gpt2();
  s.split = {"(a+)+$"};
  const Result<Tokenizer> tokenizer = Tokenizer::create(s, 260);
  ASSERT_TRUE(tokenizer.ok());
  const std::string text = std::string(40, 'a') + "b";
  const auto tokens = tokenizer.value().encode({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  ASSERT_FALSE(tokens.ok());
  EXPECT_NE(tokens.error().message.find("matching stopped with PCRE2's error"), std::string::npos);
}

// ---- what the reader keeps for it ----

class KeepingSink final : public GgufSink {
 public:
  explicit KeepingSink(bool keep) : keep_(keep) {}
  bool keeps(std::string_view key) const override { return keep_ && key == "kept"; }
  Result<void> on_header(const GgufHeader& found) override {
    header = found;
    return {};
  }
  Result<void> on_row(size_t, uint64_t, std::span<const uint8_t>) override { return {}; }

  GgufHeader header;

 private:
  bool keep_;
};

std::vector<uint8_t> texts(const std::vector<std::string>& values) {
  std::vector<uint8_t> bytes;
  for (const std::string& value : values) {
    for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<uint8_t>(uint64_t{value.size()} >> shift));
    bytes.insert(bytes.end(), value.begin(), value.end());
  }
  return bytes;
}

TEST(GgufReader, KeepsTheWholeOfWhatItsSinkAsksForInPiecesOfAnySize) {
  const std::vector<std::string> words = {"", "a", std::string(70000, 'x'), "b"};
  std::vector<uint32_t> numbers(1000);
  for (uint32_t n = 0; n < 1000; ++n) numbers[n] = n * 7;
  const std::string text(9000, 'y');
  for (int kind = 0; kind < 3; ++kind) {
    GgufWriter writer;
    if (kind == 0) writer.array("kept", GgufType::kString, words.size(), texts(words));
    if (kind == 1) writer.u32s("kept", numbers);
    if (kind == 2) writer.text("kept", text);
    writer.array("other", GgufType::kString, words.size(), texts(words));
    writer.text("long", text);
    writer.u32("last", 5);
    writer.tensor("t", GgmlType::kF32, {1}, {0, 0, 0, 0});
    const std::vector<uint8_t> file = writer.build();
    for (const size_t piece : {size_t{1}, size_t{13}, size_t{4096}, file.size()}) {
      for (const bool keep : {false, true}) {
        KeepingSink sink(keep);
        GgufReader reader(sink);
        for (size_t at = 0; at < file.size(); at += piece) {
          ASSERT_TRUE(reader.push(std::span(file).subspan(at, std::min(piece, file.size() - at))).ok());
        }
        ASSERT_TRUE(reader.finish().ok());
        const GgufValue* kept = sink.header.find("kept");
        ASSERT_NE(kept, nullptr);
        EXPECT_EQ(kept->texts, kind == 0 && keep ? words : std::vector<std::string>{});
        EXPECT_EQ(kept->items.size(), kind == 1 && keep ? numbers.size() : 0);
        if (!kept->items.empty()) {
          EXPECT_EQ(kept->items.back(), 999u * 7);
        }
        const uint64_t length = keep ? text.size() : GgufLimits::kKeptStringBytes;
        EXPECT_EQ(kept->text.size(), kind == 2 ? length : 0);
        EXPECT_TRUE(sink.header.find("other")->texts.empty());
        EXPECT_EQ(sink.header.find("long")->text.size(), GgufLimits::kKeptStringBytes);
        EXPECT_EQ(sink.header.find("last")->bits, 5u);
      }
    }
  }
}

}  // namespace
}  // namespace tern
