// view.h: a matrix that somebody else owns, rows one after the other.
#pragma once

#include <cstddef>
#include <span>

#include "base/check.h"

namespace tern {

/// A borrowed [rows][cols] matrix.  `stride` elements lie between the starts of two rows (stride >= cols).
template <class T>
struct MatrixView {
  T* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;
  size_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data_, size_t rows_, size_t cols_, size_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {
    TERN_CHECK(stride >= cols);
  }
  MatrixView(T* data_, size_t rows_, size_t cols_) : MatrixView(data_, rows_, cols_, cols_) {}

  std::span<T> row(size_t r) const {
    TERN_CHECK(r < rows);
    return {data + r * stride, cols};
  }

  /// Rows first .. first + count - 1.
  MatrixView slice(size_t first, size_t count) const {
    TERN_CHECK(first <= rows && count <= rows - first);
    return {data + first * stride, count, cols, stride};
  }

  /// Columns first .. first + count - 1.
  MatrixView columns(size_t first, size_t count) const {
    TERN_CHECK(first <= cols && count <= cols - first);
    return {data + first, rows, count, stride};
  }

  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }  // NOLINT(*-explicit-*)
};

}  // namespace tern
