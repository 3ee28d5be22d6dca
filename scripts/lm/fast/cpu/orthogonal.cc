// Muon's orthogonalisation (train/optim.py) in bfloat16 on the tile registers of AMX, many matrices at a time.

#include <algorithm>
#include <cmath>

#include "linear.h"

namespace lm {
namespace {

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)

constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;  // of the quintic step

int padded(int n) { return (n + 31) / 32 * 32; }
size_t area(int rows, int cols) { return size_t(rows) * size_t(cols); }

/// [rows][cols] floats -> bfloat16, two of a row in a word: the left operand of `multiply`.
void round_rows(const float* x, int rows, int cols, uint32_t* out) {
  for (size_t i = 0; i < area(rows, cols); i += 2 * kLanes) {
    const __m512bh pair = _mm512_cvtne2ps_pbh((__m512)load(x + i + kLanes), (__m512)load(x + i));
    std::memcpy(out + i / 2, &pair, sizeof pair);
  }
}

/// The rows of `round_rows` [n][k/2] as the right operand x' of `multiply`: [n/16][k/2][16].
void columns_of_rows(const uint32_t* x, int n, int k, uint32_t* out) {
  const int words = k / 2;
  for (int block = 0; block < n; block += kLanes)
    for (int w = 0; w < words; w += kLanes) {
      Ints v[kLanes];
      for (int i = 0; i < kLanes; ++i) v[i] = load_as<Ints>(x + area(block + i, words) + w);
      transpose(v);
      for (int i = 0; i < kLanes; ++i)
        std::memcpy(out + area(block, words) + size_t(w + i) * kLanes, &v[i], sizeof v[i]);
    }
}

/// The nearest bfloat16, ties to even, in the upper half of each lane.
Ints upper_half(Lanes x) {
  const Ints bits = (Ints)x;
  return (bits + 0x7fff + (bits >> 16 & 1)) & static_cast<int32_t>(0xffff0000u);
}

/// [k][n] floats as the right operand x: [n/16][k/2][16] words of two k's.
void columns(const float* x, int k, int n, uint32_t* out) {
  for (int c = 0; c < n; c += kLanes)
    for (int row = 0; row < k; row += 2) {
      const Ints low = upper_half(load(x + area(row, n) + c)), high = upper_half(load(x + area(row + 1, n) + c));
      const Ints words = (low >> 16 & 0xffff) | high;
      std::memcpy(out + area(c, k / 2) + size_t(row / 2) * kLanes, &words, sizeof words);
    }
}

/// finish(row, column, sixteen sums over k of a[row][k] b[k][column ...]); m, n and k are multiples of 32.
template <typename Finish>
void multiply(const uint32_t* a, const uint32_t* b, int m, int n, int k, Finish finish) {
  const int words = k / 2;
  const long a_row = 4L * words;
  memory_is_written();
  for (int column = 0; column < n; column += 2 * kLanes)
    for (int row = 0; row < m; row += 32) {
      const uint32_t *a0 = a + area(row, words), *a1 = a0 + area(16, words), *b0 = b + area(column, words),
                     *b1 = b0 + area(kLanes, words);
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      for (int w = 0; w < words; w += 16) {
        _tile_loadd(4, a0 + w, a_row);
        _tile_loadd(6, b0 + w * kLanes, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + w * kLanes, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + w, a_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      alignas(64) float sums[2][2][16][kLanes];
      _tile_stored(0, sums[0][0], 64);
      _tile_stored(1, sums[0][1], 64);
      _tile_stored(2, sums[1][0], 64);
      _tile_stored(3, sums[1][1], 64);
      for (int r = 0; r < 32; ++r)
        for (int j = 0; j < 2; ++j) finish(row + r, column + j * kLanes, load(sums[r / 16][j][r % 16]));
    }
}

/// to [cols][to_row] = factor * from [rows][from_row] transposed.
void transpose_floats(const float* from, int from_row, int rows, int cols, float factor, float* to, int to_row) {
  for (int r = 0; r < rows; r += kLanes)
    for (int c = 0; c < cols; c += kLanes) {
      Ints v[kLanes];
      for (int i = 0; i < kLanes; ++i) v[i] = (Ints)(load(from + area(r + i, from_row) + c) * factor);
      transpose(v);
      for (int i = 0; i < kLanes; ++i) std::memcpy(to + area(c + i, to_row) + r, &v[i], sizeof v[i]);
    }
}

/// One matrix of m <= n (padded) rows and columns, on scratch of its own.  The steps are taken on x itself: on its Gram
/// matrix, as in train/optim.py, bfloat16 loses the small singular values.
struct Orthogonal {
  int m, n;
  float *x, *gram, *p;                       // [m][n], [m][m] twice
  uint32_t *rows, *turned, *square, *other;  // of x, then of those of m by m

  Orthogonal(Carver& carve, int m, int n)
      : m(m),
        n(n),
        x(carve.floats(area(m, n))),
        gram(carve.floats(area(m, m))),
        p(carve.floats(area(m, m))),
        rows(carve.words(area(m, n) / 2)),
        turned(carve.words(area(m, n) / 2)),
        square(carve.words(area(m, m) / 2)),
        other(carve.words(area(m, m) / 2)) {}

  /// gram = x x'
  void make_gram() const {
    round_rows(x, m, n, rows);
    columns_of_rows(rows, m, n, turned);
    multiply(rows, turned, m, m, n, [&](int r, int c, Lanes sum) { store(gram + area(r, m) + c, sum); });
  }
  /// p = b gram + c gram gram
  void make_p() const {
    round_rows(gram, m, m, square);
    columns_of_rows(square, m, m, other);
    multiply(square, other, m, m, m,
             [&](int r, int c, Lanes sum) { store(p + area(r, m) + c, kC * sum + kB * load(gram + area(r, m) + c)); });
  }
  /// x = a x + p x
  void apply() const {
    round_rows(p, m, m, square);
    columns(x, m, n, turned);
    multiply(square, turned, m, n, m, [&](int r, int c, Lanes sum) {
      float* const at = x + area(r, n) + c;
      store(at, sum + kA * load(at));
    });
  }
  void run(int steps) const {
    for (int i = 0; i < steps; ++i) {
      make_gram();
      make_p();
      apply();
    }
  }
};

/// in, out [height][width]
void orthogonalize(const float* in, int height, int width, int steps, float* out) {
  const bool turn = height > width;
  const int m = std::min(height, width), n = std::max(height, width), wide = padded(n);
  Carver count(nullptr);
  Orthogonal(count, padded(m), wide);
  Carver carve(scratch(count.used()));
  const Orthogonal o(carve, padded(m), wide);
  Lanes squares{};
  for (size_t i = 0; i < area(m, n); i += kLanes) squares += load(in + i) * load(in + i);
  const float scale = 1.0f / (std::sqrt(sum(squares)) + 1e-7f);
  std::fill_n(o.x, area(o.m, o.n), 0.0f);
  if (turn) {
    transpose_floats(in, width, height, width, scale, o.x, wide);
  } else {
    for (int r = 0; r < m; ++r)
      for (int c = 0; c < n; c += kLanes) store(o.x + area(r, wide) + c, load(in + area(r, n) + c) * scale);
  }
  {
    const TileShapes shapes(16, 16);
    o.run(steps);
  }
  if (turn) {
    transpose_floats(o.x, wide, m, n, 1, out, m);
  } else {
    for (int r = 0; r < m; ++r) std::copy_n(o.x + area(r, wide), n, out + area(r, n));
  }
}

constexpr bool kKnown = true;
#else
void orthogonalize(const float*, int, int, int, float*) {}
constexpr bool kKnown = false;
#endif

}  // namespace
}  // namespace lm

extern "C" {

/// out[i] = `steps` Newton-Schulz steps on in[i], both [heights[i]][widths[i]], multiples of 16, in bfloat16 with sums
/// in float.  Returns 0, having done nothing, where there are no tiles for it.
int orthogonalize_all(int count, const int32_t* heights, const int32_t* widths, int steps, const float* const* in,
                      float* const* out) {
  if (!lm::kKnown || !lm::tiles_in_use()) return 0;
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < count; ++i) lm::orthogonalize(in[i], heights[i], widths[i], steps, out[i]);
  return 1;
}
}
