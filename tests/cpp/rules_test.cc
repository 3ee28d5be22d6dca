// rules_test.cc: an output is what its constraint wants, ends at its stop, and goes on as if never interrupted.
// SPDX-License-Identifier: MIT
#include "text/rules.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "one_text.h"
#include "tiny_model.h"

namespace tern {
namespace {

/// The ways on from a state, by bytes, and whether it accepts.
struct Place {
  std::map<char, uint32_t> ways;
  bool accepts = false;
};
using Machine = std::vector<Place>;

constexpr Vocabulary kPieces{.size = 6, .bos = 0, .eos = 1};
const std::vector<std::string> kPieceTexts = {"", "", "a", "b", "ab", "bab"};

std::vector<uint32_t> distances(const Machine& machine) {
  std::vector<uint32_t> distance(machine.size(), Rules::kNone);
  for (size_t round = 0; round < machine.size(); ++round) {
    for (size_t state = 0; state < machine.size(); ++state) {
      if (machine[state].accepts) distance[state] = 0;
      for (const auto& [byte, to] : machine[state].ways) {
        if (distance[to] != Rules::kNone) distance[state] = std::min(distance[state], distance[to] + 1);
      }
    }
  }
  return distance;
}

/// A table in which each byte is a class of its own.
std::vector<uint32_t> table_of(const Machine& constraint, const Machine& stop, const std::vector<std::string>& pieces) {
  const auto first = static_cast<uint32_t>(constraint.size());
  std::vector<uint32_t> table = {first, static_cast<uint32_t>(stop.size()), 256};
  for (uint32_t byte = 0; byte < 256; ++byte) table.push_back(byte);
  for (const Machine& machine : {constraint, stop}) {
    for (const uint32_t distance : distances(machine)) table.push_back(distance);
  }
  const auto put = [&](const Machine& machine, uint32_t begin, auto otherwise) {
    for (uint32_t state = 0; state < machine.size(); ++state) {
      for (int byte = 0; byte < 256; ++byte) {
        const auto way = machine[state].ways.find(static_cast<char>(byte));
        table.push_back(way == machine[state].ways.end() ? otherwise(state) : way->second + begin);
      }
    }
  };
  put(constraint, 0, [](uint32_t) { return Rules::kNone; });
  put(stop, first, [&](uint32_t state) { return stop[state].accepts ? state + first : first; });
  std::string bytes;
  for (const std::string& piece : pieces) {
    table.push_back(static_cast<uint32_t>(bytes.size()));
    bytes += piece;
  }
  table.push_back(static_cast<uint32_t>(bytes.size()));
  bytes.resize((bytes.size() + 3) / 4 * 4);
  for (size_t at = 0; at < bytes.size(); at += 4) {
    uint32_t word = 0;
    for (size_t i = 0; i < 4; ++i) word |= uint32_t{static_cast<uint8_t>(bytes[at + i])} << (8 * i);
    table.push_back(word);
  }
  return table;
}

std::vector<std::string> all_bytes() {
  std::vector<std::string> pieces;
  for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  return pieces;
}

Rules rules_of(const Machine& constraint, const Machine& stop) {
  return Rules::read(table_of(constraint, stop, all_bytes()), kBytes).value();
}

Rules piece_rules(const Machine& constraint, const Machine& stop) {
  return Rules::read(table_of(constraint, stop, kPieceTexts), kPieces).value();
}

/// a(b|ca)*d or x
const Machine kConstraint = {{.ways = {{'a', 1}, {'x', 3}}},
                             {.ways = {{'b', 1}, {'c', 2}, {'d', 3}}},
                             {.ways = {{'a', 1}}},
                             {.ways = {}, .accepts = true}};
/// the first "ba" (a byte that is not named leads back to the first state)
const Machine kStop = {{.ways = {{'b', 1}}}, {.ways = {{'b', 1}, {'a', 2}}}, {.ways = {}, .accepts = true}};

bool is_of_constraint(const std::string& text) {
  uint32_t state = 0;
  for (const char byte : text) {
    const auto way = kConstraint[state].ways.find(byte);
    if (way == kConstraint[state].ways.end()) return false;
    state = way->second;
  }
  return kConstraint[state].accepts;
}

const std::shared_ptr<const Model>& tiny_model() {
  static const std::shared_ptr<const Model> model = test::load_or_fail(test::TinyModel(test::TinySpec{}).file);
  return model;
}

std::string rest_of(Session& session, size_t most = 1000) {
  std::vector<uint8_t> out(most);
  out.resize(session.generate(std::span(out)));
  return {out.begin(), out.end()};
}

TEST(Rules, AllowWhatCanStillBeEnded) {
  Rules rules = rules_of(kConstraint, {});
  const auto allowed = [&](uint64_t left) {
    std::string bytes;
    const std::span<const uint64_t> words = rules.allowed(left);
    for (size_t byte = 0; byte < 256 && !words.empty(); ++byte) {
      if (words[byte / 64] >> (byte % 64) & 1) bytes += byte == kBytes.eos ? '.' : static_cast<char>(byte);
    }
    return bytes;
  };
  EXPECT_EQ(rules.distance(), 1u);
  EXPECT_EQ(allowed(100), "ax");
  EXPECT_EQ(allowed(1), "x");
  rules.push('a');
  EXPECT_EQ(allowed(3), "bcd");
  EXPECT_EQ(allowed(2), "bd");
  EXPECT_EQ(allowed(1), "d");
  rules.push('d');
  EXPECT_EQ(rules.distance(), 0u);
  EXPECT_EQ(allowed(5), ".");
}

TEST(Rules, AllowPiecesThatStayInsideAndNoneThatAreEmpty) {
  Rules rules = piece_rules({{.ways = {{'a', 1}}}, {.ways = {{'b', 0}}, .accepts = true}}, {});  // a(ba)*
  EXPECT_EQ(rules.allowed(9)[0], 1u << 2 | 1u << 4);                                             // a, ab
  rules.push(2);
  EXPECT_EQ(rules.allowed(9)[0], 1u << 1 | 1u << 3 | 1u << 5);  // the end, b, bab
  EXPECT_EQ(rules.allowed(1)[0], 1u << 1);                      // b and bab would want an a
}

TEST(Rules, StopInsideAPiece) {
  Rules rules = piece_rules({}, kStop);
  EXPECT_FALSE(rules.has_constraint());
  EXPECT_FALSE(rules.push(4));
  EXPECT_TRUE(rules.push(5));  // ab, bab: the first of "ba" is in the second piece
}

TEST(Rules, ATableThatIsCutOrContradictsItselfIsRefused) {
  const std::vector<uint32_t> table = table_of(kConstraint, kStop, kPieceTexts);
  ASSERT_TRUE(Rules::read(table, kPieces).ok());
  for (size_t size = 0; size < table.size(); ++size) {
    EXPECT_FALSE(Rules::read(std::span(table).first(size), kPieces).ok()) << size;
  }
  test::Random random(5);
  size_t refused = 0;
  for (int n = 0; n < 5000; ++n) {
    std::vector<uint32_t> broken = table;
    const size_t at = random.next() % broken.size();
    broken[at] = n % 2 == 0 ? static_cast<uint32_t>(random.next()) : broken[at] + 1;
    Result<Rules> read = Rules::read(broken, kPieces);
    refused += !read.ok();
    if (!read.ok()) continue;  // what is read is walked without harm
    for (const Token token : {2u, 4u, 5u, 3u, 5u}) {
      read.value().allowed(7);
      read.value().push(token);
    }
  }
  EXPECT_GT(refused, 2000u);
}

TEST(Rules, TheOutputIsWhatTheConstraintWantsHoweverShortItMustBe) {
  std::map<std::string, int> seen;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    for (const uint64_t most : {1u, 2u, 3u, 5u, 40u}) {
      Session session(tiny_model());
      session.feed(test::bytes_of("\xF0\x9F"));  // inside a character, which a constraint does not go on with
      ASSERT_TRUE(session.start({.seed = seed}, most, rules_of(kConstraint, {})).ok());
      const std::string text = rest_of(session);
      EXPECT_TRUE(is_of_constraint(text)) << text;
      EXPECT_LE(text.size(), most);
      EXPECT_EQ(session.finish_state(), text.size() == most ? Finish::kMaxBytes : Finish::kEndOfText);
      ++seen[text];
    }
  }
  EXPECT_GT(seen.size(), 15u);
}

TEST(Rules, AConstraintThatHasNoRoomIsRefusedAndNothingChanges) {
  const Machine longer = {{.ways = {{'a', 1}}}, {.ways = {{'b', 2}}}, {.ways = {}, .accepts = true}};
  Session session(tiny_model());
  ASSERT_TRUE(session.start({.seed = 1}, 100).ok());
  const std::string begun = rest_of(session, 10);
  const Result<void> refused = session.start({}, 1, rules_of(longer, {}));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kBadOption);
  EXPECT_EQ(refused.error().message, "expected room for the 2 bytes that the constraint needs at least, found 1");
  Session other(tiny_model());
  ASSERT_TRUE(other.start({.seed = 1}, 100).ok());
  EXPECT_EQ(begun + rest_of(session), rest_of(other));
}

