// text_test.cc: the sampler draws from the right distribution and the same bytes everywhere; text is cut between
// characters.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "text/coder.h"
#include "text/documents.h"
#include "text/sampler.h"
#include "text/softmax.h"
#include "text/utf8.h"

namespace tern {
namespace {

constexpr int32_t kOne = 65536;

std::vector<int32_t> random_logits(uint32_t seed, double spread) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0, spread * kOne);
  std::vector<int32_t> logits(256);
  for (int32_t& l : logits) l = static_cast<int32_t>(normal(random));
  return logits;
}

// Softmax in double over the bytes that `keep` allows.
template <class Keep>
std::vector<double> softmax(const std::vector<int32_t>& logits, double temperature, Keep keep) {
  std::vector<double> p(256);
  for (size_t i = 0; i < 256; ++i) {
    if (keep(i)) p[i] = std::exp((logits[i] - 40.0 * kOne) / kOne / temperature);
  }
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

bool not_bos(size_t i) { return i != kBytes.bos; }

std::vector<int> draw(const SampleOptions& options, const std::vector<int32_t>& logits, int count) {
  Sampler sampler(kBytes, options);
  std::vector<int> drawn(256);
  for (int i = 0; i < count; ++i) ++drawn[sampler.next(logits)];
  return drawn;
}

// Pearson's statistic against p; bytes expected fewer than 5 times are counted together.  For k cells it has mean k and
// standard deviation sqrt(2k): a fixed seed and five deviations make this deterministic and still sensitive.
void expect_drawn_from(const std::vector<double>& p, const std::vector<int>& drawn) {
  const int count = std::accumulate(drawn.begin(), drawn.end(), 0);
  double statistic = 0;
  double rare_expected = 0;
  double rare_seen = 0;
  int cells = 1;
  for (size_t i = 0; i < 256; ++i) {
    const double expected = p[i] * count;
    if (p[i] == 0) {
      EXPECT_EQ(drawn[i], 0) << "byte " << i << " has no probability";
    }
    if (expected < 5) {
      rare_expected += expected;
      rare_seen += drawn[i];
      continue;
    }
    statistic += (drawn[i] - expected) * (drawn[i] - expected) / expected;
    ++cells;
  }
  if (rare_expected > 0) statistic += (rare_seen - rare_expected) * (rare_seen - rare_expected) / rare_expected;
  EXPECT_LT(statistic, cells + 5 * std::sqrt(2.0 * cells));
}

TEST(Pcg32, GivesThePublishedSequence) {
  Pcg32 random(42, 54);  // the demo program of the reference implementation
  for (uint32_t expected : {0xa15c02b7u, 0x7b47f409u, 0xba1d3330u, 0x83d2f293u, 0xbfa4784bu, 0xcbed606eu}) {
    EXPECT_EQ(random.next(), expected);
  }
}

TEST(Softmax, WeightsAgreeWithDouble) {
  for (double temperature : {0.25, 1.0, 3.5, 100.0}) {
    const auto logits = random_logits(1, 4);
    std::vector<uint32_t> weights(256);
    softmax_weights(logits, static_cast<uint32_t>(temperature * kOne), weights);
    const int32_t largest = *std::max_element(logits.begin(), logits.end());
    for (size_t i = 0; i < 256; ++i) {
      const double exact = std::exp((logits[i] - largest) / temperature / kOne) * 2147483648.0;
      // exp2_negative's 9.3e-7, and its argument's rounding to 2^-24.
      ASSERT_NEAR(weights[i], exact, 1.1e-6 * exact + 1.0);
    }
  }
}

TEST(Softmax, ExtremeLogitsStayInRange) {
  std::vector<int32_t> logits(256, std::numeric_limits<int32_t>::min());
  logits[7] = std::numeric_limits<int32_t>::max();
  for (uint32_t temperature : {1u, 65536u, 6553600u}) {
    std::vector<uint32_t> weights(256);
    softmax_weights(logits, temperature, weights);
    EXPECT_EQ(weights[7], 1u << 31);
    EXPECT_EQ(weights[8], 0u);
  }
}

TEST(Surprisal, AgreesWithDouble) {
  for (double spread : {0.0, 0.5, 3.0, 30.0}) {
    const auto logits = random_logits(2, spread);
    const auto p = softmax(logits, 1.0, [](size_t) { return true; });
    for (size_t i = 0; i < 256; ++i) {
      // exp2_negative is up to 9.3e-7 too large: 1.35e-6 bits; log2's 1.8e-7; 255 weights cut at 2^-31: 2e-7.
      ASSERT_NEAR(static_cast<double>(surprisal(logits, static_cast<uint8_t>(i)).raw) / 4294967296.0, -std::log2(p[i]),
                  1.8e-6);
    }
  }
}

TEST(Surprisal, OfAFlatDistributionIsEightBits) {
  EXPECT_EQ(surprisal(std::vector<int32_t>(256, -5), 3).raw, uint64_t{8} << 32);
}

TEST(TokenScore, AgreesWithDouble) {
  for (double spread : {0.0, 0.5, 3.0, 30.0}) {
    const auto logits = random_logits(2, spread);
    const auto p = softmax(logits, 1.0, [](size_t) { return true; });
    double entropy = 0;
    for (const double each : p) entropy -= each > 0 ? each * std::log2(each) : 0;
    std::vector<Likely> top(256);
    const TokenScore score = score_token(logits, 9, top);
    EXPECT_EQ(score.bits_q32, surprisal(logits, 9).raw);
    EXPECT_NEAR(score.entropy_q24 / 16777216.0, entropy, 1e-5);
    for (const Likely& each : top) {
      // exp2_negative's 9.3e-7 in both parts of the quotient, and 255 weights cut at 2^-31.
      EXPECT_NEAR(each.probability_q31 / 2147483648.0, p[each.token], 2e-6 * p[each.token] + 1e-9);
    }
  }
}

TEST(TokenScore, TheMostLikelyComeFirstAndOfEqualOnesTheLower) {
  auto logits = random_logits(5, 1);
  for (size_t i = 0; i < 256; i += 3) logits[i] = logits[1];
  std::vector<Token> order(256);
  std::iota(order.begin(), order.end(), Token{0});
  std::ranges::stable_sort(order, [&](Token a, Token b) { return logits[a] > logits[b]; });
  for (const size_t most : {size_t{0}, size_t{1}, size_t{5}, size_t{255}, size_t{256}}) {
    std::vector<Likely> top(most);
    for (uint32_t rank = 0; rank < 256; ++rank) ASSERT_EQ(score_token(logits, order[rank], top).rank, rank);
    for (size_t n = 0; n < most; ++n) ASSERT_EQ(top[n].token, order[n]);
  }
}

TEST(TokenScore, OfExtremeLogitsIsCertainty) {
  std::vector<int32_t> logits(256, std::numeric_limits<int32_t>::min());
  logits[7] = std::numeric_limits<int32_t>::max();
  std::vector<Likely> top(2);
  const TokenScore score = score_token(logits, 7, top);
  EXPECT_EQ(score.bits_q32, 0u);
  EXPECT_EQ(score.entropy_q24, 0u);
  EXPECT_EQ(top[0].probability_q31, 1u << 31);
  EXPECT_EQ(top[1].probability_q31, 0u);
  EXPECT_EQ(score_token(logits, 0).rank, 1u);
}

// ---- Coder ----------------------------------------------------------------------------------------------------------

/// Logits of all kinds, token after token: flat, sharp, certain of the right one or of a wrong one.
std::vector<int32_t> logits_of_kind(size_t n, Token token) {
  auto logits = random_logits(static_cast<uint32_t>(n), n % 3 == 0 ? 0.5 : 8);
  if (n % 7 == 1) logits[token] = std::numeric_limits<int32_t>::max();
  if (n % 7 == 2) logits[(token + 1) % 256] = std::numeric_limits<int32_t>::max();
  if (n % 7 == 3) logits[token] = std::numeric_limits<int32_t>::min();
  return logits;
}

TEST(Coder, FindsWhatWasCodedHoweverUnlikely) {
  std::mt19937 random(6);
  std::vector<Token> tokens(3000);
  for (Token& token : tokens) token = static_cast<Token>(random() % 256);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{50}, tokens.size()}) {
    Encoder encoder;
    double bits = 0;
    for (size_t n = 0; n < count; ++n) {
      const auto logits = logits_of_kind(n, tokens[n]);
      encoder.push(logits, tokens[n]);
      bits += std::min(32.0, static_cast<double>(surprisal(logits, tokens[n]).raw) / 4294967296.0);
    }
    std::vector<uint8_t> code = encoder.finish();
    EXPECT_LE(static_cast<double>(code.size()), bits / 8 * 1.0001 + 8);
    EXPECT_TRUE(encoder.finish().empty()) << "it begins anew";
    Decoder decoder(std::move(code));
    for (size_t n = 0; n < count; ++n) {
      const std::optional<Token> found = decoder.next(logits_of_kind(n, tokens[n]));
      ASSERT_TRUE(found.has_value());
      ASSERT_EQ(*found, tokens[n]) << n << " of " << count;
    }
  }
}

