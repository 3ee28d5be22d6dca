// table_matmul.cc: ternary products with many tokens by table lookup, in baseline SIMD.
//
// Four weights of a row are one of 81 combinations.  For four columns a table holds, for each combination, the sum of
// the four activations with these signs, for a tile of tokens side by side; a row then costs one lookup and one vector
// addition per 8 tokens and four columns, and no multiplication.  (Vec-LUT, arXiv 2512.06443; there with a layout of
// its own, here from the layout that serves matrix-vector products, transposed on the way.)
//
// GMAC/s on one thread of a Cascade Lake at 2.5 GHz shared with other work, 16 tokens, against dot products
// with weights that were unpacked once for two tokens (strips), in the same run:
//                native: tables  strips, relaxed  strips, simd128     wasm simd128 in Node: tables  strips
//   512 x 512            50             34              16                                   45       18
//   2816 x 512           46             33              16                                   46       17
//   2048 x 2048          39             33              14                                   42        4
// Ruled out: looking up straight from the packed matrix (half the speed at 2048 columns, where its rows are a page
// apart), 32 tokens to a table (no faster, twice the memory), 4 tables at a time (10 % slower than 8).
#include "kernels/ternary/table_matmul.h"

#include <algorithm>
#include <cstring>

#include "base/stack.h"
#include "kernels/simd/simd.h"

