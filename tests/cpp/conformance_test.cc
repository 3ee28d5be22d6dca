// conformance_test.cc: the engine answers the vectors of tests/conformance as they say, call for call and byte for
// byte. SPDX-License-Identifier: MIT
#include "tools/conformance.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "session/session.h"
#include "text/sampler.h"
#include "tools/files.h"
#include "tools/json.h"

namespace tern {
namespace {

using Json = nlohmann::json;
using Numbers = std::vector<int64_t>;

std::string path_of(const std::string& file) { return std::string(TERN_SOURCE_DIR) + "/tests/conformance/" + file; }

Json read_vectors(const std::string& tier) {
  std::ifstream file(path_of(tier + ".json"));
  Json content = Json::parse(file, nullptr, false);
  EXPECT_TRUE(content.is_object()) << tier;
  EXPECT_EQ(content["spec"], "1.0");
  return content["vectors"];
}

/// Numbers beyond 2^53 are texts; those of 64 unsigned bits become the signed ones of the same bits.
int64_t number_of(const Json& json) {
  if (!json.is_string()) return json.get<int64_t>();
  const auto text = json.get<std::string>();
  return text[0] == '-' ? std::stoll(text) : static_cast<int64_t>(std::stoull(text));
}

Numbers numbers_of(const Json& list) {
  Numbers numbers;
  for (const Json& item : list) numbers.push_back(number_of(item));
  return numbers;
}

/// A number of the top `bits` bits of one word, or of two for more than 32.
int64_t draw_number(Pcg32& random, int bits, bool is_unsigned) {
  uint64_t word = uint64_t{random.next()} << 32;
  if (bits > 32) word |= random.next();
  return is_unsigned ? static_cast<int64_t>(word >> (64 - bits)) : static_cast<int64_t>(word) >> (64 - bits);
}

void append_item(const Json& item, int64_t call, Pcg32& random, Numbers& inputs) {
  if (!item.is_object()) {
    inputs.push_back(number_of(item));
  } else if (item.contains("from")) {
    inputs.push_back(number_of(item["from"]) + call * number_of(item["by"]));
  } else if (item.contains("low")) {
    const int64_t low = item["low"], high = item["high"];
    for (int64_t n = item["count"]; n > 0; --n) inputs.push_back(low + random.next() % (high - low + 1));
  } else {
    const int bits = item["bits"];
    const bool is_unsigned = item.value("unsigned", false), is_varied = item.value("varied", false);
    for (int64_t n = item["count"]; n > 0; --n) {
      const int64_t number = draw_number(random, bits, is_unsigned);
      const uint32_t shift = is_varied ? random.next() % static_cast<uint32_t>(bits) : 0;
      inputs.push_back(is_unsigned ? static_cast<int64_t>(static_cast<uint64_t>(number) >> shift) : number >> shift);
    }
  }
}

class Sha256 {
 public:
  Sha256() { EVP_DigestInit_ex(context_, EVP_sha256(), nullptr); }
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256() { EVP_MD_CTX_free(context_); }

  template <class Number>
  void add(std::span<const Number> numbers) {  // little endian, as all machines of the native tests are
    EVP_DigestUpdate(context_, numbers.data(), numbers.size_bytes());
  }
  std::string hex() {
    std::vector<uint8_t> digest(32);
    EVP_DigestFinal_ex(context_, digest.data(), nullptr);
    return to_hex(digest);
  }

