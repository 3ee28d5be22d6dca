// base_test.cc: errors carry the text and the code they were given; views stay inside their matrix.
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "base/grow.h"
#include "base/result.h"
#include "base/sha256.h"
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

TEST(Grow, TakesMemoryForWhatIsThereAndNeverMoreThanTheWhole) {
  std::vector<int> array;
  size_t outgrown = 0;
  for (size_t size = 1; size <= 1000; ++size) {
    const size_t before = array.capacity();
    ASSERT_TRUE(grow(array, size, 1000, 7));
    EXPECT_EQ(array.size(), size);
    EXPECT_LE(array.capacity(), std::min<size_t>(1000, 8 * size + 7));
    if (array.capacity() > before) outgrown += before;
  }
  EXPECT_LE(outgrown, 256u);  // what a module that never gets smaller keeps beside the whole
  EXPECT_EQ(array, std::vector<int>(1000, 7));
  EXPECT_FALSE(grow(array, SIZE_MAX / 16, SIZE_MAX / 16));
  EXPECT_EQ(array.size(), 1000u);
}

std::string sha256_of(std::string_view text, size_t piece) {
  Sha256 hash;
  for (; !text.empty(); text.remove_prefix(std::min(piece, text.size()))) {
    const std::string_view part = text.substr(0, piece);
    hash.push({reinterpret_cast<const uint8_t*>(part.data()), part.size()});
  }
  return hash.hex();
}

TEST(Sha256, GivesThePublishedDigestsHoweverTheBytesAreCut) {
  // FIPS 180-4 examples (csrc.nist.gov, SHA256.pdf), the empty text and the million of NIST's SHAVS.
  const std::pair<std::string, const char*> published[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
       "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrst"
       "u",
       "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
      {std::string(1000000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& [text, digest] : published) {
    for (const size_t piece : {1u, 7u, 63u, 64u, 65u, 100000u}) EXPECT_EQ(sha256_of(text, piece), digest) << piece;
  }
}

TEST(Sha256, EveryLengthOfTheLastBlockIsPaddedAsTheWholeIs) {
  Sha256 grown;
  std::string text;
  for (size_t size = 0; size < 200; ++size) {
    EXPECT_EQ(grown.hex(), sha256_of(text, 1000)) << size;
    const uint8_t byte = static_cast<uint8_t>(size);
    grown.push({&byte, 1});
    text += static_cast<char>(byte);
  }
}

}  // namespace
}  // namespace tern
