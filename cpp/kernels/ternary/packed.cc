// packed.cc: writes rows of codes into the tile layout, and reads them back.
#include "kernels/ternary/packed.h"

#include "base/grow.h"

namespace tern {
namespace {

constexpr uint8_t kFourZeros = 0x55;  // u = 1 (w = 0) in all four fields
constexpr uint8_t kFieldMask = 3;

int field_shift(uint32_t row) { return static_cast<int>(2 * (row % 4)); }

}  // namespace

PackedTernary::PackedTernary(uint32_t rows, uint32_t cols) : rows_(rows), cols_(cols) {
  TERN_CHECK(cols <= kMaxTernaryCols);
  tiles_.assign(view().bytes(), kFourZeros);
}

PackedTernary PackedTernary::empty(uint32_t rows, uint32_t cols) {
  PackedTernary packed(0, cols);
  packed.rows_ = rows;
  return packed;
}

bool PackedTernary::make_room(uint32_t row) {
  TERN_CHECK(row < rows_);
  const size_t tiles = size_t{row} / kTileRows + 1;
  return grow(tiles_, tiles * kTileRows / 4 * padded_cols(cols_), view().bytes(), kFourZeros);
}

// A row's bytes at one tile of columns are contiguous, and tiles are 32 bytes apart.
size_t PackedTernary::byte_index(uint32_t row, uint32_t col) const {
  const size_t tile = size_t{row / kTileRows} * (padded_cols(cols_) / kTileCols) + col / kTileCols;
  return tile * 2 * kTileCols + row % kTileRows / 4 * kTileCols + col % kTileCols;
}

void PackedTernary::pack_row(uint32_t row, std::span<const uint8_t> codes) {
  TERN_CHECK(row < rows_ && codes.size() == cols_);
  const int shift = field_shift(row);
  const auto others = static_cast<uint8_t>(~(kFieldMask << shift));
  for (uint32_t col = 0; col < cols_; ++col) {
    TERN_DCHECK(codes[col] <= 2);
    uint8_t& byte = tiles_[byte_index(row, col)];
    byte = static_cast<uint8_t>((byte & others) | (codes[col] & kFieldMask) << shift);
  }
}

void PackedTernary::unpack_row(uint32_t row, std::span<uint8_t> codes) const {
  TERN_CHECK(row < rows_ && codes.size() == cols_);
  const int shift = field_shift(row);
  for (uint32_t col = 0; col < cols_; ++col) {
    codes[col] = static_cast<uint8_t>(tiles_[byte_index(row, col)] >> shift & kFieldMask);
  }
}

}  // namespace tern