TEST(Coder, ACodeOfNobodyLeadsToTokensOrToNone) {
  std::mt19937 random(7);
  for (int repeat = 0; repeat < 200; ++repeat) {
    std::vector<uint8_t> code(20);
    for (uint8_t& byte : code) byte = static_cast<uint8_t>(repeat < 4 ? 255 : random());
    Decoder decoder(std::move(code));
    for (size_t n = 0; n < 100; ++n) {
      const std::optional<Token> token = decoder.next(random_logits(static_cast<uint32_t>(n), 3));
      if (!token) break;
      ASSERT_LT(*token, 256u);
    }
  }
}

TEST(Sampler, DrawsFromTheSoftmax) {
  const auto logits = random_logits(3, 2);
  for (double temperature : {0.5, 1.0, 2.0}) {
    SampleOptions options;
    options.temperature_q16 = static_cast<uint32_t>(temperature * kOne);
    options.seed = 99;
    expect_drawn_from(softmax(logits, temperature, not_bos), draw(options, logits, 100000));
  }
}

TEST(Sampler, TopKKeepsTheKMostLikelyAndTiesGoToTheLowerByte) {
  auto logits = random_logits(4, 1);
  logits[200] = logits[100] = logits[50] = 9 * kOne;  // three at the top
  SampleOptions options;
  options.top_k = 2;
  expect_drawn_from(softmax(logits, 1, [](size_t i) { return i == 50 || i == 100; }), draw(options, logits, 2000));
  options.top_k = 1;
  EXPECT_EQ(draw(options, logits, 50)[50], 50);
}

