// norm.cc: root mean square, RMSNorm, quantisation to int8 and rescaling back: plain loops, one definition for all
// levels.
#include <algorithm>
#include <bit>

#include "kernels/kernels.h"

namespace tern {
namespace {

uint32_t magnitude(int32_t x) { return x < 0 ? 0u - static_cast<uint32_t>(x) : static_cast<uint32_t>(x); }

uint64_t magnitude(int64_t x) { return x < 0 ? uint64_t{0} - static_cast<uint64_t>(x) : static_cast<uint64_t>(x); }

int64_t product(Act x, NormWeight w) { return int64_t{x.raw} * w.raw; }  // Q.32

}  // namespace

Scale root_mean_square(std::span<const Act> x, Scale epsilon) {
  TERN_CHECK(!x.empty());
  uint32_t largest = 0;
  for (const Act a : x) largest = std::max(largest, magnitude(a.raw));
  // A square has at most 2 * bit_width(largest) bits, the sum of n of them bit_width(n) more.
  const int bits = 2 * (32 - std::countl_zero(largest)) + 64 - std::countl_zero(uint64_t{x.size()});
  const int shift = std::max(0, bits - 63);
  uint64_t sum = 0;
  for (const Act a : x) sum += static_cast<uint64_t>(int64_t{a.raw} * a.raw) >> shift;
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
  for (size_t c = 0; c < x.size(); ++c) {
    const int64_t normed = divide_by_rms(x[c].raw);
    y[c].raw =
        saturate<int32_t>(round_shift(normed * w[c].raw, kNormedBits + NormWeight::kFractionBits - Act::kFractionBits));
  }
}

QuantizedRow quantize_activations(std::span<const Act> x, std::span<const NormWeight> w, Scale rms,
                                  std::span<int8_t> codes) {
  TERN_CHECK(w.size() == x.size() && codes.size() == padded_cols(static_cast<uint32_t>(x.size())));
  constexpr int kProductBits = Act::kFractionBits + NormWeight::kFractionBits;
  uint64_t largest = 0;
  for (size_t c = 0; c < x.size(); ++c) largest = std::max(largest, magnitude(product(x[c], w[c])));
  const Scale floor = rms / Scale::from_integer(100000);  // 1e-5 * rms
  largest = std::max(largest, static_cast<uint64_t>(floor.to_fixed(kProductBits)));
  if (largest == 0) {
    std::fill(codes.begin(), codes.end(), int8_t{0});
    return {};
  }

  // One common shift gives the largest 31 bits.  Shifting right floors, so that every |v| still fits in an int32.
  const int shift = 33 - std::countl_zero(largest);
  const int right = std::max(0, shift);
  const int left = std::max(0, -shift);
  constexpr int kReciprocalBits = 54;
  const auto reciprocal =
      static_cast<int32_t>((uint64_t{127} << kReciprocalBits) / (largest >> right << left));  // < 127 * 2^24 < 2^31
  int32_t sum = 0;
  for (size_t c = 0; c < x.size(); ++c) {
    const auto v = static_cast<int32_t>(product(x[c], w[c]) >> right << left);
    const auto code = static_cast<int32_t>(round_shift(int64_t{v} * reciprocal, kReciprocalBits));
    codes[c] = static_cast<int8_t>(std::clamp(code, -127, 127));
    sum += codes[c];
  }
  std::fill(codes.begin() + static_cast<std::ptrdiff_t>(x.size()), codes.end(), int8_t{0});
  return {Scale::from_integer(largest, -kProductBits) / (Scale::from_integer(127) * rms), sum};
}

void rescale(std::span<const int32_t> acc, Scale scale, std::span<Act> y) {
  TERN_CHECK(y.size() == acc.size());
  const Rescale multiply(scale, Act::kFractionBits);
  for (size_t i = 0; i < acc.size(); ++i) y[i].raw = multiply(acc[i]);
}

}  // namespace tern
