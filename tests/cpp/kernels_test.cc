// kernels_test.cc: the packed layout keeps every weight, the products are exact, and every level equals the scalar one.
#include "kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/dispatch.h"
#if TERN_SIMD >= 1
#include "kernels/ternary/masked_matvec.h"
#include "kernels/ternary/table_matmul.h"
#endif

namespace tern {
namespace {

using Random = std::mt19937;

constexpr uint32_t kSeed = 20261120;

enum class Fill { kRandom, kLowest, kHighest, kAlternating, kRowPairs };  // kRowPairs: for weights

int below(Random& random, uint32_t n) { return static_cast<int>(random() % n); }

// A weight code w + 1 by kind of matrix.
uint8_t code_of(Fill fill, Random& random, uint32_t r, uint32_t c) {
  switch (fill) {
    case Fill::kLowest:
      return 0;
    case Fill::kHighest:
      return 2;
    case Fill::kAlternating:
      return (r + c) % 2 == 0 ? 0 : 2;
    case Fill::kRowPairs:
      return r / 2 % 2 == 0 ? 0 : 2;
    case Fill::kRandom:
      break;
  }
  return static_cast<uint8_t>(below(random, 3));
}

int8_t activation_of(Fill fill, Random& random, uint32_t c) {
  switch (fill) {
    case Fill::kLowest:
      return -127;
    case Fill::kHighest:
      return 127;
    case Fill::kAlternating:
      return c % 2 == 0 ? 127 : -127;
    case Fill::kRowPairs:
    case Fill::kRandom:
      break;
  }
  return static_cast<int8_t>(below(random, 255) - 127);
}

// A matrix and some tokens, the exact product computed the obvious way, and copies of the operands in memory that has
// `misalignment` bytes too many in front and guard bytes around it.
struct Case {
  static constexpr size_t kGuard = 64;
  static constexpr int32_t kUntouched = 0x5A5A5A5A;

  uint32_t rows, cols;
  size_t tokens;
  std::vector<std::vector<uint8_t>> codes;
  std::vector<uint8_t> tile_memory;
  std::vector<int8_t> x_memory;
  std::vector<int32_t> sums;
  std::vector<std::vector<int32_t>> expected;
  size_t misalignment;

  Case(uint32_t rows_, uint32_t cols_, size_t tokens_, Fill weights, Fill activations, size_t misalignment_,
       Random& random)
      : rows(rows_), cols(cols_), tokens(tokens_), misalignment(misalignment_) {
    PackedTernary packed(rows, cols);
    for (uint32_t r = 0; r < rows; ++r) {
      codes.emplace_back(cols);
      for (uint32_t c = 0; c < cols; ++c) codes[r][c] = code_of(weights, random, r, c);
      packed.pack_row(r, codes[r]);
    }
    tile_memory.assign(misalignment, 0xFF);
    tile_memory.insert(tile_memory.end(), packed.view().tiles, packed.view().tiles + packed.bytes());
    x_memory.assign(misalignment + tokens * stride() + kGuard, 99);  // beyond the last token: would change sums if read
    for (size_t t = 0; t < tokens; ++t) {
      int8_t* x = x_memory.data() + misalignment + t * stride();
      std::fill_n(x, padded_cols(cols), int8_t{0});
      int32_t sum = 0;
      for (uint32_t c = 0; c < cols; ++c) sum += x[c] = activation_of(activations, random, c);
      sums.push_back(sum);
      expected.emplace_back(rows);
      for (uint32_t r = 0; r < rows; ++r) {
        for (uint32_t c = 0; c < cols; ++c) expected[t][r] += (codes[r][c] - 1) * x[c];
      }
    }
  }

  size_t stride() const { return padded_cols(cols) + 3; }  // tokens do not follow each other closely
  TernaryView view() const { return {tile_memory.data() + misalignment, rows, cols}; }
  MatrixView<const int8_t> x() const { return {x_memory.data() + misalignment, tokens, padded_cols(cols), stride()}; }

  // Runs a level and checks results and guards.
  void check(const KernelLevel& level) const {
    SCOPED_TRACE(testing::Message() << level.name << " " << rows << "x" << cols << ", " << tokens << " tokens, seed "
                                    << kSeed);
    const size_t y_stride = rows + 5;
    std::vector<int32_t> y(kGuard + tokens * y_stride + kGuard, kUntouched);
    matmul_by(level, view(), x(), sums.data(), {y.data() + kGuard, tokens, rows, y_stride});
    check_outputs(y, y_stride);
    std::fill(y.begin(), y.end(), kUntouched);
    for (size_t t = 0; t < tokens; ++t)
      level.matvec(view(), x().row(t).data(), sums[t], y.data() + kGuard + t * y_stride);
    check_outputs(y, y_stride);
  }