TEST(Sampler, TopKOnEqualLogitsKeepsTheLowestBytes) {
  SampleOptions options;
  options.top_k = 255;
  const auto drawn = draw(options, std::vector<int32_t>(256, std::numeric_limits<int32_t>::min()), 20000);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(drawn[i] > 0, not_bos(i)) << i;
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  std::vector<int32_t> logits(256, -30 * kOne);
  const double p[] = {0.5, 0.25, 0.15, 0.1};
  for (size_t i = 0; i < 4; ++i) logits[10 + i] = static_cast<int32_t>(std::lround(std::log(p[i]) * kOne));
  const auto kept = [&](double top_p) {
    SampleOptions options;
    options.top_p_q16 = static_cast<uint32_t>(top_p * kOne);
    const auto drawn = draw(options, logits, 3000);
    return std::count_if(drawn.begin(), drawn.end(), [](int n) { return n > 0; });
  };
  EXPECT_EQ(kept(0.4), 1);
  EXPECT_EQ(kept(0.49), 1);
  EXPECT_EQ(kept(0.51), 2);
  EXPECT_EQ(kept(0.74), 2);
  EXPECT_EQ(kept(0.76), 3);
  EXPECT_EQ(kept(0.95), 4);
}

TEST(Sampler, TheSmallestTopPIsGreedy) {
  const auto logits = random_logits(5, 1);
  SampleOptions options;
  options.top_p_q16 = 1;
  const auto drawn = draw(options, logits, 100);
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), 100), 1);
}

TEST(Sampler, MinPKeepsWhatIsAtLeastThatShareOfTheLikeliest) {
  std::vector<int32_t> logits(256, -30 * kOne);
  logits[1] = 0;
  logits[2] = static_cast<int32_t>(std::lround(std::log(0.3) * kOne));
  logits[3] = static_cast<int32_t>(std::lround(std::log(0.1) * kOne));
  SampleOptions options;
  options.min_p_q16 = kOne / 5;
  expect_drawn_from(softmax(logits, 1, [](size_t i) { return i == 1 || i == 2; }), draw(options, logits, 5000));
  options.min_p_q16 = kOne - 1;
  EXPECT_EQ(draw(options, logits, 50)[1], 50);
}

