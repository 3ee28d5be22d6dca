// base_test.cc: errors carry the text and the code they were given; views stay inside their matrix.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/view.h"

namespace tern {
namespace {

TEST(Error, FormatsIntegersAndStrings) {
  const Error e = error_f(ErrorCode::kBadFile, "%s: expected %d, found %u (%lld of %llu, 100%%)", "blk.0", -5, 7u,
                          std::numeric_limits<long long>::min(), std::numeric_limits<unsigned long long>::max());
  EXPECT_EQ(e.code, ErrorCode::kBadFile);
  EXPECT_EQ(e.message, "blk.0: expected -5, found 7 (-9223372036854775808 of 18446744073709551615, 100%)");
}

TEST(Error, FormatsTheSmallestIntAndZero) {
  EXPECT_EQ(error_f(ErrorCode::kBadFile, "%d %d", std::numeric_limits<int>::min(), 0).message, "-2147483648 0");
}

Result<int> half_of(int x) {
  if (x % 2 != 0) return error_f(ErrorCode::kBadOption, "%d is odd", x);
  return x / 2;
}

Result<void> must_be_even(int x) {
  auto half = half_of(x);
  if (!half.ok()) return half.error();
  return {};
}

TEST(Result, HoldsEitherAValueOrAnError) {
  EXPECT_TRUE(half_of(8).ok());
  EXPECT_EQ(half_of(8).value(), 4);
  EXPECT_FALSE(half_of(7).ok());
  EXPECT_EQ(half_of(7).error().message, "7 is odd");
  EXPECT_TRUE(must_be_even(2).ok());
  EXPECT_EQ(must_be_even(3).error().code, ErrorCode::kBadOption);
}

TEST(Result, MovesItsValueOut) {
  Result<std::vector<int>> r(std::vector<int>{1, 2, 3});
  const std::vector<int> moved = std::move(r).value();
  EXPECT_EQ(moved.size(), 3u);
}

TEST(ResultDeathTest, ReadingTheWrongSideTraps) {
  EXPECT_DEATH((void)half_of(7).value(), "");
  EXPECT_DEATH((void)half_of(8).error(), "");
}

TEST(MatrixView, RowsFollowTheStride) {
  std::vector<int> data = {0, 1, 2, -1, 10, 11, 12, -1, 20, 21, 22, -1};
  const MatrixView<int> m(data.data(), 3, 3, 4);
  EXPECT_EQ(m.row(1)[2], 12);
  EXPECT_EQ(m.row(1).size(), 3u);
  const MatrixView<const int> tail = m.slice(1, 2);
  EXPECT_EQ(tail.rows, 2u);
  EXPECT_EQ(tail.row(1)[0], 20);
}

TEST(MatrixViewDeathTest, RowsBeyondTheEndTrap) {
  int data[4] = {};
  const MatrixView<int> m(data, 2, 2);
  EXPECT_DEATH((void)m.row(2), "");
  EXPECT_DEATH((void)m.slice(1, 2), "");
}

}  // namespace
}  // namespace tern