  void check_outputs(const std::vector<int32_t>& y, size_t y_stride) const {
    for (size_t i = 0; i < y.size(); ++i) {
      const size_t t = (i - kGuard) / y_stride;
      const size_t r = (i - kGuard) % y_stride;
      const bool inside = i >= kGuard && t < tokens && r < rows;
      ASSERT_EQ(y[i], inside ? expected[t][r] : kUntouched) << "token " << t << " row " << r;
    }
  }
};

void check_all_levels(const Case& c) {
  for (const KernelLevel& level : kernel_levels()) {
    if (level.is_exact()) c.check(level);
  }
}

TEST(PackedTernary, GivesBackEveryRowInAnyOrder) {
  Random random(kSeed);
  for (uint32_t rows : {1u, 7u, 8u, 9u, 33u}) {
    for (uint32_t cols : {1u, 15u, 16u, 17u, 256u}) {
      PackedTernary packed(rows, cols);
      EXPECT_EQ(packed.bytes(), packed.view().bytes());
      std::vector<std::vector<uint8_t>> codes(rows, std::vector<uint8_t>(cols));
      for (auto& row : codes)
        std::generate(row.begin(), row.end(), [&] { return static_cast<uint8_t>(below(random, 3)); });
      for (int pass = 0; pass < 2; ++pass) {  // the second pass overwrites
        for (uint32_t r = rows; r-- > 0;) packed.pack_row(r, codes[pass == 0 ? 0 : r]);
      }
      for (uint32_t r = 0; r < rows; ++r) {
        std::vector<uint8_t> got(cols);
        packed.unpack_row(r, got);
        ASSERT_EQ(got, codes[r]) << rows << "x" << cols << " row " << r;
      }
    }
  }
}

TEST(PackedTernary, StartsAsZeros) {
  PackedTernary packed(9, 17);
  std::vector<uint8_t> got(17);
  packed.unpack_row(8, got);
  EXPECT_EQ(got, std::vector<uint8_t>(17, 1));
}

// The layout itself is a promise to the SIMD kernels and to anyone who dumps it.
TEST(PackedTernary, PutsFourRowsInAByteAndSixteenColumnsInAVector) {
  PackedTernary packed(16, 32);
  std::vector<uint8_t> codes(32, 1);
  codes[17] = 2;
  packed.pack_row(6, codes);   // second group, field 2
  packed.pack_row(15, codes);  // second tile row, second group, field 3
  EXPECT_EQ(packed.view().tiles[32 + 16 + 1], 0x55 + (1 << 4));
  EXPECT_EQ(packed.view().tiles[64 + 32 + 16 + 1], 0x55 + (1 << 6));
}

TEST(PackedTernary, BeginsAtACacheLine) {
  for (const uint32_t size : {1u, 3u, 17u, 100u, 1000u}) {
    const PackedTernary packed(size, size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(packed.view().tiles) % kCacheLine, 0u) << size;
    const PackedTernary copy = packed;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(copy.view().tiles) % kCacheLine, 0u) << size;
  }
}

TEST(PackedTernaryDeathTest, RowsThatDoNotFitTrap) {
  PackedTernary packed(4, 4);
  EXPECT_DEATH(packed.pack_row(4, std::vector<uint8_t>(4, 1)), "");
  EXPECT_DEATH(packed.pack_row(0, std::vector<uint8_t>(5, 1)), "");
  EXPECT_DEATH(PackedTernary(1, kMaxTernaryCols + 1), "");
}

TEST(TernaryProducts, AreExactForEverySmallShapeAtEveryLevel) {
  Random random(kSeed);
  for (uint32_t rows = 1; rows <= 70; rows += rows < 18 ? 1 : 13) {
    for (uint32_t cols = 1; cols <= 70; cols += cols < 34 ? 1 : 9) {
      const size_t tokens = 1 + (rows * 7 + cols) % 5;
      check_all_levels(Case(rows, cols, tokens, Fill::kRandom, Fill::kRandom, 0, random));
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(TernaryProducts, AreExactForExtremeValues) {
  Random random(kSeed + 1);
  constexpr Fill kFills[] = {Fill::kLowest, Fill::kHighest, Fill::kAlternating, Fill::kRowPairs, Fill::kRandom};
  for (Fill weights : kFills) {
    for (Fill activations : kFills) {
      for (uint32_t cols : {16u, 1000u, 1024u, 1040u, 4096u, 4099u, 9000u}) {
        check_all_levels(Case(9, cols, 3, weights, activations, 0, random));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(TernaryProducts, AreExactAtTheLargestWidth) {
  Random random(kSeed + 2);
  check_all_levels(Case(8, kMaxTernaryCols, 2, Fill::kHighest, Fill::kHighest, 0, random));
  check_all_levels(Case(8, kMaxTernaryCols, 2, Fill::kHighest, Fill::kLowest, 0, random));
}

TEST(TernaryProducts, DoNotNeedAlignment) {
  Random random(kSeed + 3);
  for (size_t misalignment = 0; misalignment < 16; ++misalignment) {
    check_all_levels(Case(17, 50, 4, Fill::kRandom, Fill::kRandom, misalignment, random));
  }
}

TEST(TernaryProducts, AreExactForRealisticShapes) {
  Random random(kSeed + 4);
  check_all_levels(Case(512, 512, 5, Fill::kRandom, Fill::kRandom, 0, random));
  check_all_levels(Case(256, 1408, 16, Fill::kRandom, Fill::kRandom, 0, random));
}

// Tiles of 16 tokens, blocks of 512 rows, spans of 256 columns and pairs of 16 columns all end in the middle.
TEST(TernaryProducts, AreExactWhereEveryKindOfBlockEnds) {
  Random random(kSeed + 9);
  for (const size_t tokens : {6u, 9u, 15u, 16u, 17u, 33u}) {
    for (const uint32_t cols : {5u, 16u, 250u, 256u, 272u, 530u}) {
      check_all_levels(Case(21, cols, tokens, Fill::kRandom, Fill::kRandom, tokens % 3, random));
      if (testing::Test::HasFatalFailure()) return;
    }
  }
  for (const uint32_t rows : {511u, 512u, 513u, 1030u}) {
    check_all_levels(Case(rows, 40, 16, Fill::kRandom, Fill::kRandom, 0, random));
  }
  for (const Fill activations : {Fill::kLowest, Fill::kHighest, Fill::kAlternating}) {
    for (const Fill weights : {Fill::kLowest, Fill::kHighest, Fill::kAlternating}) {
      check_all_levels(Case(9, 1040, 16, weights, activations, 0, random));
    }
  }
}

#if TERN_SIMD >= 1
// The machine of the test need not have such dot products, so they are computed here.
template <bool kSigned>
struct EmulatedDot {
  static simd::Vec dot(simd::Vec x, simd::Vec codes, simd::Vec sum) {
    int8_t a[16];
    uint8_t u[16];
    uint32_t lanes[4];  // wraps
    simd::store(a, x);
    simd::store(u, codes);
    simd::store(lanes, sum);
    for (int i = 0; i < 16; ++i) {
      lanes[i / 4] += static_cast<uint32_t>(a[i] * (kSigned ? static_cast<int8_t>(u[i]) : int32_t{u[i]}));
    }
    return simd::load(lanes);
  }
};

template <bool kSigned>
void nested_matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y) {
  masked_matvec<NestedDots<kSigned, EmulatedDot<kSigned>>>(w, x, sum_x, y);
}

TEST(NestedDots, AreExactWithUnsignedAndWithSignedCodes) {
  const KernelLevel levels[] = {{"unsigned", nullptr, nested_matvec<false>, nullptr},
                                {"signed", nullptr, nested_matvec<true>, nullptr}};
  Random random(kSeed + 10);
  for (const KernelLevel& level : levels) {
    Case(21, 130, 2, Fill::kRandom, Fill::kRandom, 0, random).check(level);
    for (const Fill weights : {Fill::kLowest, Fill::kHighest, Fill::kAlternating}) {
      for (const Fill activations : {Fill::kLowest, Fill::kHighest, Fill::kAlternating}) {
        Case(9, 1040, 1, weights, activations, 0, random).check(level);
      }
    }
    Case(8, kMaxTernaryCols, 1, Fill::kHighest, Fill::kHighest, 0, random).check(level);
    Case(8, kMaxTernaryCols, 1, Fill::kHighest, Fill::kLowest, 0, random).check(level);
  }
}
#endif

TEST(TernaryProducts, GoThroughTheDispatcher) {
  Random random(kSeed + 5);
  const Case c(20, 40, 3, Fill::kRandom, Fill::kRandom, 0, random);
  std::vector<int32_t> y(60);
  ternary_matmul(c.view(), c.x(), c.sums, {y.data(), 3, 20});
  for (size_t t = 0; t < 3; ++t) {
    std::vector<int32_t> one(20);
    ternary_matvec(c.view(), c.x().row(t), c.sums[t], one);
    EXPECT_EQ(one, c.expected[t]);
    EXPECT_TRUE(std::equal(one.begin(), one.end(), y.begin() + static_cast<std::ptrdiff_t>(t * 20)));
  }
}

TEST(TernaryProductsDeathTest, WrongShapesTrap) {
  const PackedTernary packed(8, 20);
  std::vector<int8_t> x(32);
  std::vector<int32_t> y(8);
  EXPECT_DEATH(ternary_matvec(packed.view(), std::span(x).first(20), 0, y), "");
  EXPECT_DEATH(ternary_matvec(packed.view(), x, 0, std::span(y).first(7)), "");
}

TEST(KernelLevels, StartWithScalarAndUseTheLastExactOne) {
  const auto levels = kernel_levels();
  ASSERT_FALSE(levels.empty());
  EXPECT_STREQ(levels.front().name, "scalar");
  const char* best = nullptr;
  for (const KernelLevel& level : levels) {
    if (level.is_exact()) best = level.name;
  }
  EXPECT_STREQ(dispatch().level->name, best);
#if TERN_SIMD == 2 && (defined(__SSE4_1__) || defined(__ARM_NEON))
  EXPECT_STREQ(best, "relaxed_pairs") << "the emulated dot product is exact for 7 bits";
#endif
}

TEST(KernelLevels, ProbingUsesTheFastestExactOne) {
  const std::string before = dispatch().level->name;
  const ProbeReport unmeasured = probe(nullptr, 3);
  for (const LevelProbe& level : unmeasured.levels) {
    EXPECT_EQ(level.kmacs_per_ms, 0u);
    EXPECT_EQ(level.in_use, level.name == before);
  }
  EXPECT_EQ(unmeasured.table_kmacs_per_ms, 0u);
  // A clock that runs slower and slower, so that each measurement looks faster than the one before; it wraps.
  static uint32_t now = 0xFFFFF000, step = 190;
  const ProbeReport report = probe([] { return now += step -= step > 20; }, 3);
  const std::vector<LevelProbe>& probed = report.levels;
  ASSERT_EQ(probed.size(), kernel_levels().size());
  uint32_t most = 0, in_use = 0;
  for (size_t i = 0; i < probed.size(); ++i) {
    EXPECT_STREQ(probed[i].name, kernel_levels()[i].name);
    EXPECT_EQ(probed[i].exact, kernel_levels()[i].is_exact());
    EXPECT_EQ(probed[i].kmacs_per_ms > 0, probed[i].exact);
    most = std::max(most, probed[i].kmacs_per_ms);
    if (!probed[i].in_use) continue;
    ++in_use;
    EXPECT_TRUE(probed[i].exact);
    EXPECT_STREQ(dispatch().level->name, probed[i].name);
    EXPECT_EQ(probed[i].kmacs_per_ms, most);
  }
  EXPECT_EQ(in_use, 1u);
  EXPECT_EQ(dispatch().level->name, before) << "the last exact one";
#if TERN_SIMD >= 1
  // As many tokens as the tables' rate is worth products of the level in use.
  const uint64_t products = uint64_t{report.table_tokens} * report.table_kmacs_per_ms;
  EXPECT_GT(products, uint64_t{kTableTokens} * most);
  EXPECT_LE(products - report.table_kmacs_per_ms, uint64_t{kTableTokens} * most);
  dispatch().table_tokens = unmeasured.table_tokens;
#endif
}

#if TERN_SIMD >= 1
TEST(TernaryProducts, AreExactWhateverTheNumberOfTokensThatMakesATable) {
  Random random(kSeed + 11);
  const Case c(21, 50, 37, Fill::kRandom, Fill::kRandom, 0, random);
  const uint32_t before = dispatch().table_tokens;
  for (const uint32_t tokens : {1u, 2u, 5u, 6u, kTableTokens, kTableTokens + 1, UINT32_MAX}) {
    dispatch().table_tokens = tokens;
    check_all_levels(c);
  }
  dispatch().table_tokens = before;
}
#endif

// ---- Norms and quantisation ----

constexpr double kQ16 = 65536.0;

double real(Scale s) { return std::ldexp(static_cast<double>(s.mantissa), s.exponent); }

const Scale kEpsilon = Scale::from_integer(1) / Scale::from_integer(1000000);

std::vector<Act> random_acts(size_t n, double spread, Random& random) {
  std::normal_distribution<double> normal(0, spread * kQ16);
  std::vector<Act> x(n);
  for (Act& a : x) a.raw = saturate<int32_t>(static_cast<int64_t>(std::clamp(normal(random), -3e9, 3e9)));
  return x;
}

double exact_rms(std::span<const Act> x) {
  double sum = 0;
  for (const Act a : x) sum += a.raw / kQ16 * (a.raw / kQ16);
  return std::sqrt(sum / static_cast<double>(x.size()) + 1e-6);
}

TEST(RootMeanSquare, AgreesWithDoubleFromTinyToSaturated) {
  Random random(kSeed + 6);
  for (double spread : {0.0, 1e-5, 0.01, 1.0, 30.0, 1000.0, 1e6}) {
    for (size_t n : {1u, 3u, 512u, 5000u, 131072u}) {
      const auto x = random_acts(n, spread, random);
      EXPECT_NEAR(real(root_mean_square(x, kEpsilon)) / exact_rms(x), 1, 1e-9) << spread << " " << n;
    }
  }
  const std::vector<Act> lowest(131072, Act{std::numeric_limits<int32_t>::min()});
  EXPECT_NEAR(real(root_mean_square(lowest, kEpsilon)), 32768, 1e-4);
  EXPECT_EQ(root_mean_square(std::vector<Act>(4, Act{-3 * 65536}), Scale{}), Scale::from_integer(3));
}

TEST(RmsNorm, AgreesWithDouble) {
  Random random(kSeed + 7);
  for (double spread : {1e-4, 0.1, 1.0, 100.0, 1e4}) {
    for (size_t n : {1u, 31u, 512u, 2048u}) {
      const auto x = random_acts(n, spread, random);
      const auto w = random_acts(n, 1.5, random);
      std::vector<Act> y(n);
      rms_norm(x, w, kEpsilon, y);
      for (size_t c = 0; c < n; ++c) {
        const double weight = w[c].raw / kQ16;
        ASSERT_NEAR(y[c].raw / kQ16, x[c].raw / kQ16 / exact_rms(x) * weight, 0x1p-17 + std::abs(weight) * 0x1p-21)
            << spread << " " << n << " " << c;
      }
      auto in_place = x;
      rms_norm(in_place, w, kEpsilon, in_place);
      ASSERT_EQ(in_place, y);
    }
  }
}

TEST(RmsNorm, OneLargeElementAmongManyIsNotClipped) {
  std::vector<Act> x(kMaxTernaryCols, Act{0});
  x[5] = Act{-(1 << 20)};
  std::vector<Act> y(x.size());
  rms_norm(x, std::vector<NormWeight>(x.size(), NormWeight::from_real(1)), Scale{}, y);
  EXPECT_NEAR(y[5].raw / kQ16, -std::sqrt(131072.0), 1e-4);
}

TEST(RmsNorm, OfZerosIsZeroWithoutEpsilonToo) {
  std::vector<Act> y(3, Act{7});
  rms_norm(std::vector<Act>(3), std::vector<NormWeight>(3, NormWeight{65536}), Scale{}, y);
  EXPECT_EQ(y, std::vector<Act>(3));
}

void check_quantised(std::span<const Act> x, std::span<const NormWeight> w) {
  std::vector<int8_t> codes(padded_cols(static_cast<uint32_t>(x.size())), 99);
  const Scale rms = root_mean_square(x, kEpsilon);
  const QuantizedRow row = quantize_activations(x, w, rms, codes);
  const double floor = 1e-5 * real(rms);
  double largest = floor;
  for (size_t c = 0; c < x.size(); ++c) largest = std::max(largest, std::abs(x[c].raw / kQ16 * (w[c].raw / kQ16)));
  int32_t sum = 0;
  for (size_t c = 0; c < codes.size(); ++c) {
    if (c >= x.size()) {
      ASSERT_EQ(codes[c], 0) << "padding";
      continue;
    }
    const double v = 127 * (x[c].raw / kQ16 * (w[c].raw / kQ16)) / largest;
    // Exact up to ties: v and m keep 30 bits, so a code may differ only within 127 * 2^-29 of a half.
    // Where the floor rules, 1e-5 * rms is itself rounded to a whole number of 2^-32.
    const double slack = largest == floor ? 0.5 / (floor * 0x1p32) * 127 : 127 * 0x1p-29;
    ASSERT_NEAR(codes[c], v, 0.5 + slack) << c;
    sum += codes[c];
  }
  EXPECT_EQ(row.sum, sum);
  EXPECT_NEAR(real(row.scale) / (largest / (127 * real(rms))), 1, largest == floor ? 0.6 / (floor * 0x1p32) : 1e-8);
}

TEST(QuantizeActivations, IsTheRoundedShareOfTheLargest) {
  Random random(kSeed + 8);
  for (double spread : {1e-4, 0.05, 1.0, 50.0, 1e5}) {
    for (double weight : {1e-4, 1.0, 100.0}) {
      for (size_t n : {1u, 15u, 16u, 17u, 512u, 1408u}) {
        const auto x = random_acts(n, spread, random);
        const auto w = random_acts(n, weight, random);
        SCOPED_TRACE(testing::Message() << spread << " " << weight << " " << n << " seed " << kSeed + 8);
        check_quantised(x, w);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(QuantizeActivations, ReachesBothEndsOfTheRange) {
  const std::vector<Act> x = {{std::numeric_limits<int32_t>::min()}, {std::numeric_limits<int32_t>::max()}, {0}};
  for (int32_t weight : {1, 65536, std::numeric_limits<int32_t>::max()}) {
    std::vector<int8_t> codes(16);
    const auto row =
        quantize_activations(x, std::vector<NormWeight>(3, NormWeight{weight}), root_mean_square(x, kEpsilon), codes);
    EXPECT_EQ(codes[0], -127);
    EXPECT_EQ(codes[1], 127);
    EXPECT_EQ(row.sum, 0);
  }
}

TEST(QuantizeActivations, OfZerosIsZero) {
  std::vector<int8_t> codes(16, 99);
  const std::vector<Act> x(5);
  const auto row =
      quantize_activations(x, std::vector<NormWeight>(5, NormWeight{65536}), root_mean_square(x, kEpsilon), codes);
  EXPECT_EQ(codes, std::vector<int8_t>(16, 0));
  EXPECT_EQ(row.sum, 0);
  EXPECT_TRUE(quantize_activations(x, std::vector<NormWeight>(5), Scale{}, codes).scale.is_zero());
}

TEST(Rescale, TurnsAccumulatorsIntoActivations) {
  const std::vector<int32_t> acc = {0, 1, -1, 1000, -65024, 1 << 23};
  std::vector<Act> y(acc.size());
  const Scale scale = Scale::from_integer(3, -10);
  rescale(acc, scale, y);
  for (size_t i = 0; i < acc.size(); ++i) {
    EXPECT_EQ(y[i].raw, saturate<int32_t>(int64_t{acc[i]} * 3 * 64));
  }
}

// One pinned number: a platform whose compiler treats these loops differently would show here.
TEST(Norms, GiveTheSameNumbersOnEveryPlatform) {
  uint64_t hash = 14695981039346656037u;
  uint32_t lcg = 12345;
  std::vector<Act> x(300);
  std::vector<NormWeight> w(300);
  for (size_t c = 0; c < x.size(); ++c) {
    lcg = lcg * 1664525 + 1013904223;
    x[c].raw = static_cast<int32_t>(lcg) >> 12;
    lcg = lcg * 1664525 + 1013904223;
    w[c].raw = static_cast<int32_t>(lcg) >> 15;
  }
  std::vector<int8_t> codes(304);
  const auto row = quantize_activations(x, w, root_mean_square(x, kEpsilon), codes);
  for (int8_t code : codes) hash = (hash ^ static_cast<uint8_t>(code)) * 1099511628211u;
  hash = (hash ^ row.scale.mantissa) * 1099511628211u;
  std::vector<Act> y(300);
  rms_norm(x, w, kEpsilon, y);
  for (const Act a : y) hash = (hash ^ static_cast<uint32_t>(a.raw)) * 1099511628211u;
  EXPECT_EQ(hash, 641055145964584922u);
}

}  // namespace
}  // namespace tern
