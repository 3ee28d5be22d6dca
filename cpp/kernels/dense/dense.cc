// dense.cc: the int8 matrix: storage, the definition of its product, and the product in 128-bit SIMD.
#include "kernels/dense/dense.h"

#include <algorithm>

#include "base/grow.h"
#include "base/parallel.h"

#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern {

DenseMatrix::DenseMatrix(uint32_t rows, uint32_t cols)
    : codes_(size_t{rows} * padded_cols(cols)), rows_(rows), cols_(cols) {
  TERN_CHECK(cols <= kMaxTernaryCols);
}

DenseMatrix DenseMatrix::empty(uint32_t rows, uint32_t cols) {
  DenseMatrix matrix(0, cols);
  matrix.rows_ = rows;
  return matrix;
}

bool DenseMatrix::make_room(uint32_t row) {
  TERN_CHECK(row < rows_);
  return grow(codes_, (size_t{row} + 1) * padded_cols(cols_), size_t{rows_} * padded_cols(cols_));
}

void DenseMatrix::set_row(uint32_t row, std::span<const int8_t> codes) {
  TERN_CHECK(row < rows_ && codes.size() == cols_);
  std::ranges::copy(codes, codes_.begin() + static_cast<std::ptrdiff_t>(size_t{row} * padded_cols(cols_)));
}

namespace scalar {
namespace {

template <class Code>
void matvec(const DenseView& w, const Code* x, int32_t* y) {
  const size_t stride = padded_cols(w.cols);
  for (size_t r = 0; r < w.rows; ++r) {
    y[r] = 0;
    for (size_t c = 0; c < w.cols; ++c) y[r] += w.codes[r * stride + c] * x[c];
  }
}

}  // namespace

void dense_matvec(const DenseView& w, const int8_t* x, int32_t* y) { matvec(w, x, y); }
void dense_matvec(const DenseView& w, const int16_t* x, int32_t* y) { matvec(w, x, y); }

}  // namespace scalar

#if TERN_SIMD >= 1
namespace simd128 {
namespace {

using simd::Vec;

Vec eight(const int8_t* x) { return simd::load_i8_as_i16(x); }
Vec eight(const int16_t* x) { return simd::load(x); }

/// Four rows at a time, so that each load of x is used four times; the last ones of an odd count twice.
template <class Code>
void matvec(const DenseView& w, const Code* x, int32_t* y) {
  const size_t stride = padded_cols(w.cols);
  for (size_t r = 0; r < w.rows; r += 4) {
    const int8_t* rows[4];
    for (size_t n = 0; n < 4; ++n) rows[n] = w.codes + std::min<size_t>(r + n, w.rows - 1) * stride;
    Vec sums[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (size_t c = 0; c < stride; c += 8) {
      const Vec codes = eight(x + c);
      sums[0] = simd::add_i32(sums[0], simd::dot_i16(simd::load_i8_as_i16(rows[0] + c), codes));
      sums[1] = simd::add_i32(sums[1], simd::dot_i16(simd::load_i8_as_i16(rows[1] + c), codes));
      sums[2] = simd::add_i32(sums[2], simd::dot_i16(simd::load_i8_as_i16(rows[2] + c), codes));
      sums[3] = simd::add_i32(sums[3], simd::dot_i16(simd::load_i8_as_i16(rows[3] + c), codes));
    }
    int32_t out[4];
    simd::store(out, simd::sum_lanes_i32(sums[0], sums[1], sums[2], sums[3]));
    std::copy_n(out, std::min<size_t>(4, w.rows - r), y + r);
  }
}

}  // namespace

void dense_matvec(const DenseView& w, const int8_t* x, int32_t* y) { matvec(w, x, y); }
void dense_matvec(const DenseView& w, const int16_t* x, int32_t* y) { matvec(w, x, y); }

}  // namespace simd128
namespace fastest = simd128;
#else
namespace fastest = scalar;
#endif

void dense_matvec(const DenseView& w, std::span<const int8_t> x, std::span<int32_t> y) {
  TERN_CHECK(x.size() == padded_cols(w.cols) && y.size() == w.rows);
  fastest::dense_matvec(w, x.data(), y.data());
}

void dense_matvec(const DenseView& w, std::span<const int16_t> x, std::span<int32_t> y) {
  TERN_CHECK(x.size() == padded_cols(w.cols) && y.size() == w.rows && w.cols <= 1u << 14);
  constexpr uint64_t kLeast = uint64_t{1} << 17;  // weights that are worth a thread of their own
  const uint32_t parts = parts_for(uint64_t{w.rows} * w.cols, kLeast);
  parallel(parts, [&](uint32_t part) {
    const uint32_t begin = part_begin(w.rows, part, parts), end = part_begin(w.rows, part + 1, parts);
    if (begin == end) return;
    const DenseView rows{w.codes + size_t{begin} * padded_cols(w.cols), end - begin, w.cols};
    fastest::dense_matvec(rows, x.data(), y.data() + begin);
  });
}

}  // namespace tern