 private:
  EVP_MD_CTX* context_ = EVP_MD_CTX_new();
};

Numbers evaluate(const std::string& name, const Numbers& inputs) {
  const auto outputs = evaluate_operation(name, inputs);
  EXPECT_TRUE(outputs.has_value()) << name;
  return outputs.value_or(Numbers{});
}

void check_vector(const Json& vector) {
  const std::string name = vector["name"];
  if (vector.contains("cases")) {
    for (const Json& each : vector["cases"]) {
      EXPECT_EQ(evaluate(name, numbers_of(each[0])), numbers_of(each[1])) << name << ' ' << each[0].dump();
    }
    return;
  }
  Pcg32 random(vector["seed"].get<uint64_t>());
  Sha256 digest;
  for (int64_t call = 0; call < vector["calls"].get<int64_t>(); ++call) {
    Numbers inputs;
    for (const Json& item : vector["inputs"]) append_item(item, call, random, inputs);
    const Numbers outputs = evaluate(name, inputs);
    digest.add(std::span<const int64_t>(outputs));
    if (call > 0) continue;
    const Numbers first = numbers_of(vector["first"]);
    EXPECT_TRUE(std::equal(first.begin(), first.end(), outputs.begin())) << name << ' ' << vector["inputs"].dump();
  }
  EXPECT_EQ(digest.hex(), vector["sha256"]) << name << ' ' << vector["inputs"].dump();
}

TEST(Conformance, TheEngineAnswersTheVectorsOfFunctions) {
  const Json vectors = read_vectors("functions");
  EXPECT_GT(vectors.size(), 30u);
  for (const Json& vector : vectors) check_vector(vector);
}

TEST(Conformance, TheEngineAnswersTheVectorsOfOperations) {
  const Json vectors = read_vectors("operations");
  EXPECT_GT(vectors.size(), 100u);
  for (const Json& vector : vectors) check_vector(vector);
}

TEST(Conformance, AnUnknownOperationHasNoAnswer) { EXPECT_FALSE(evaluate_operation("softmax", {}).has_value()); }

TEST(Conformance, TheDigestIsSha256) {
  Sha256 digest;
  digest.add(std::span<const char>("abc", 3));
  EXPECT_EQ(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t at = 0; at < hex.size(); at += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(at, 2), nullptr, 16)));
  }
  return bytes;
}

SampleOptions options_of(const Json& json) {
  SampleOptions options;
  options.greedy = json.value("greedy", options.greedy);
  options.temperature_q16 = json.value("temperature", options.temperature_q16);
  options.top_k = json.value("top_k", options.top_k);
  options.top_p_q16 = json.value("top_p", options.top_p_q16);
  options.min_p_q16 = json.value("min_p", options.min_p_q16);
  options.repetition_penalty_q16 = json.value("penalty", options.repetition_penalty_q16);
  options.seed = json.value("seed", options.seed);
  options.raw = json.value("raw", options.raw);
  return options;
}

void check_stream(const Json& vector) {
  SCOPED_TRACE(vector["model"].get<std::string>());
  const Result<std::vector<uint8_t>> file = read_file(path_of(vector["model"]));
  ASSERT_TRUE(file.ok());
  Sha256 file_digest;
  file_digest.add(std::span<const uint8_t>(file.value()));
  EXPECT_EQ(file_digest.hex(), vector["sha256"]);
  ModelLoader loader;
  ASSERT_TRUE(loader.push(file.value()).ok());
  const auto model = loader.finish();
  ASSERT_TRUE(model.ok());

  const std::vector<uint8_t> prompt = from_hex(vector["prompt"]);
  const std::vector<uint8_t> expected = from_hex(vector["boundaries"]);
  Session session(model.value());
  std::vector<uint8_t> masks(prompt.size());
  Sha256 logits;
  logits.add(session.logits());
  for (size_t t = 0; t < prompt.size(); ++t) {
    ChunkMasks observer(masks, 1);
    session.feed(std::span(prompt).subspan(t, 1), {.observer = &observer});
    logits.add(session.logits());
  }
  EXPECT_EQ(logits.hex(), vector["logits_sha256"]);
  EXPECT_TRUE(std::equal(masks.begin(), masks.end(), expected.begin() + 1, expected.end()));

  session.reset();
  const Result<Score> score = session.score(prompt);
  ASSERT_TRUE(score.ok());
  EXPECT_EQ(std::to_string(score.value().bits_q32), vector["bits_q32"]);

  for (const Json& made : vector["generations"]) {
    session.reset();
    session.feed(prompt);
    const uint64_t most = made["options"]["max_bytes"];
    ASSERT_TRUE(session.start(options_of(made["options"]), most).ok());
    std::vector<uint8_t> bytes(most), boundaries(most);
    ChunkMasks observer(boundaries, 1 + prompt.size());
    const size_t size = session.generate(bytes, {.observer = &observer});
    bytes.resize(size);
    boundaries.resize(size);
    EXPECT_EQ(to_hex(bytes), made["bytes"]) << made["options"].dump();
    EXPECT_EQ(to_hex(boundaries), made["boundaries"]) << made["options"].dump();
    const Finish finish = session.finish_state();
    EXPECT_EQ(finish == Finish::kEndOfText     ? "end_of_text"
              : finish == Finish::kContextFull ? "context_full"
                                               : "max_bytes",
              made["finish"]);
  }
}

TEST(Conformance, TheEngineWritesTheStreams) {
  const Json vectors = read_vectors("streams");
  EXPECT_EQ(vectors.size(), 8u);
  for (const Json& vector : vectors) check_stream(vector);
}

}  // namespace
}  // namespace tern
