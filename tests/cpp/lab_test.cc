// lab_test.cc: the kernels that lost give the bits of the definition, too; what is wrong would not be a measurement.
#include "kernels/lab/lab.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/ternary/levels.h"

namespace tern {
namespace {

constexpr uint32_t kSeed = 20261126;
constexpr uint32_t kShapes[][2] = {{1, 128}, {5, 128}, {8, 256}, {13, 384}, {40, 2048}, {9, 4224}, {3, 16384}};

enum class Fill { kRandom, kLowest, kHighest, kAlternating };
constexpr Fill kFills[] = {Fill::kRandom, Fill::kLowest, Fill::kHighest, Fill::kAlternating};

int value(Fill fill, std::mt19937& random, uint32_t at, int low, int high) {
  if (fill == Fill::kRandom) return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
  return fill == Fill::kLowest || (fill == Fill::kAlternating && at % 2 == 0) ? low : high;
}

/// check(rows, cols, codes [rows][cols], x, sum of x, the exact product)
template <class Check>
void for_every_case(Check check) {
  std::mt19937 random(kSeed);
  for (const auto& [rows, cols] : kShapes) {
    for (const Fill weights : kFills) {
      for (const Fill activations : kFills) {
        std::vector<std::vector<uint8_t>> codes(rows, std::vector<uint8_t>(cols));
        std::vector<int8_t> x(cols);
        std::vector<int32_t> expected(rows);
        int32_t sum = 0;
        for (uint32_t c = 0; c < cols; ++c) sum += x[c] = static_cast<int8_t>(value(activations, random, c, -127, 127));
        for (uint32_t r = 0; r < rows; ++r) {
          for (uint32_t c = 0; c < cols; ++c) {
            codes[r][c] = static_cast<uint8_t>(value(weights, random, r + c, 0, 2));
            expected[r] += (codes[r][c] - 1) * x[c];
          }
        }
        SCOPED_TRACE(testing::Message() << rows << "x" << cols << ", seed " << kSeed);
        check(rows, cols, codes, x, sum, expected);
        if (testing::Test::HasFailure()) return;
      }
    }
  }
}

/// A Matrix of the lab, filled from the last row to the first, each once wrongly before.
template <class Matrix>
Matrix filled(uint32_t rows, uint32_t cols, const std::vector<std::vector<uint8_t>>& codes) {
  Matrix matrix(rows, cols);
  for (uint32_t r = rows; r-- > 0;) {
    matrix.set_row(r, codes[0]);
    matrix.set_row(r, codes[r]);
  }
  return matrix;
}

TEST(Lab, RotorPlanesAreExactInEveryForm) {
  for_every_case([](uint32_t rows, uint32_t cols, const auto& codes, const auto& x, int32_t sum, const auto& expected) {
    const auto planes = filled<lab::RotorPlanes>(rows, cols, codes);
    const auto run = [&](auto matvec) {
      std::vector<int32_t> y(rows, 99);
      (planes.*matvec)(x, sum, y);
      EXPECT_EQ(y, expected);
    };
    run(&lab::RotorPlanes::matvec);
#if TERN_SIMD >= 1
    run(&lab::RotorPlanes::matvec_simd);
#endif
#if TERN_SIMD >= 2
    if (relaxed_dot_is_exact()) run(&lab::RotorPlanes::matvec_relaxed);
    if (relaxed_dot_takes_unsigned()) run(&lab::RotorPlanes::matvec_nested);
#endif
  });
}

TEST(Lab, BaseThreeIsExactInEveryForm) {
  for_every_case([](uint32_t rows, uint32_t cols, const auto& codes, const auto& x, int32_t sum, const auto& expected) {
    const auto digits = filled<lab::BaseThree>(rows, cols, codes);
    EXPECT_EQ(digits.bytes(), size_t{(rows + 4) / 5} * cols);
    const auto run = [&](auto matvec) {
      std::vector<int32_t> y(rows, 99);
      (digits.*matvec)(x, sum, y);
      EXPECT_EQ(y, expected);
    };
    run(&lab::BaseThree::matvec);
#if TERN_SIMD >= 1
    run(&lab::BaseThree::matvec_simd);
#endif
#if TERN_SIMD >= 2
    if (relaxed_dot_is_exact()) run(&lab::BaseThree::matvec_relaxed);
#endif
  });
}

TEST(Lab, CountsOfBitsAreExactInEveryForm) {
  for_every_case([](uint32_t rows, uint32_t cols, const auto& codes, const auto& x, int32_t, const auto& expected) {
    auto planes = filled<lab::BitPlanes>(rows, cols, codes);
    std::vector<int32_t> y(rows, 99);
    planes.matvec(x, y);
    EXPECT_EQ(y, expected);
#if TERN_SIMD >= 1
    std::fill(y.begin(), y.end(), 99);
    planes.matvec_simd(x, y);
    EXPECT_EQ(y, expected);
#endif
  });
}

#if TERN_SIMD >= 1
TEST(Lab, OneRowDotsAreExact) {
  for_every_case([](uint32_t rows, uint32_t cols, const auto& codes, const auto& x, int32_t sum, const auto& expected) {
    PackedTernary packed(rows, cols);
    for (uint32_t r = 0; r < rows; ++r) packed.pack_row(r, codes[r]);
    std::vector<int32_t> y(rows, 99);
    lab::one_row_dots(packed.view(), x, sum, y);
    EXPECT_EQ(y, expected);
  });
}
#endif

}  // namespace
}  // namespace tern
