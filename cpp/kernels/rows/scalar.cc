// scalar.cc: the definition of the operations along a row; the SIMD versions must equal it bit for bit.
//
// The loops of norms and quantisation work on magnitudes: SSE and WebAssembly multiply unsigned 32-bit lanes to 64 bits
// and shift those right logically, but SSE has no arithmetic shift of 64-bit lanes, so compilers vectorise only this.
#include <algorithm>

#include "kernels/rows/rows.h"

namespace tern::scalar {
namespace {

constexpr uint32_t magnitude(int32_t x) { return x < 0 ? 0u - static_cast<uint32_t>(x) : static_cast<uint32_t>(x); }

uint64_t product(int32_t x, int32_t w) { return uint64_t{magnitude(x)} * magnitude(w); }

/// round_shift(x, bits) of x = -product or product, without its sign: for a negative x, adding the half and flooring is
/// adding the half less one and flooring the magnitude.  1 <= bits, product <= 2^62.
constexpr uint64_t round_magnitude(uint64_t product, bool negative, int bits) {
  return (product + (uint64_t{1} << (bits - 1)) - (negative ? 1 : 0)) >> bits;
}
static_assert(round_magnitude(1, true, 1) == 0 && round_magnitude(3, true, 1) == 1 &&
              round_magnitude(1, false, 1) == 1);

constexpr int32_t with_sign(uint32_t magnitude, bool negative) {
  return static_cast<int32_t>(negative ? 0u - magnitude : magnitude);
}

}  // namespace

SquareSum sum_of_squares(std::span<const Act> x) {
  SquareSum squares{};
  for (const Act& a : x) {
    squares.sum += product(a.raw, a.raw);
    squares.magnitudes |= magnitude(a.raw);
  }
  return squares;
}

uint64_t product_bits(std::span<const Act> x, std::span<const NormWeight> w) {
  uint64_t bits = 0;
  for (size_t c = 0; c < x.size(); ++c) bits |= product(x[c].raw, w[c].raw);
  return bits;
}

uint32_t largest_product(std::span<const Act> x, std::span<const NormWeight> w, int right, int left) {
  uint32_t largest = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    largest = std::max(largest, static_cast<uint32_t>(product(x[c].raw, w[c].raw) >> right << left));
  }
  return largest;
}

int32_t quantize(std::span<const Act> x, std::span<const NormWeight> w, int right, int left, uint32_t reciprocal,
                 std::span<int8_t> codes) {
  constexpr int kReciprocalBits = 54;
  int32_t sum = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    const auto v = static_cast<uint32_t>(product(x[c].raw, w[c].raw) >> right << left);
    const bool negative = (x[c].raw ^ w[c].raw) < 0;
    const uint64_t code = round_magnitude(uint64_t{v} * reciprocal, negative, kReciprocalBits);
    codes[c] = static_cast<int8_t>(with_sign(static_cast<uint32_t>(code), negative));
    sum += codes[c];
  }
  return sum;
}

void rescale(std::span<const int32_t> acc, const Rescale& scale, std::span<Act> y) {
  for (size_t c = 0; c < acc.size(); ++c) y[c].raw = scale(acc[c]);
}

void normalize(std::span<const Act> x, const Rescale& divide, std::span<const NormWeight> w, int shift,
               std::span<Act> y) {
  for (size_t c = 0; c < x.size(); ++c) {
    y[c].raw = saturate<int32_t>(round_shift(int64_t{divide(x[c].raw)} * w[c].raw, shift));
  }
}

void add(std::span<Act> h, std::span<const Act> x) {
  for (size_t c = 0; c < h.size(); ++c) h[c] = tern::add(h[c], x[c]);
}

void silu_product(std::span<const Act> gate, std::span<const Act> x, Sigmoid kind, std::span<Act> y) {
  for (size_t c = 0; c < y.size(); ++c) y[c] = multiply(silu(gate[c], kind), x[c]);
}

void convolution(std::span<const NormWeight> taps, std::span<const Act> bias, const Act* window, size_t stride,
                 Sigmoid kind, std::span<Act> y) {
  for (size_t c = 0; c < y.size(); ++c) y[c] = silu(convolution_at(taps, bias, y.size(), window, stride, c), kind);
}

void recurrence(std::span<const Act> i, std::span<const Act> z, std::span<const Gate> keep, Sigmoid kind,
                std::span<Cell> s, std::span<Cell> after) {
  constexpr int kFiner = Cell::kFractionBits - Act::kFractionBits;
  for (size_t c = 0; c < s.size(); ++c) {
    const Act minus_z{saturate<int32_t>(-int64_t{z[c].raw})};
    int64_t k = sigmoid(minus_z, kind).raw;
    if (!keep.empty()) k = round_shift(k * keep[c].raw, Gate::kFractionBits);
    const int64_t u = saturate<int32_t>(int64_t{silu(i[c], kind).raw} * (1 << kFiner));
    // |u - s| < 2^32 and k <= 2^31: with the half added the product stays below 2^63.
    s[c].raw = saturate<int32_t>(s[c].raw + round_shift(k * (u - s[c].raw), Gate::kFractionBits));
    after[c] = s[c];
  }
}

void state_space(std::span<const Act> a, std::span<const Act> z, std::span<const NormWeight> skip,
                 const StateSpaceHead& head, std::span<Cell> s, std::span<Act> y) {
  for (size_t c = 0; c < s.size(); ++c) {
    const int64_t kept = round_shift(int64_t{s[c].raw} * head.decay.raw, Gate::kFractionBits);
    s[c].raw = saturate<int32_t>(kept + head.input(a[c].raw));
    const int64_t read = round_shift(int64_t{s[c].raw} * head.output.raw, Cell::kFractionBits);
    y[c] = multiply(tern::add({saturate<int32_t>(read)}, multiply(skip[c], a[c])), silu(z[c]));
  }
}

}  // namespace tern::scalar