TEST(Sampler, GreedyTakesTheLargestLogitAndTheLowerByteOfATie) {
  auto logits = random_logits(6, 1);
  logits[77] = logits[12] = 20 * kOne;
  SampleOptions options;
  options.greedy = true;
  EXPECT_EQ(Sampler(kBytes, options).next(logits), 12u);
}

TEST(Sampler, NeverDrawsBosButMayDrawEos) {
  std::vector<int32_t> logits(256, -20 * kOne);
  logits[kBytes.bos] = 20 * kOne;
  logits[kBytes.eos] = 0;
  SampleOptions options;
  EXPECT_EQ(draw(options, logits, 100)[kBytes.eos], 100);
  options.greedy = true;
  EXPECT_EQ(Sampler(kBytes, options).next(logits), kBytes.eos);
}

TEST(Sampler, ThePenaltyLowersBytesOfTheLast256AndNoOthers) {
  std::vector<int32_t> logits(256, -8 * kOne);
  logits['a'] = 4 * kOne;
  logits['b'] = 3 * kOne;
  SampleOptions options;
  options.greedy = true;
  options.repetition_penalty_q16 = 3 * kOne / 2;
  Sampler sampler(kBytes, options);
  EXPECT_EQ(sampler.next(logits), Token{'a'});
  sampler.observe('a');
  EXPECT_EQ(sampler.next(logits), Token{'b'}) << "4 / 1.5 < 3";
  for (int i = 0; i < 255; ++i) sampler.observe('x');
  EXPECT_EQ(sampler.next(logits), Token{'b'}) << "still in the window";
  sampler.observe('x');
  EXPECT_EQ(sampler.next(logits), Token{'a'}) << "out of the window";
  for (int i = 0; i < 600; ++i) sampler.observe('a');  // many times in the window is penalised once
  EXPECT_EQ(sampler.next(logits), Token{'b'});
}

TEST(Sampler, ThePenaltyMultipliesNegativeLogits) {
  std::vector<int32_t> logits(256, -20 * kOne);
  logits['a'] = -1 * kOne;
  logits['b'] = -2 * kOne + 1000;
  SampleOptions options;
  options.greedy = true;
  options.repetition_penalty_q16 = 2 * kOne;
  Sampler sampler(kBytes, options);
  sampler.observe('a');
  EXPECT_EQ(sampler.next(logits), Token{'b'});
  logits['a'] = std::numeric_limits<int32_t>::min();  // saturates
  EXPECT_EQ(sampler.next(logits), Token{'b'});
}

TEST(Sampler, ACopyContinuesWithTheSameBytes) {
  const auto logits = random_logits(7, 1);
  SampleOptions options;
  options.seed = 5;
  Sampler sampler(kBytes, options);
  for (int i = 0; i < 10; ++i) sampler.next(logits);
  Sampler copy = sampler;
  for (int i = 0; i < 100; ++i) ASSERT_EQ(copy.next(logits), sampler.next(logits));
}

TEST(Sampler, DrawsFromTheAllowedBytesAsIfThereWereNoOthers) {
  ByteMask allowed;
  for (const size_t byte : {3u, 17u, 64u, 127u, 128u, 255u}) allowed.add(byte);
  std::vector<int32_t> logits = random_logits(5, 1.5);
  expect_drawn_from(softmax(logits, 1, [&](size_t i) { return allowed.has(i); }), [&] {
    Sampler sampler(kBytes, {.seed = 4});
    std::vector<int> drawn(256);
    for (int i = 0; i < 20000; ++i) ++drawn[sampler.next(logits, allowed.words())];
    return drawn;
  }());
  for (const SampleOptions& options : {SampleOptions{.greedy = true}, SampleOptions{.top_k = 1},
                                       SampleOptions{.top_p_q16 = 1}, SampleOptions{.min_p_q16 = 65535}}) {
    size_t best = 3;
    for (size_t i = 0; i < 256; ++i) best = allowed.has(i) && logits[i] > logits[best] ? i : best;
    EXPECT_EQ(Sampler(kBytes, options).next(logits, allowed.words()), best);
  }
  std::ranges::fill(logits,
                    std::numeric_limits<int32_t>::min());  // the lowest logit is still drawn where it is allowed
  logits[0] = std::numeric_limits<int32_t>::max();
  EXPECT_EQ(Sampler(kBytes, {.greedy = true}).next(logits, allowed.words()), 3u);
  EXPECT_TRUE(allowed.has(Sampler(kBytes, {.top_k = 40, .seed = 9}).next(logits, allowed.words())));
}

