// norm.cc: root mean square, RMSNorm, quantisation and rescaling: what is done once per row; rows.h has the loops.
#include "kernels/rows/norm.h"

#include <algorithm>
#include <bit>

#include "kernels/rows/rows.h"
#include "kernels/ternary/packed.h"

namespace tern {

Scale root_mean_square(std::span<const Act> x, Scale epsilon) {
  TERN_CHECK(!x.empty());
  SquareSum squares = rows::sum_of_squares(x);
  // A square has at most twice the bits of the largest magnitude, the sum of n of them bit_width(n) more.
  const int bits = 2 * (32 - std::countl_zero(squares.magnitudes)) + 64 - std::countl_zero(uint64_t{x.size()});
  const int shift = std::max(0, bits - 63);
  if (shift > 0) {  // so large that the sum has wrapped
    squares.sum = 0;
    for (const Act& a : x) squares.sum += static_cast<uint64_t>(int64_t{a.raw} * a.raw) >> shift;
  }
  constexpr int kSquareBits = 2 * Act::kFractionBits;
  const Scale mean = Scale::from_integer(squares.sum, shift - kSquareBits) / Scale::from_integer(x.size());
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
  rows::normalize(x, divide_by_rms, w, kShift, y);
}

QuantizedRow quantize_activations(std::span<const Act> x, std::span<const NormWeight> w, Scale rms,
                                  std::span<int8_t> codes, int weight_bits) {
  const size_t cols = x.size();
  TERN_CHECK(w.size() == cols && codes.size() == padded_cols(static_cast<uint32_t>(cols)));
  const int product_bits = Act::kFractionBits + weight_bits;
  const auto least = static_cast<uint64_t>((rms / Scale::from_integer(100000)).to_fixed(product_bits));  // 1e-5 * rms
  const uint64_t all = least | rows::product_bits(x, w);  // has as many bits as the largest |v|
  if (all == 0) {
    std::fill(codes.begin(), codes.end(), int8_t{0});
    return {};
  }

  const int shift = 33 - std::countl_zero(all);  // leaves the largest 31 bits
  const int right = std::max(0, shift);
  const int left = std::max(0, -shift);
  const uint32_t largest =
      std::max(static_cast<uint32_t>(least >> right << left), rows::largest_product(x, w, right, left));

  constexpr int kReciprocalBits = 54;
  const auto reciprocal = static_cast<uint32_t>((uint64_t{127} << kReciprocalBits) / largest);  // < 127 * 2^24 < 2^31
  const int32_t sum = rows::quantize(x, w, right, left, reciprocal, codes.first(cols));
  std::fill(codes.begin() + static_cast<std::ptrdiff_t>(cols), codes.end(), int8_t{0});
  return {Scale::from_integer(largest, shift - product_bits) / (Scale::from_integer(127) * rms), sum};
}

template <class Code>
Scale codes_of(std::span<const int32_t> x, Code most, std::span<Code> codes) {
  TERN_CHECK(codes.size() == x.size());
  uint32_t largest = 0;
  for (const int32_t v : x)
    largest = std::max(largest, v < 0 ? 0u - static_cast<uint32_t>(v) : static_cast<uint32_t>(v));
  std::ranges::fill(codes, Code{0});
  if (largest == 0) return {};
  const Scale size = Scale::from_integer(largest), count = Scale::from_integer(static_cast<uint64_t>(most));
  const Rescale to_codes(count / size, 0);
  for (size_t c = 0; c < x.size(); ++c) codes[c] = static_cast<Code>(to_codes(x[c]));
  return size / count;
}

template Scale codes_of(std::span<const int32_t>, int8_t, std::span<int8_t>);
template Scale codes_of(std::span<const int32_t>, int16_t, std::span<int16_t>);

void rescale(std::span<const int32_t> acc, Scale scale, std::span<Act> y) {
  TERN_CHECK(y.size() == acc.size());
  rows::rescale(acc, Rescale(scale, Act::kFractionBits), y);
}

}  // namespace tern