TEST(Rules, AnOutputEndsWithTheTokenThatBringsItToTheStop) {
  size_t stopped = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    Session free(tiny_model()), session(tiny_model());
    ASSERT_TRUE(free.start({.seed = seed}, 400).ok());
    ASSERT_TRUE(
        session.start({.seed = seed}, 400, rules_of({}, {{.ways = {{'b', 1}}}, {.ways = {}, .accepts = true}})).ok());
    const std::string whole = rest_of(free), text = rest_of(session);
    const size_t at = whole.find('b');
    EXPECT_EQ(text, whole.substr(0, at == std::string::npos ? at : at + 1));
    EXPECT_EQ(session.finish_state() == Finish::kStop, at != std::string::npos);
    EXPECT_EQ(session.position(), text.size());
    stopped += at != std::string::npos;
  }
  EXPECT_GT(stopped, 10u);
}

TEST(Rules, AGenerationGoesOnInAnotherSessionAsIfItHadNotBeenInterrupted) {
  for (const uint64_t seed : {1u, 2u, 3u, 4u}) {
    const SampleOptions options{.top_k = 20, .repetition_penalty_q16 = 80000, .seed = seed};
    const auto rules = [] { return rules_of(kConstraint, kStop); };
    Session whole(tiny_model());
    whole.feed(test::bytes_of("Once"));
    const std::vector<uint8_t> begin = whole.save();
    ASSERT_TRUE(whole.start(options, 60, rules()).ok());
    const std::string text = rest_of(whole);
    for (size_t at = 0; at <= text.size(); ++at) {
      Session first(tiny_model()), second(tiny_model());
      ASSERT_TRUE(first.restore(begin).ok());
      ASSERT_TRUE(first.start(options, 60, rules()).ok());
      const std::string before = rest_of(first, at);
      ASSERT_TRUE(second.restore(first.save()).ok());
      const std::vector<Token> drawn(before.begin(), before.end());
      ASSERT_TRUE(second.start(options, 60, rules(), drawn).ok());
      EXPECT_EQ(before + rest_of(second), text) << at;
      EXPECT_EQ(second.finish_state(), whole.finish_state());
      EXPECT_EQ(second.save(), whole.save());
    }
    Session third(tiny_model());
    const std::vector<Token> wrong = {'z'};
    EXPECT_FALSE(third.start(options, 60, rules(), wrong).ok()) << "these were never drawn";
  }
}

}  // namespace
}  // namespace tern
