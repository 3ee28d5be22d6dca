// kernels.h: every kernel once: its formula, shapes, formats, and why nothing overflows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/view.h"
#include "fixed/fixed.h"

namespace tern {

// ---- Packed ternary matrices ----------------------------------------------------------------------------------------

inline constexpr uint32_t kTileRows = 8;   ///< rows are padded to this
inline constexpr uint32_t kTileCols = 16;  ///< columns are padded to this

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
class PackedTernary {
 public:
  PackedTernary() = default;
  /// cols <= kMaxTernaryCols; the caller has checked that the memory is affordable.
  PackedTernary(uint32_t rows, uint32_t cols);

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

  std::vector<uint8_t> tiles_;
  uint32_t rows_ = 0;
  uint32_t cols_ = 0;
};

// ---- Products -------------------------------------------------------------------------------------------------------

/// y[r] = sum over c of W[r][c] * x[c],   W in {-1, 0, +1}
///   w      [rows][cols]
///   x      [padded_cols(cols)]  int8 in [-127, 127], 0 beyond cols; its scale stays with the caller
///   sum_x  sum of x
///   y      [rows]               int32, exact: |y| <= 127 * cols
/// Computed as sum u * x - sum_x with u = w + 1, since only non-negative codes unpack without sign extension.
void ternary_matvec(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y);

/// The same for several tokens; weights are unpacked once for the whole tile of tokens.
///   x      [tokens][padded_cols(cols)]
///   sum_x  [tokens]
///   y      [tokens][rows]
/// Bit for bit what ternary_matvec gives for each token.
void ternary_matmul(const TernaryView& w, MatrixView<const int8_t> x, std::span<const int32_t> sum_x,
                    MatrixView<int32_t> y);

// ---- Norms and quantisation (one definition for all levels; plain loops a compiler vectorises) ----------------------

/// sqrt(mean(x^2) + epsilon).  Exact sum of squares, unless it might need more than 64 bits: then each square is
/// shifted right first, by the same count.  x.size() >= 1.
Scale root_mean_square(std::span<const Act> x, Scale epsilon);

/// y[c] = x[c] / rms(x) * w[c], saturated.  x / rms is at most sqrt(cols) <= 363, so it is kept in Q9.22 between the
/// two products: error below 2^-17 + |w| * 2^-22.  y may be x.
void rms_norm(std::span<const Act> x, std::span<const NormWeight> w, Scale epsilon, std::span<Act> y);

/// The int8 input of a BitLinear.
struct QuantizedRow {
  Scale scale;      ///< value of one code
  int32_t sum = 0;  ///< of all codes
};

/// Absmax quantisation of RMSNorm(x; w) to int8, without a norm per element: the RMS cancels in the codes.
///   v[c] = x[c] * w[c];   m = max(max |v|, 1e-5 * rms);   codes[c] = round(127 * v[c] / m) in [-127, 127]
///   scale = m / (127 * rms),  so that codes * scale ~ v / rms
///   x, w   [cols]
///   codes  [padded_cols(cols)], 0 beyond cols
///   rms    root_mean_square(x, epsilon): the same for all matrices that read x
/// |v| and m are shifted together until m has 31 bits, dropping bits below; then code = round_shift(v * r, 54) with
/// r = floor(127 * 2^54 / m) < 2^31, so the product stays below 2^62.
QuantizedRow quantize_activations(std::span<const Act> x, std::span<const NormWeight> w, Scale rms,
                                  std::span<int8_t> codes);

/// y[i] = acc[i] * scale, the last step of a BitLinear (scale = weight scale * QuantizedRow::scale).
void rescale(std::span<const int32_t> acc, Scale scale, std::span<Act> y);

// ---- Dispatch -------------------------------------------------------------------------------------------------------

/// One implementation of the products.  Levels are listed in kernels.inc; this table is generated from it.
struct KernelLevel {
  const char* name;
  bool (*is_exact)();  ///< known-answer test of what the level needs from the machine
  void (*matvec)(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y);
  void (*matmul)(const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x, MatrixView<int32_t> y);
};

/// All levels in this build, in the order of kernels.inc; scalar, the definition, first.
std::span<const KernelLevel> kernel_levels();

/// The level in use: at first the last of kernel_levels() that is exact on this machine.
const char* kernel_level();

/// What probe() found out about a level.
struct LevelProbe {
  const char* name;
  bool exact;             ///< only such a level is ever used
  uint32_t kmacs_per_ms;  ///< best so far of a 512 x 512 matrix, thousands of weights per millisecond; 0: not measured
  bool in_use;
};

struct ProbeReport {
  std::vector<LevelProbe> levels;      ///< as kernel_levels()
  uint32_t table_kmacs_per_ms = 0;     ///< the same matrix with 16 tokens by table lookup; 0: not measured
  uint32_t table_tokens = UINT32_MAX;  ///< fewest tokens for which ternary_matmul() takes tables
};

/// Tests all levels and, given a clock, measures the exact ones for `rounds` milliseconds each and uses the fastest
/// from then on, and tables for as many tokens as make them faster than that one.  All give the same numbers, so it can
/// be called at any time, though not while another thread computes.
///   microseconds  a clock that may wrap and is best read often, or nullptr
ProbeReport probe(uint32_t (*microseconds)(), uint32_t rounds);

// Known-answer tests of the relaxed dot product: false where signed/unsigned or saturation rules would change a result.
bool relaxed_dot_is_exact();        ///< with codes of 7 bits, as WebAssembly promises where engines agree
bool relaxed_dot_takes_unsigned();  ///< codes of 8 bits count as unsigned: x86 with VNNI
bool relaxed_dot_takes_signed();    ///< codes of 8 bits count as signed: ARM with SDOT

}  // namespace tern
