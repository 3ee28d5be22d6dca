// packed.h: how a ternary matrix lies in memory, its owner, and the shapes that all products share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/aligned.h"
#include "base/check.h"

namespace tern {

inline constexpr uint32_t kTileRows = 8;   ///< rows are padded to this
inline constexpr uint32_t kTileCols = 16;  ///< columns are padded to this

inline constexpr uint32_t kGroupRows = 4;              ///< rows in a byte
inline constexpr size_t kGroupBytes = kTileCols;       ///< 16 columns of four rows
inline constexpr size_t kTileBytes = 2 * kGroupBytes;  ///< 16 columns of eight rows

/// Most columns a matrix may have: the largest scaled sum, 64 * 2 * 127 * columns, stays below 2^31.
inline constexpr uint32_t kMaxTernaryCols = uint32_t{1} << 17;

constexpr uint32_t padded_rows(uint32_t rows) { return (rows + kTileRows - 1) / kTileRows * kTileRows; }
constexpr uint32_t padded_cols(uint32_t cols) { return (cols + kTileCols - 1) / kTileCols * kTileCols; }

/// A borrowed packed matrix.  Codes u = w + 1 in {0, 1, 2}, two bits each.  One byte holds four rows at the same
/// column, u0 | u1 << 2 | u2 << 4 | u3 << 6; 16 such bytes are 16 columns of four rows; a tile is two of them, 8 rows:
///   tiles  [padded_rows / 8][padded_cols / 16][2][16] bytes
/// Padding has w = 0.
struct TernaryView {
  const uint8_t* tiles = nullptr;
  uint32_t rows = 0;
  uint32_t cols = 0;

  size_t bytes() const { return size_t{padded_rows(rows)} * padded_cols(cols) / 4; }
};

/// Owner of a packed matrix; filled row by row in any order while a file streams in.  Starts as all zeros (w = 0).
/// Its tiles begin at a cache line, so that no vector lies in two.
class PackedTernary {
 public:
  PackedTernary() = default;
  /// All zeros.  cols <= kMaxTernaryCols; the caller has checked that the memory is affordable.
  PackedTernary(uint32_t rows, uint32_t cols);
  /// The same without memory, for rows that come one by one: make_room() before each.
  static PackedTernary empty(uint32_t rows, uint32_t cols);

  /// Memory for all rows up to this one.  False if there is none.
  bool make_room(uint32_t row);
  /// codes [cols]: w + 1 in {0, 1, 2}; the reader has rejected a 3.
  void pack_row(uint32_t row, std::span<const uint8_t> codes);
  /// Writes row `row` back as codes [cols].
  void unpack_row(uint32_t row, std::span<uint8_t> codes) const;

  uint32_t rows() const { return rows_; }
  uint32_t cols() const { return cols_; }
  size_t bytes() const { return tiles_.size(); }
  TernaryView view() const { return {tiles_.data(), rows_, cols_}; }

 private:
  size_t byte_index(uint32_t row, uint32_t col) const;

  AlignedVector<uint8_t> tiles_;
  uint32_t rows_ = 0;
  uint32_t cols_ = 0;
};

}  // namespace tern