namespace tern {
namespace {

using simd::Vec;

constexpr uint32_t kTokens = kTableTokens;
constexpr uint32_t kVecs = kTokens / 8;    // of an entry
constexpr uint32_t kEntries = 2 * 85 + 1;  // an entry's index is the packed byte u0 | u1 << 2 | u2 << 4 | u3 << 6
constexpr uint32_t kGroupCols = 4;         // of a table
constexpr uint32_t kGroups = 8;            // tables at a time: they stay in the L1 cache
constexpr uint32_t kSpanCols = 256;        // summed in 16 bits
constexpr uint32_t kBlockRows = 512;       // that use a table before the next one is made
constexpr uint32_t kBlockCols = kGroups * kGroupCols;
static_assert(kSpanCols * 127 <= 32767 && kSpanCols % kBlockCols == 0 && kBlockCols % kTileCols == 0);

struct alignas(16) Scratch {
  int16_t x[kSpanCols][kTokens];  // activations of a span, tokens side by side
  int16_t tables[kGroups][kEntries][kTokens];
  int16_t sums[kBlockRows][kTokens];
  // Where a row's entries begin in their tables: [block of columns][four rows][table][row].  Looked up in this order;
  // the packed matrix in this order would be read with large strides, at half the speed for 2048 columns.
  uint16_t entries[kSpanCols / kBlockCols][kBlockRows / kGroupRows][kGroups][kGroupRows];
};

static_assert(sizeof(Scratch) <= kMostOnStack);

/// Lanes 8v .. 8v + 7 of the activations, columns `first` to `first + count`; tokens that are not there repeat the
/// last.
void transpose_activations(MatrixView<const int8_t> x, size_t token, uint32_t first, uint32_t count, Scratch& scratch) {
  for (uint32_t v = 0; v < kVecs; ++v) {
    for (uint32_t c = 0; c < count; c += 8) {
      Vec block[8];
      for (uint32_t t = 0; t < 8; ++t) {
        const size_t row = std::min(token + 8 * v + t, x.rows - 1);
        block[t] = simd::load_i8_as_i16(x.data + row * x.stride + first + c);
      }
      simd::transpose_i16(block);
      for (uint32_t i = 0; i < 8; ++i) simd::store(&scratch.x[c + i][8 * v], block[i]);
    }
  }
}

/// The nine sums of {-a, 0, a} and {-b, 0, b}.
inline void sums_of_two(Vec a, Vec b, Vec (&sums)[9]) {
  const Vec minus_a = simd::sub_i16(simd::zero(), a);
  sums[4] = simd::zero();
  sums[3] = minus_a;
  sums[5] = a;
  sums[1] = simd::sub_i16(simd::zero(), b);
  sums[0] = simd::sub_i16(minus_a, b);
  sums[2] = simd::sub_i16(a, b);
  sums[7] = b;
  sums[6] = simd::sub_i16(b, a);
  sums[8] = simd::add_i16(a, b);
}

void make_table(const int16_t (*x)[kTokens], int16_t (*table)[kTokens]) {
  for (uint32_t v = 0; v < kVecs; ++v) {
    Vec low[9], high[9];
    sums_of_two(simd::load(&x[0][8 * v]), simd::load(&x[1][8 * v]), low);
    sums_of_two(simd::load(&x[2][8 * v]), simd::load(&x[3][8 * v]), high);
    for (uint32_t j = 0; j < 9; ++j) {
      for (uint32_t i = 0; i < 9; ++i) {
        const uint32_t code = i % 3 + (i / 3 << 2) + (j % 3 << 4) + (j / 3 << 6);
        simd::store(&table[code][8 * v], simd::add_i16(low[i], high[j]));
      }
    }
  }
}

/// Four bytes of four rows at one column each become four bytes of four columns in one row each: a transposition of
/// 4 x 4 fields of two bits in every 32-bit lane.
inline Vec bytes_of_rows(Vec v) {
  const auto swap = [](Vec m, Vec shifted, Vec mask) { return simd::bit_and(simd::bit_xor(m, shifted), mask); };
  const Vec inner = swap(v, simd::shift_right_u32<6>(v), simd::splat_i32(0x00CC00CC));
  v = simd::bit_xor(v, simd::bit_xor(inner, simd::shift_left_i32<6>(inner)));
  const Vec outer = swap(v, simd::shift_right_u32<12>(v), simd::splat_i32(0x0000F0F0));
  return simd::bit_xor(v, simd::bit_xor(outer, simd::shift_left_i32<12>(outer)));
}

constexpr int kEntryShift = 5;  // an entry's bytes
static_assert(sizeof(int16_t) * kTokens == 1 << kEntryShift && kEntries << kEntryShift <= 32768);

/// The entries of `rows` rows in `cols` columns; `tiles` is the first packed vector.
void find_entries(const uint8_t* tiles, size_t row_bytes, uint32_t rows, uint32_t cols, Scratch& scratch) {
  for (uint32_t r = 0; r < rows; r += kGroupRows) {
    const uint8_t* group = tiles + r / kTileRows * row_bytes + r % kTileRows / kGroupRows * kGroupBytes;
    for (uint32_t c = 0; c < cols; c += kTileCols, group += kTileBytes) {
      const Vec bytes = bytes_of_rows(simd::load(group));
      uint16_t(*entries)[kGroupRows] = &scratch.entries[c / kBlockCols][r / kGroupRows][c % kBlockCols / kGroupCols];
      simd::store(entries[0], simd::shift_left_i16<kEntryShift>(simd::low_u8_as_i16(bytes)));
      simd::store(entries[2], simd::shift_left_i16<kEntryShift>(simd::high_u8_as_i16(bytes)));
    }
  }
}

/// Adds kCount tables' entries to four rows' sums.
template <uint32_t kCount>
inline void add_entries(const uint16_t (*entries)[kGroupRows], const Scratch& scratch, int16_t (*sums)[kTokens]) {
  const auto* tables = reinterpret_cast<const uint8_t*>(scratch.tables);
  for (uint32_t r = 0; r < kGroupRows; ++r) {
    Vec a = simd::load(&sums[r][0]), b = simd::load(&sums[r][8]);
    for (uint32_t g = 0; g < kCount; ++g) {
      const uint8_t* entry = tables + entries[g][r] + g * sizeof(scratch.tables[0]);
      a = simd::add_i16(a, simd::load_aligned(entry));
      b = simd::add_i16(b, simd::load_aligned(entry + 16));
    }
    simd::store(&sums[r][0], a);
    simd::store(&sums[r][8], b);
  }
}
static_assert(kVecs == 2);

/// y[t][row] += sums[row][t] for eight rows, `live` of which exist.
void add_sums(const int16_t (*sums)[kTokens], uint32_t live, size_t tokens, int32_t* y, size_t stride) {
  for (uint32_t v = 0; v < kVecs; ++v) {
    Vec block[8];
    for (uint32_t r = 0; r < 8; ++r) block[r] = simd::load(&sums[r][8 * v]);
    simd::transpose_i16(block);
    for (size_t t = 8 * v; t < std::min<size_t>(tokens, 8 * v + 8); ++t) {
      const Vec row = block[t - 8 * v];
      int32_t* out = y + t * stride;
      if (live == kTileRows) {
        simd::store(out, simd::add_i32(simd::load(out), simd::low_i16_as_i32(row)));
        simd::store(out + 4, simd::add_i32(simd::load(out + 4), simd::high_i16_as_i32(row)));
      } else {
        int16_t lanes[8];
        simd::store(lanes, row);
        for (uint32_t r = 0; r < live; ++r) out[r] += lanes[r];
      }
    }
  }
}

}  // namespace

void table_matmul(const TernaryView& w, MatrixView<const int8_t> x, MatrixView<int32_t> y) {
  const uint32_t cols = padded_cols(w.cols), rows = padded_rows(w.rows);
  const size_t row_bytes = size_t{cols} / kTileCols * kTileBytes;  // of eight rows
  Scratch scratch;
  for (size_t t = 0; t < y.rows; ++t) std::fill_n(y.row(t).data(), w.rows, 0);
  for (size_t token = 0; token < x.rows; token += kTokens) {
    const size_t tokens = std::min<size_t>(kTokens, x.rows - token);
    for (uint32_t span = 0; span < cols; span += kSpanCols) {
      const uint32_t span_cols = std::min(kSpanCols, cols - span);
      transpose_activations(x, token, span, span_cols, scratch);
      for (uint32_t block = 0; block < rows; block += kBlockRows) {
        const uint32_t block_rows = std::min(kBlockRows, rows - block);
        find_entries(w.tiles + block / kTileRows * row_bytes + span / kTileCols * kTileBytes, row_bytes, block_rows,
                     span_cols, scratch);
        std::memset(scratch.sums, 0, block_rows * sizeof(scratch.sums[0]));
        for (uint32_t c = 0; c < span_cols; c += kBlockCols) {
          const uint32_t count = std::min(kBlockCols, span_cols - c);
          for (uint32_t g = 0; g < count / kGroupCols; ++g) {
            make_table(&scratch.x[c + g * kGroupCols], scratch.tables[g]);
          }
          for (uint32_t r = 0; r < block_rows; r += kGroupRows) {
            const auto* entries = scratch.entries[c / kBlockCols][r / kGroupRows];
            if (count == kBlockCols) {
              add_entries<kGroups>(entries, scratch, &scratch.sums[r]);
            } else {  // the last 16 columns of an odd number of tiles
              static_assert(kBlockCols == 2 * kTileCols);
              add_entries<kGroups / 2>(entries, scratch, &scratch.sums[r]);
            }
          }
        }
        for (uint32_t r = 0; r < block_rows; r += kTileRows) {
          const uint32_t live = std::min(kTileRows, w.rows - (block + r));
          add_sums(&scratch.sums[r], live, tokens, y.data + token * y.stride + block + r, y.stride);
        }
      }
    }
  }
}

}  // namespace tern