TEST(SamplerDeathTest, AMaskThatAllowsNothingTraps) {
  ByteMask only_bos;
  only_bos.add(kBytes.bos);
  EXPECT_DEATH(Sampler(kBytes, {}).next(random_logits(1, 1), only_bos.words()), "");
}

// The same bytes on every platform: pinned.
TEST(Sampler, TheBytesOfASeedNeverChange) {
  SampleOptions options;
  options.seed = 2026;
  options.temperature_q16 = 52429;
  options.top_k = 40;
  options.top_p_q16 = 62259;
  options.min_p_q16 = 1311;
  options.repetition_penalty_q16 = 72090;
  Sampler sampler(kBytes, options);
  std::vector<int> bytes;
  uint32_t lcg = 1;
  std::vector<int32_t> logits(256);
  for (int i = 0; i < 16; ++i) {
    for (int32_t& l : logits) {
      lcg = lcg * 1664525 + 1013904223;
      l = static_cast<int32_t>(lcg) >> 13;
    }
    bytes.push_back(static_cast<int>(sampler.next(logits)));
    sampler.observe(static_cast<Token>(bytes.back()));
  }
  EXPECT_EQ(bytes, (std::vector<int>{27, 65, 126, 206, 222, 185, 42, 239, 129, 200, 158, 206, 186, 97, 59, 91}));
}

TEST(Sampler, DrawsFromAnyVocabulary) {
  const Vocabulary vocabulary{100003, 100001, 7};
  std::vector<int32_t> logits(vocabulary.size, -3 * kOne);
  logits[vocabulary.bos] = 20 * kOne;
  for (const Token likely : {Token{0}, Token{300}, Token{100000}, Token{100002}}) logits[likely] = 6 * kOne;
  for (const SampleOptions& options : {SampleOptions{.top_k = 4}, SampleOptions{.top_k = 40, .top_p_q16 = 60000}}) {
    Sampler sampler(vocabulary, options);
    std::map<Token, int> drawn;
    for (int i = 0; i < 200; ++i) ++drawn[sampler.next(logits)];
    EXPECT_EQ(drawn.size(), 4u);
    for (const Token likely : {Token{0}, Token{300}, Token{100000}, Token{100002}}) EXPECT_GT(drawn[likely], 25);
  }
  Sampler greedy(vocabulary, {.greedy = true, .repetition_penalty_q16 = 2 * kOne});
  for (const Token next : {Token{0}, Token{300}, Token{100000}, Token{100002}}) {
    EXPECT_EQ(greedy.next(logits), next) << "the largest, the lowest of a tie, without what was observed";
    greedy.observe(next);
  }
  EXPECT_FALSE(validate({.top_k = 100004}, vocabulary).ok());
  EXPECT_TRUE(validate({.top_k = 100003}, vocabulary).ok());
}

TEST(Sampler, ATokenThatBeginsAndEndsTextsMayBeDrawn) {
  std::vector<int32_t> logits(300);
  logits[7] = 20 * kOne;
  EXPECT_EQ(Sampler({300, 7, 7}, {.greedy = true}).next(logits), 7u);
  EXPECT_EQ(Sampler({300, 7, 7}, {.top_k = 1}).next(logits), 7u);
  EXPECT_EQ(Sampler({300, 7, 8}, {.greedy = true}).next(logits), 0u);
}

