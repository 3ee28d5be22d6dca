// norm.cc: root mean square, RMSNorm, quantisation to int8 and rescaling back: plain loops, one definition for all
// levels.
//
// The hot loops work on magnitudes: SSE and WebAssembly multiply unsigned 32-bit lanes to 64 bits and shift those right
// logically, but SSE has no arithmetic shift of 64-bit lanes, so compilers vectorise only this form (up to 4 times
// faster).
#include <algorithm>
#include <bit>

#include "kernels/kernels.h"

namespace tern {
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

Scale root_mean_square(std::span<const Act> x, Scale epsilon) {
  TERN_CHECK(!x.empty());
  uint32_t all = 0;  // has as many bits as the largest magnitude
  for (const Act& a : x) all |= magnitude(a.raw);
  // A square has at most twice the bits of the largest magnitude, the sum of n of them bit_width(n) more.
  const int bits = 2 * (32 - std::countl_zero(all)) + 64 - std::countl_zero(uint64_t{x.size()});
  const int shift = std::max(0, bits - 63);
  uint64_t sum = 0;
  for (const Act& a : x) sum += product(a.raw, a.raw) >> shift;
  constexpr int kSquareBits = 2 * Act::kFractionBits;
  const Scale mean = Scale::from_integer(sum, shift - kSquareBits) / Scale::from_integer(x.size());
  return (mean + epsilon).sqrt();
}

void rms_norm(std::span<const Act> x, std::span<const NormWeight> w, Scale epsilon, std::span<Act> y) {
  TERN_CHECK(w.size() == x.size() && y.size() == x.size());
  const Scale rms = root_mean_square(x, epsilon);
  if (rms.is_zero()) {  // only when all of x is 0 and the file's epsilon is too
    std::fill(y.begin(), y.end(), Act{});
    return;
  }
  constexpr int kNormedBits = 22;
  const Rescale divide_by_rms(Scale::from_integer(1) / rms, kNormedBits - Act::kFractionBits);
  constexpr int kShift = kNormedBits + NormWeight::kFractionBits - Act::kFractionBits;
  for (size_t c = 0; c < x.size(); ++c) {
    const int64_t normed = divide_by_rms(x[c].raw);
    y[c].raw = saturate<int32_t>(round_shift(normed * w[c].raw, kShift));
  }
}

QuantizedRow quantize_activations(std::span<const Act> x, std::span<const NormWeight> w, Scale rms,
                                  std::span<int8_t> codes) {
  const size_t cols = x.size();
  TERN_CHECK(w.size() == cols && codes.size() == padded_cols(static_cast<uint32_t>(cols)));
  constexpr int kProductBits = Act::kFractionBits + NormWeight::kFractionBits;
  const auto least = static_cast<uint64_t>((rms / Scale::from_integer(100000)).to_fixed(kProductBits));  // 1e-5 * rms
  uint64_t all = least;  // has as many bits as the largest |v|
  for (size_t c = 0; c < cols; ++c) all |= product(x[c].raw, w[c].raw);
  if (all == 0) {
    std::fill(codes.begin(), codes.end(), int8_t{0});
    return {};
  }

  const int shift = 33 - std::countl_zero(all);  // leaves the largest 31 bits
  const int right = std::max(0, shift);
  const int left = std::max(0, -shift);
  auto largest = static_cast<uint32_t>(least >> right << left);
  for (size_t c = 0; c < cols; ++c) {
    largest = std::max(largest, static_cast<uint32_t>(product(x[c].raw, w[c].raw) >> right << left));
  }

  constexpr int kReciprocalBits = 54;
  const auto reciprocal = static_cast<uint32_t>((uint64_t{127} << kReciprocalBits) / largest);  // < 127 * 2^24 < 2^31
  int32_t sum = 0;
  for (size_t c = 0; c < cols; ++c) {
    const auto v = static_cast<uint32_t>(product(x[c].raw, w[c].raw) >> right << left);
    const bool negative = (x[c].raw ^ w[c].raw) < 0;
    const int32_t code = with_sign(
        static_cast<uint32_t>(round_magnitude(uint64_t{v} * reciprocal, negative, kReciprocalBits)), negative);
    codes[c] = static_cast<int8_t>(code);  // |code| <= 127, since v <= largest
    sum += code;
  }
  std::fill(codes.begin() + static_cast<std::ptrdiff_t>(cols), codes.end(), int8_t{0});
  return {Scale::from_integer(largest, shift - kProductBits) / (Scale::from_integer(127) * rms), sum};
}

void rescale(std::span<const int32_t> acc, Scale scale, std::span<Act> y) {
  TERN_CHECK(y.size() == acc.size());
  const Rescale multiply(scale, Act::kFractionBits);
  for (size_t i = 0; i < acc.size(); ++i) y[i].raw = multiply(acc[i]);
}

}  // namespace tern
