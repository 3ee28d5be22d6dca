// Router, smoothing and int8 layers of dynamic chunking, in integers.
// SPDX-License-Identifier: MIT
#include "model/chunking.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace tern {
namespace {

/// high * 2^32 + low: sums of products of 32-bit numbers, exact for any vector.
struct Wide {
  int64_t high = 0;
  uint32_t low = 0;

  bool negative() const { return high < 0; }

  /// |this|, without the bits below the highest 64.
  Scale magnitude() const {
    const uint32_t carry = low == 0 ? 1 : 0;
    const uint64_t top = negative() ? ~static_cast<uint64_t>(high) + carry : static_cast<uint64_t>(high);
    const uint32_t bottom = negative() ? 0u - low : low;
    const int dropped = std::max(0, 32 - std::countl_zero(top));
    if (dropped == 0) return Scale::from_integer(top << 32 | bottom);
    return Scale::from_integer(top << (32 - dropped) | bottom >> dropped, dropped);
  }
};

Wide dot(std::span<const Act> a, std::span<const Act> b) {
  TERN_CHECK(a.size() == b.size() && a.size() < (size_t{1} << 17));
  int64_t high = 0;
  uint64_t low = 0;
  for (size_t c = 0; c < a.size(); ++c) {
    const int64_t product = int64_t{a[c].raw} * b[c].raw;
    high += product >> 32;
    low += static_cast<uint32_t>(product);
  }
  return {high + static_cast<int64_t>(low >> 32), static_cast<uint32_t>(low)};
}

}  // namespace

void dense_linear(const DenseLinear& layer, std::span<const int8_t> codes, Scale code_scale, std::span<int32_t> acc,
                  std::span<Act> y) {
  TERN_CHECK(y.size() == acc.size() && y.size() == layer.scale.size());
  dense_matvec(layer.weight.view(), codes, acc);
  for (size_t r = 0; r < y.size(); ++r) {
    y[r].raw = Rescale(layer.scale[r] * code_scale, Act::kFractionBits)(acc[r]);
    if (!layer.bias.empty()) y[r] = add(y[r], layer.bias[r]);
  }
}

std::optional<Gate> boundary_probability(std::span<const Act> q, std::span<const Act> k) {
  const Wide product = dot(q, k);
  if (!product.negative()) return std::nullopt;
  const Scale lengths = (dot(q, q).magnitude() * dot(k, k).magnitude()).sqrt();  // not 0, since the product is not
  constexpr int64_t kHalf = int64_t{1} << (Gate::kFractionBits - 1);
  const int64_t cosine = std::min((product.magnitude() / lengths).to_fixed(Gate::kFractionBits - 1), kHalf);
  return Gate{static_cast<uint32_t>(kHalf + cosine)};
}

void blend_chunk(Gate p, std::span<const Act> y, std::span<State> z) {
  constexpr int kFiner = State::kFractionBits - Act::kFractionBits;
  TERN_CHECK(y.size() == z.size());
  for (size_t c = 0; c < z.size(); ++c) {
    const int64_t target = saturate<int32_t>(int64_t{y[c].raw} * (1 << kFiner));
    // |target - z| < 2^32 and p <= 2^31: with the half added the product stays below 2^63.
    z[c].raw = saturate<int32_t>(z[c].raw + round_shift(int64_t{p.raw} * (target - z[c].raw), Gate::kFractionBits));
  }
}

}  // namespace tern