// Section 9 of models/SPEC.md, as it stands there: the tokens are sorted, whatever their number.
Token drawn_by_the_book(std::vector<int32_t> logits, const Vocabulary& vocabulary, const std::vector<bool>& allowed,
                        const SampleOptions& options, Pcg32& random) {
  const bool begins_only = vocabulary.bos != vocabulary.eos;
  const auto may_draw = [&](Token token) { return (token != vocabulary.bos || !begins_only) && allowed[token]; };
  std::vector<Token> order;
  for (Token token = 0; token < vocabulary.size; ++token) {
    if (may_draw(token)) order.push_back(token);
    if (!may_draw(token)) logits[token] = std::numeric_limits<int32_t>::min();
  }
  std::ranges::stable_sort(order, [&](Token a, Token b) { return logits[a] > logits[b]; });
  if (options.greedy) return order.front();
  std::vector<uint32_t> weights(vocabulary.size);
  softmax_weights(logits, options.temperature_q16, weights);
  order.resize(std::min<size_t>(order.size(), options.top_k));
  unsigned __int128 total = 0, sum = 0;
  for (const Token token : order) total += weights[token];
  size_t kept = 0;
  while ((sum << 16) < total * options.top_p_q16) sum += weights[order[kept++]];
  const uint64_t least = uint64_t{weights[order.front()]} * options.min_p_q16;
  order.resize(kept);
  std::erase_if(order, [&](Token token) { return uint64_t{weights[token]} << 16 < least; });
  std::ranges::sort(order);
  total = 0;
  for (const Token token : order) total += weights[token];
  const uint64_t high = random.next();
  auto left = static_cast<uint64_t>((high << 32 | random.next()) * total >> 64);
  for (const Token token : order) {
    if (left < weights[token]) return token;
    left -= weights[token];
  }
  return vocabulary.size;
}

TEST(Sampler, DrawsByTheBookWhateverTheLogitsAreLike) {
  std::mt19937 random(11);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  for (int round = 0; round < 600; ++round) {
    const uint32_t size = std::array{2u, 3u, 64u, 256u, 1000u, 5000u}[below(6)];
    const Vocabulary vocabulary{size, below(size), 0};
    std::vector<int32_t> logits(size);
    const uint32_t kind = below(5);
    for (uint32_t i = 0; i < size; ++i) {
      const auto rising = static_cast<int32_t>(i * 100), any = static_cast<int32_t>(random());
      const int32_t kinds[] = {any >> 10, any >> 13, any >> 30 << 16, any % 3 * (INT32_MAX / 2),
                               kind % 2 == 0 ? rising : -rising};
      logits[i] = any % 50 == 0 && kind == 3 ? INT32_MIN : kinds[kind];
    }
    std::vector<bool> allowed(size, true);
    std::vector<uint64_t> mask((size + 63) / 64, ~uint64_t{0});
    const bool masked = below(3) == 0 && size > 3;
    for (uint32_t i = 0; i < size && masked; ++i) {
      if (i == (vocabulary.bos + 1) % size || below(2) == 0) continue;
      allowed[i] = false;
      mask[i / 64] &= ~(uint64_t{1} << i % 64);
    }
    SampleOptions options{.greedy = below(8) == 0, .seed = random()};
    options.temperature_q16 = std::array{65536u, 1u, 52429u, 131072u, 6553600u}[below(5)];
    if (below(2) == 0) options.top_k = 1 + below(std::array{size, std::min(size, 50u)}[below(2)]);
    if (below(2) == 0) options.top_p_q16 = std::array{1u, 62259u, 1 + below(65536)}[below(3)];
    if (below(3) == 0) options.min_p_q16 = below(kOne);
    Sampler sampler(vocabulary, options);
    Pcg32 same(options.seed);
    for (int draw = 0; draw < 4; ++draw) {
      ASSERT_EQ(sampler.next(logits, masked ? std::span<const uint64_t>(mask) : std::span<const uint64_t>()),
                drawn_by_the_book(logits, vocabulary, allowed, options, same))
          << "round " << round << ": size " << size << ", kind " << kind << ", top-k " << options.top_k << ", top-p "
          << options.top_p_q16 << ", min-p " << options.min_p_q16 << ", masked " << masked;
    }
  }
}

