// dense.h: int8 matrices: the few small layers of a ternary network that are not ternary, and networks stored as SFx.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/aligned.h"
#include "kernels/ternary/packed.h"

namespace tern {

/// A borrowed int8 matrix: rows of padded_cols(cols) codes, 0 beyond cols.
struct DenseView {
  const int8_t* codes = nullptr;
  uint32_t rows = 0;
  uint32_t cols = 0;
};

/// Owner of an int8 matrix; filled row by row while a file streams in.  Starts as all zeros.
class DenseMatrix {
 public:
  DenseMatrix() = default;
  /// cols <= kMaxTernaryCols; the caller has checked that the memory is affordable.
  DenseMatrix(uint32_t rows, uint32_t cols);
  /// The same without memory, for rows that come one by one: make_room() before each.
  static DenseMatrix empty(uint32_t rows, uint32_t cols);

  /// Memory for all rows up to this one.  False if there is none.
  bool make_room(uint32_t row);

  /// codes [cols]
  void set_row(uint32_t row, std::span<const int8_t> codes);

  size_t bytes() const { return codes_.size(); }
  DenseView view() const { return {codes_.data(), rows_, cols_}; }

 private:
  AlignedVector<int8_t> codes_;
  uint32_t rows_ = 0;
  uint32_t cols_ = 0;
};

/// y[r] = sum over c of W[r][c] * x[c]
///   w  [rows][cols]          int8
///   x  [padded_cols(cols)]   int8 in [-127, 127], 0 beyond cols
///   y  [rows]                int32, exact: |y| <= 128 * 127 * cols < 2^31 for cols <= kMaxTernaryCols
void dense_matvec(const DenseView& w, std::span<const int8_t> x, std::span<int32_t> y);

/// The same for codes of 11 bits.
///   x  [padded_cols(cols)]   int16 in [-1023, 1023]; |y| <= 128 * 1023 * cols < 2^31 for cols <= 2^14
void dense_matvec(const DenseView& w, std::span<const int16_t> x, std::span<int32_t> y);

// The same without the checks: the definition, and the one that is used wherever there is 128-bit SIMD.
namespace scalar {
void dense_matvec(const DenseView& w, const int8_t* x, int32_t* y);
void dense_matvec(const DenseView& w, const int16_t* x, int32_t* y);
}  // namespace scalar
#if TERN_SIMD >= 1
namespace simd128 {
void dense_matvec(const DenseView& w, const int8_t* x, int32_t* y);
void dense_matvec(const DenseView& w, const int16_t* x, int32_t* y);
}  // namespace simd128
#endif

}  // namespace tern
