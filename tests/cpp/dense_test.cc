// dense_test.cc: the int8 product equals its definition in every bit, whatever the shape.
#include "kernels/dense/dense.h"

#include <gtest/gtest.h>

#include "kernels/dense/positions.h"
#include "tiny_model.h"

namespace tern {
namespace {

constexpr int32_t kUntouched = 0x5a5a5a5a;

void expect_every_path_is_exact(uint32_t rows, uint32_t cols, const std::vector<int8_t>& w, std::vector<int8_t> x) {
  DenseMatrix matrix(rows, cols);
  std::vector<int32_t> expected(rows);
  for (uint32_t r = rows; r-- > 0;) {
    matrix.set_row(r, std::span(w).subspan(size_t{r} * cols, cols));
    int64_t sum = 0;
    for (uint32_t c = 0; c < cols; ++c) sum += w[size_t{r} * cols + c] * x[c];
    ASSERT_EQ(sum, static_cast<int32_t>(sum));
    expected[r] = static_cast<int32_t>(sum);
  }
  expected.push_back(kUntouched);  // a guard behind the last row
  x.resize(padded_cols(cols));

  const auto run = [&](auto&& product) {
    std::vector<int32_t> y(rows + 1, kUntouched);
    product(y);
    EXPECT_EQ(y, expected) << rows << " x " << cols;
  };
  run([&](std::vector<int32_t>& y) { dense_matvec(matrix.view(), x, std::span(y).first(rows)); });
  run([&](std::vector<int32_t>& y) { scalar::dense_matvec(matrix.view(), x.data(), y.data()); });
#if TERN_SIMD >= 1
  run([&](std::vector<int32_t>& y) { simd128::dense_matvec(matrix.view(), x.data(), y.data()); });
#endif
}

TEST(DenseMatvec, EveryPathEqualsTheDefinition) {
  test::Random random(1);
  for (const auto& [rows, cols] : std::vector<std::pair<uint32_t, uint32_t>>{
           {1, 1}, {1, 16}, {2, 15}, {3, 17}, {4, 8}, {5, 33}, {7, 100}, {64, 48}, {130, 257}}) {
    std::vector<int8_t> w(size_t{rows} * cols);
    std::vector<int8_t> x(cols);
    for (int8_t& code : w) code = static_cast<int8_t>(random.next());
    for (int8_t& code : x) code = static_cast<int8_t>(static_cast<int>(random.below(255)) - 127);
    expect_every_path_is_exact(rows, cols, w, x);
  }
}

TEST(DenseMatvec, EveryPathEqualsTheDefinitionForCodesOf11Bits) {
  test::Random random(2);
  for (const auto& [rows, cols] : std::vector<std::pair<uint32_t, uint32_t>>{
           {1, 1}, {2, 15}, {5, 33}, {64, 48}, {130, 257}, {700, 300}, {3, 1 << 14}}) {
    const bool extreme = cols == 1 << 14;
    DenseMatrix matrix(rows, cols);
    std::vector<int16_t> x(padded_cols(cols));
    for (uint32_t c = 0; c < cols; ++c) {
      x[c] = static_cast<int16_t>(extreme ? -1023 : static_cast<int>(random.below(2047)) - 1023);
    }
    std::vector<int32_t> expected(rows), y(rows), by_scalar(rows);
    for (uint32_t r = 0; r < rows; ++r) {
      std::vector<int8_t> w(cols);
      int64_t sum = 0;
      for (uint32_t c = 0; c < cols; ++c) {
        w[c] = extreme ? int8_t{-128} : static_cast<int8_t>(random.next());
        sum += w[c] * x[c];
      }
      matrix.set_row(r, w);
      expected[r] = static_cast<int32_t>(sum);
      ASSERT_EQ(expected[r], sum);
    }
    dense_matvec(matrix.view(), std::span<const int16_t>(x), y);
    scalar::dense_matvec(matrix.view(), x.data(), by_scalar.data());
    EXPECT_EQ(y, expected) << rows << " x " << cols;
    EXPECT_EQ(by_scalar, expected) << rows << " x " << cols;
  }
}

TEST(Positions, EveryPathEqualsTheDefinition) {
  test::Random random(3);
  for (const size_t width : {size_t{4}, size_t{8}, size_t{12}, size_t{64}, size_t{100}, size_t{256}}) {
    for (const size_t count : {size_t{1}, size_t{3}, size_t{4}, size_t{7}, size_t{130}, size_t{4099}, size_t{8200}}) {
      const bool extreme = random.below(3) == 0;
      const size_t stride = 2 * width + 16;
      std::vector<int8_t> codes(count * stride);
      std::vector<int16_t> x(width);
      std::vector<int32_t> weights(count), found(count + 1, kUntouched), expected(count);
      std::vector<int64_t> sums(width), expected_sums(width);
      for (int8_t& code : codes) code = extreme ? int8_t{-128} : static_cast<int8_t>(random.next());
      for (int16_t& code : x) code = extreme ? int16_t{-32767} : static_cast<int16_t>(random.below(65535) - 32767);
      for (int32_t& w : weights) {
        w = extreme                ? 1 << 24
            : random.below(3) == 0 ? 0
                                   : static_cast<int32_t>(random.below((1 << 24) + 1) >> random.below(24));
      }
      for (size_t p = 0; p < count; ++p) {
        int64_t dot = 0;
        for (size_t c = 0; c < width; ++c) {
          dot += x[c] * codes[p * stride + c];
          expected_sums[c] += int64_t{weights[p]} * codes[p * stride + c];
        }
        expected[p] = static_cast<int32_t>(dot);
        ASSERT_EQ(expected[p], dot);
      }
      expected.push_back(kUntouched);
      const PositionsView rows{codes.data(), count, width, stride};
      dots(rows, x, std::span(found).first(count));
      EXPECT_EQ(found, expected) << width << " x " << count;
      std::ranges::fill(sums, 1000);  // they are added to
      for (int64_t& sum : expected_sums) sum += 1000;
      add_weighted_sum(rows, weights, sums);
      EXPECT_EQ(sums, expected_sums) << width << " x " << count;
      scalar::dots(rows, x.data(), found.data());
      std::ranges::fill(sums, 1000);
      scalar::add_weighted_sum(rows, weights.data(), sums.data());
      EXPECT_EQ(found, expected);
      EXPECT_EQ(sums, expected_sums);
    }
  }
}

TEST(DenseMatvec, HoldsTheLargestSums) {
  for (const int8_t weight : {int8_t{-128}, int8_t{127}}) {
    for (const int8_t code : {int8_t{-127}, int8_t{127}}) {
      expect_every_path_is_exact(2, kMaxTernaryCols, std::vector<int8_t>(size_t{2} * kMaxTernaryCols, weight),
                                 std::vector<int8_t>(kMaxTernaryCols, code));
    }
  }
}

}  // namespace
}  // namespace tern