TEST(SampleOptions, OutOfRangeValuesAreRefusedWithWhatWasExpected) {
  const auto message = [](auto change) {
    SampleOptions options;
    change(options);
    const auto result = validate(options, kBytes);
    EXPECT_FALSE(result.ok());
    return result.ok() ? "" : result.error().message;
  };
  EXPECT_EQ(message([](auto& o) { o.temperature_q16 = 0; }),
            "temperature: expected 1 to 6553600, found 0 (in units of 1/65536)");
  EXPECT_EQ(message([](auto& o) { o.temperature_q16 = 6553601; }),
            "temperature: expected 1 to 6553600, found 6553601 (in units of 1/65536)");
  EXPECT_EQ(message([](auto& o) { o.top_k = 0; }), "top-k: expected 1 to 256, found 0");
  EXPECT_EQ(message([](auto& o) { o.top_k = 257; }), "top-k: expected 1 to 256, found 257");
  EXPECT_EQ(message([](auto& o) { o.top_p_q16 = 0; }), "top-p: expected 1 to 65536, found 0 (in units of 1/65536)");
  EXPECT_EQ(message([](auto& o) { o.top_p_q16 = 65537; }),
            "top-p: expected 1 to 65536, found 65537 (in units of 1/65536)");
  EXPECT_EQ(message([](auto& o) { o.min_p_q16 = 65536; }),
            "min-p: expected 0 to 65535, found 65536 (in units of 1/65536)");
  EXPECT_EQ(message([](auto& o) { o.repetition_penalty_q16 = 65535; }),
            "repetition penalty: expected 65536 to 655360, found 65535 (in units of 1/65536)");
  EXPECT_TRUE(validate({}, kBytes).ok());
}

TEST(SamplerDeathTest, InvalidOptionsTrap) {
  SampleOptions options;
  options.top_k = 0;
  EXPECT_DEATH((Sampler{kBytes, options}), "");
}

// ---- UTF-8 ----

std::span<const uint8_t> bytes_of(const std::string& s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}

std::string encode(uint32_t c) {
  std::string s;
  if (c < 0x80) {
    s += static_cast<char>(c);
  } else if (c < 0x800) {
    s += static_cast<char>(0xC0 | c >> 6);
  } else if (c < 0x10000) {
    s += static_cast<char>(0xE0 | c >> 12);
    s += static_cast<char>(0x80 | (c >> 6 & 0x3F));
  } else {
    s += static_cast<char>(0xF0 | c >> 18);
    s += static_cast<char>(0x80 | (c >> 12 & 0x3F));
    s += static_cast<char>(0x80 | (c >> 6 & 0x3F));
  }
  if (c >= 0x80) s += static_cast<char>(0x80 | (c & 0x3F));
  return s;
}

TEST(Utf8, EveryCodePointIsValidAndSurrogatesAreNot) {
  for (uint32_t c = 0; c < 0x110000; ++c) {
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(is_valid_utf8(bytes_of(encode(c))), !surrogate) << c;
  }
  EXPECT_FALSE(is_valid_utf8(bytes_of(encode(0x110000))));
  EXPECT_TRUE(is_valid_utf8({}));
}

TEST(Utf8, IllFormedBytesAreRefused) {
  for (const char* bad : {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xF0\x8F\xBF\xBF", "\xF5\x80\x80\x80",
                          "\xFE", "\xFF", "a\xE2\x82", "\xE2\x28\xA1", "\xF4\x90\x80\x80"}) {
    EXPECT_FALSE(is_valid_utf8(bytes_of(bad))) << bad;
  }
}

TEST(Utf8, ThePrefixEndsAtACharacter) {
  const std::string text = "z\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
  const std::map<size_t, size_t> prefixes = {{0, 0}, {1, 1}, {2, 1}, {3, 3}, {4, 3},  {5, 3},
                                             {6, 6}, {7, 6}, {8, 6}, {9, 6}, {10, 10}};
  for (const auto& [size, prefix] : prefixes) EXPECT_EQ(valid_utf8_prefix(bytes_of(text).first(size)), prefix) << size;
}

