// The three products of a ternary layer, output, input gradient and weight gradient, and the memory for them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "tiles.h"

extern "C" void prefer_huge_pages(void* memory, int64_t bytes);

namespace lm {

constexpr int kTile = 64;  // tokens handled while in the cache

/// Rounded up to what the products take at a time.
inline size_t whole_fours(int tokens) { return static_cast<size_t>(tokens + 3) / 4 * 4; }

/// Hands out arrays that begin at cache lines; with a null base it only counts.
class Carver {
 public:
  explicit Carver(uint8_t* base) : base_(base) {}
  uint8_t* bytes(size_t n) {
    uint8_t* const at = base_ ? base_ + used_ : nullptr;
    used_ += (n + 63) / 64 * 64;
    return at;
  }
  float* floats(size_t n) { return reinterpret_cast<float*>(bytes(4 * n)); }
  uint32_t* words(size_t n) { return reinterpret_cast<uint32_t*>(bytes(4 * n)); }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

/// y[t][n] = scale * sum over k of x[t][k] W[n][k]: a ternary matrix in the order in which `product` reads it.
struct Packed {
  int n, k;
  float scale;
  std::vector<uint32_t> words;
  std::vector<int32_t> offset;

  Packed(int n, int k, float scale)
      : n(n), k(k), scale(scale), words(size_t(n) * size_t(whole_tiles(k / 4))), offset(size_t(n)) {}
  int block() const { return whole_tiles(k / 4) * kLanes; }
  void finish() { offsets(words.data(), block(), n, k / 4, offset.data()); }

  /// W x: codes [rows][cols] as they are.
  static Packed straight(const int8_t* codes, int rows, int cols, float scale) {
    Packed w(rows, cols, scale);
    for (int r = 0; r < rows; r += 16)
      for (int c = 0; c < cols; c += 4) {
        uint32_t* const out = &w.words[size_t(r / 16) * size_t(w.block()) + size_t(c * 4)];
        for (int i = 0; i < 16; ++i) std::memcpy(out + i, codes + size_t(r + i) * size_t(cols) + c, 4);
      }
    w.finish();
    return w;
  }
  /// W^T g.
  static Packed transposed(const int8_t* codes, int rows, int cols, float scale) {
    Packed w(cols, rows, scale);
    interleave(reinterpret_cast<const uint8_t*>(codes), rows, cols, 0, w.words.data());
    w.finish();
    return w;
  }
  /// x [tokens][k] codes + 128, of which 64 bytes beyond the end can be read, x_scale [tokens] -> y [tokens][n]
  void times(const uint8_t* x, const float* x_scale, int tokens, float* y) const {
    float row[kTile];
    for (int t = 0; t < tokens; ++t) row[t] = x_scale[t] * scale;
    const Factors factors{
        reinterpret_cast<const uint32_t*>(x), k / 4, words.data(), block(), k / 4, offset.data(), row};
    products(&factors, 1, {y, n, false}, {0, tokens, 0, n});
  }
};

/// y = x * r * w backwards, g being the gradient of y:  dw += g * x * r,  dx = r * (w*g) - x * r^3/n * sum(w*g*x).
/// `dot` holds that sum in parts; this is the factor of x.
inline float shrink(Lanes dot, float r, int n) { return sum(dot) * r * r * r / static_cast<float>(n); }

/// What a sequence of at most T tokens gives to the gradient of a matrix [rows][cols], as factors of a product.
struct WeightGradient {
  float* step;         // [rows]
  int32_t* offset;     // [cols]
  uint32_t* packed_g;  // [rows][whole tiles of T/4] words of four tokens
  uint32_t* packed_x;  // [cols/16][whole tiles of T/4][16]
  int fours = 0;       // of tokens

  WeightGradient(Carver& carve, size_t T, size_t rows, size_t cols)
      : step(carve.floats(rows)),
        offset(reinterpret_cast<int32_t*>(carve.words(cols))),
        packed_g(carve.words(size_t(whole_tiles(int(whole_fours(int(T))) / 4)) * rows)),
        packed_x(carve.words(size_t(whole_tiles(int(whole_fours(int(T))) / 4)) * cols)) {}

  /// The gradient is the sum over t of gy[t] (code[t] - 128) scale[t].  gy [T][rows] times scale [T] is rounded by
  /// chance, in steps of 1/127 of top [rows], the largest of each column.  code [T, rounded up to fours][cols];
  /// inverse [rows] is scratch.
  void note(const float* gy, const float* top, const uint8_t* code, const float* scale, int T, int rows, int cols,
            float* inverse, Random& random) {
    fours = static_cast<int>(whole_fours(T)) / 4;
    const int whole = whole_tiles(fours);
    for (int c = 0; c < rows; ++c) {
      inverse[c] = top[c] > 0 ? 127.0f * 65536 / top[c] : 0.0f;
      step[c] = top[c] / 127.0f;
    }
    pack(gy, scale, T, rows, inverse, random);
    interleave(code, 4 * fours, cols, 128, packed_x);
    for (int block = 0; block < cols / kLanes; ++block)
      std::fill_n(packed_x + (block * whole + fours) * kLanes, (whole - fours) * kLanes, 0u);
    offsets(packed_x, whole * kLanes, cols, fours, offset);
  }
  Factors factors() const {
    const int whole = whole_tiles(fours);
    return {packed_g, whole, packed_x, whole * kLanes, fours, offset, step};
  }

 private:
  // Tokens that are missing in the last four get zero gradient.
  void pack(const float* gy, const float* scale, int T, int rows, const float* inverse, Random& random) const {
    const int whole = whole_tiles(static_cast<int>(whole_fours(T)) / 4);
    Ints words[kLanes]{};
    for (int first = 0; first < T; first += 4 * kLanes)
      for (int c = 0; c < rows; c += kLanes) {
        for (int t = first; t < std::min(first + 4 * kLanes, T); t += 4) {
          const float* g = gy + size_t(t) * size_t(rows) + c;
          const Ints bits[2] = {random.next(), random.next()};
          const auto byte = [&](int j) {
            return round_by_chance(load(g + j * rows) * scale[t + j] * load(inverse + c),
                                   bits[j / 2] >> 16 * (j % 2)) >>
                   16 << 8 * j;
          };
          const Ints zero = Ints{} + 128;
          words[(t - first) / 4] = t + 4 <= T ? byte(0) | byte(1) | byte(2) | byte(3)
                                              : byte(0) | (t + 1 < T ? byte(1) : zero << 8) |
                                                    (t + 2 < T ? byte(2) : zero << 16) | zero << 24;
        }
        transpose(words);
        for (int row = 0; row < kLanes; ++row)
          std::memcpy(packed_g + size_t(c + row) * size_t(whole) + first / 4, &words[row], sizeof words[row]);
      }
  }
};

/// Memory of one thread that stays from call to call, so that it is neither cleared nor asked for again; two of them.
uint8_t* scratch(size_t bytes, int which = 0);

}  // namespace lm