TEST(Utf8Position, AllowsExactlyTheBytesThatCanBecomeACharacter) {
  // What can follow a prefix, from all characters: the definition does not know the automaton.
  std::map<std::string, std::vector<bool>> follow;
  for (uint32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string bytes = encode(c);
    for (size_t n = 0; n < bytes.size(); ++n) {
      std::vector<bool>& next = follow[bytes.substr(0, n)];
      next.resize(256);
      next[static_cast<uint8_t>(bytes[n])] = true;
    }
  }
  for (auto& [prefix, next] : follow) {
    Utf8Position position;
    for (const uint8_t byte : bytes_of(prefix)) EXPECT_TRUE(position.push(byte));
    EXPECT_EQ(position.at_boundary(), prefix.empty());
    if (prefix.empty()) next[kBytes.eos] = true;
    for (size_t byte = 0; byte < 256; ++byte) ASSERT_EQ(position.allowed().has(byte), next[byte]) << byte;
  }
}

TEST(Utf8Position, BeginsAgainAfterIllFormedBytes) {
  for (const std::string ill : {"\x80", "\xff", "\xc3(", "\xf0\x9f\xff", "\xed\xa0\x80", "\xe2\x82\xc3\xa9"}) {
    Utf8Position position;
    bool well_formed = true;
    for (const uint8_t byte : bytes_of(ill)) well_formed = position.push(byte) && well_formed;
    EXPECT_FALSE(well_formed);
    EXPECT_TRUE(position.at_boundary());
  }
  Utf8Position position;
  position.push(0xE2);
  EXPECT_FALSE(position.push(0xC3));  // ill-formed behind E2, and the first byte of another character
  EXPECT_FALSE(position.at_boundary());
  EXPECT_TRUE(position.push(0xA9));
  EXPECT_TRUE(position.at_boundary());
}

TEST(Utf8Splitter, GivesTheSameTextHoweverTheBytesAreCut) {
  const std::string text = "z\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80!";
  for (size_t first = 0; first <= text.size(); ++first) {
    for (size_t second = first; second <= text.size(); ++second) {
      Utf8Splitter splitter;
      std::string got;
      for (auto [from, to] : {std::pair{size_t{0}, first}, {first, second}, {second, text.size()}}) {
        const std::string piece = splitter.push(bytes_of(text).subspan(from, to - from));
        EXPECT_TRUE(is_valid_utf8(bytes_of(piece)));
        got += piece;
      }
      EXPECT_EQ(got + splitter.finish(), text);
    }
  }
}

// Expected values: what TextDecoder gives (WHATWG Encoding, "maximal subpart" replacement).
TEST(Utf8Splitter, ReplacesEachIllFormedPartOnce) {
  const std::string r = "\xEF\xBF\xBD";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\x80z", "a" + r + "z"},           {"\xE2\x82z", r + "z"}, {"\xF0\x9F\x98", r},
      {"\xED\xA0\x80", r + r + r},         {"\xC0\xAF", r + r},    {"\xF0\x9F\xC3\xA9", r + "\xC3\xA9"},
      {"\xF4\x90\x80\x80", r + r + r + r}, {"\xFE\xFF", r + r},    {"\xE2\xE2\x82\xAC", r + "\xE2\x82\xAC"},
  };
  for (const auto& [input, expected] : cases) {
    Utf8Splitter whole;
    std::string got = whole.push(bytes_of(input));
    EXPECT_EQ(got + whole.finish(), expected);
    Utf8Splitter bytewise;
    got.clear();
    for (const uint8_t& byte : bytes_of(input)) got += bytewise.push({&byte, 1});
    EXPECT_EQ(got + bytewise.finish(), expected);
  }
}

// ---- text files ----

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < hex.size(); i += 2)
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

TEST(Documents, AreWhatTheCasesOfEveryReaderSay) {
  std::ifstream file(TERN_SOURCE_DIR "/tests/data/texts.json");
  const nlohmann::json cases = nlohmann::json::parse(file);
  EXPECT_GT(cases.size(), 10u);
  for (const nlohmann::json& it : cases) {
    const std::string name = it["name"];
    const Result<std::vector<uint8_t>> tokens = read_documents(from_hex(it["file"]));
    ASSERT_EQ(tokens.ok(), !it.contains("error")) << name;
    if (tokens.ok()) {
      EXPECT_EQ(tokens.value(), from_hex(it["tokens"])) << name;
      EXPECT_EQ(raw_bytes(tokens.value()), it["raw_bytes"].get<uint64_t>()) << name;
    } else {
      EXPECT_NE(tokens.error().message.find(it["error"].get<std::string>()), std::string::npos) << name;
    }
  }
}

}  // namespace
}  // namespace tern
