// simd128.cc: the operations along a row, four numbers at a time, with the same bits as scalar.cc.
//
// Signed 64-bit numbers are shifted right with a bias, since SSE has no such shift and V8 takes five instructions for
// it.  Where a result may saturate, the four numbers concerned are left to the scalar code: it hardly ever happens, and
// a test for it is cheaper than saturating 64-bit lanes.
#include <algorithm>

#include "fixed/tables.h"
#include "kernels/rows/rows.h"
#include "kernels/simd/simd.h"

namespace tern::simd128 {
namespace {

using simd::Vec;
using simd::Wide;

constexpr uint64_t kSignBit = uint64_t{1} << 63;
constexpr int32_t kLowest = std::numeric_limits<int32_t>::min();

/// saturate(round_shift(x, bits)) for |x| <= 2^62, as long as nothing saturates.
class RoundShift {
 public:
  explicit RoundShift(int bits)
      : bits_(bits),
        half_and_bias_(simd::splat_u64((uint64_t{1} << bits >> 1) + kSignBit)),
        back_(simd::splat_u64((uint64_t{1} << 31) - (kSignBit >> bits))) {}

  /// The rounded numbers plus 2^31: within 32 bits unless they saturate.
  Wide operator()(Wide x) const { return simd::add(simd::shift_right(simd::add(x, half_and_bias_), bits_), back_); }

 private:
  int bits_;
  Vec half_and_bias_, back_;
};

inline bool fits(Wide biased) { return !simd::any(simd::narrow_high(biased)); }
inline Vec without_bias(Wide biased) { return simd::bit_xor(simd::narrow_low(biased), simd::splat_i32(kLowest)); }

/// Calls four(c) for every whole four; it returns false to leave them to rest(c, count), which also does the last ones.
template <class Four, class Rest>
inline void in_fours(size_t n, Four four, Rest rest) {
  size_t c = 0;
  for (; c + 4 <= n; c += 4) {
    if (!four(c)) rest(c, size_t{4});
  }
  if (c < n) rest(c, n - c);
}

/// The magnitudes of four products of 32-bit numbers.
inline Wide products(const Act* x, const NormWeight* w) {
  return simd::multiply_u32(simd::abs_i32(simd::load(x)), simd::abs_i32(simd::load(w)));
}

/// {sum, bitwise or} of two 64-bit lanes and more.
struct Lanes {
  uint64_t lanes[2];
  explicit Lanes(Vec v) { simd::store(lanes, v); }
};

/// sigmoid() with the table: Q0.31 below 2^31, so that it is a positive int32.
inline Vec sigmoid(Vec x) {
  constexpr int32_t kEnd = 16 << Act::kFractionBits;
  constexpr int kStepBits = Act::kFractionBits - 5;
  constexpr const auto& kTable = tables::kSigmoid;
  // Beyond the end the value is that of the last entry, which the line before it reaches at its last point.
  static_assert(kTable[1024] - kTable[1023] <= 1u << (kStepBits - 1) && kTable[1024] >> 31 == 0);
  // The rise between two entries is split into two numbers that 16-bit products take.
  static_assert((kTable[513] - kTable[512]) >> kStepBits < 1u << 15, "the steepest step");
  const Vec inside = simd::min_i32(simd::max_i32(x, simd::splat_i32(-kEnd)), simd::splat_i32(kEnd - 1));
  const Vec offset = simd::add_i32(inside, simd::splat_i32(kEnd));
  const Vec index = simd::shift_right_u32<kStepBits>(offset);
  const Vec mask = simd::splat_i32((1 << kStepBits) - 1);
  const Vec fraction = simd::bit_and(offset, mask);
  const Vec first = simd::load_pairs(&kTable[simd::lane_u32<0>(index)], &kTable[simd::lane_u32<1>(index)]);
  const Vec last = simd::load_pairs(&kTable[simd::lane_u32<2>(index)], &kTable[simd::lane_u32<3>(index)]);
  const Vec low = simd::even_lanes(first, last);
  const Vec rise = simd::sub_i32(simd::odd_lanes(first, last), low);
  const Vec coarse = simd::dot_i16(simd::shift_right_u32<kStepBits>(rise), fraction);
  const Vec fine =
      simd::add_i32(simd::dot_i16(simd::bit_and(rise, mask), fraction), simd::splat_i32(1 << (kStepBits - 1)));
  return simd::add_i32(simd::add_i32(low, coarse), simd::shift_right_u32<kStepBits>(fine));
}

/// The low 32 bits of round_shift(x, 31).
inline Vec from_q31(Wide x) {
  constexpr int kBits = Gate::kFractionBits;
  return simd::narrow_low(simd::shift_right(simd::add(x, simd::splat_u64(uint64_t{1} << (kBits - 1))), kBits));
}

inline Vec silu(Vec x) { return from_q31(simd::multiply_i32(x, sigmoid(x))); }

inline Vec add_saturated(Vec a, Vec b) {
  const Vec sum = simd::add_i32(a, b);
  // Too far when both have the sign that the sum has not.
  const Vec wrapped = simd::bit_and(simd::bit_xor(a, sum), simd::bit_xor(b, sum));
  const Vec end = simd::bit_xor(simd::shift_right_i32<31>(a), simd::splat_i32(~kLowest));
  return simd::select(simd::shift_right_i32<31>(wrapped), end, sum);
}

}  // namespace

SquareSum sum_of_squares(std::span<const Act> x) {
  Vec sum = simd::zero(), magnitudes = simd::zero();
  SquareSum squares{};
  in_fours(
      x.size(),
      [&](size_t c) {
        const Vec v = simd::abs_i32(simd::load(&x[c]));
        const Wide square = simd::multiply_u32(v, v);
        sum = simd::add_u64(sum, simd::add_u64(square.a, square.b));
        magnitudes = simd::bit_or(magnitudes, v);
        return true;
      },
      [&](size_t c, size_t count) { squares = scalar::sum_of_squares(x.subspan(c, count)); });
  const Lanes sums(sum), bits(magnitudes);
  squares.sum += sums.lanes[0] + sums.lanes[1];
  const uint64_t all = bits.lanes[0] | bits.lanes[1];
  squares.magnitudes |= static_cast<uint32_t>(all | all >> 32);
  return squares;
}

uint64_t product_bits(std::span<const Act> x, std::span<const NormWeight> w) {
  Vec all = simd::zero();
  uint64_t rest = 0;
  in_fours(
      x.size(),
      [&](size_t c) {
        all = simd::bit_or(all, simd::merge(products(&x[c], &w[c])));
        return true;
      },
      [&](size_t c, size_t count) { rest = scalar::product_bits(x.subspan(c, count), w.subspan(c, count)); });
  const Lanes bits(all);
  return bits.lanes[0] | bits.lanes[1] | rest;
}

namespace {

/// x >> right << left.  The left shift is left out where it is 0: it takes V8 three instructions.
template <bool kLeft>
inline Wide shifted(Wide x, int right, int left) {
  const Wide down = simd::shift_right(x, right);
  return kLeft ? simd::shift_left(down, left) : down;
}

template <bool kLeft>
uint32_t largest_product_of(std::span<const Act> x, std::span<const NormWeight> w, int right, int left) {
  Vec largest = simd::zero();
  uint32_t rest = 0;
  in_fours(
      x.size(),
      [&](size_t c) {
        largest = simd::max_u32(largest, simd::narrow_low(shifted<kLeft>(products(&x[c], &w[c]), right, left)));
        return true;
      },
      [&](size_t c, size_t n) { rest = scalar::largest_product(x.subspan(c, n), w.subspan(c, n), right, left); });
  return std::max({rest, simd::lane_u32<0>(largest), simd::lane_u32<1>(largest), simd::lane_u32<2>(largest),
                   simd::lane_u32<3>(largest)});
}

template <bool kLeft>
int32_t quantize_with(std::span<const Act> x, std::span<const NormWeight> w, int right, int left, uint32_t reciprocal,
                      std::span<int8_t> codes) {
  constexpr int kReciprocalBits = 54;
  const Vec half_and_bias = simd::splat_u64((uint64_t{1} << (kReciprocalBits - 1)) + kSignBit);
  const Vec bias = simd::splat_i32(1 << (63 - kReciprocalBits));
  const Vec factor = simd::splat_i32(static_cast<int32_t>(reciprocal));
  Vec sums = simd::zero();
  const auto four = [&](size_t c) {
    const Vec v = simd::narrow_low(shifted<kLeft>(products(&x[c], &w[c]), right, left));
    const Vec negative = simd::shift_right_i32<31>(simd::bit_xor(simd::load(&x[c]), simd::load(&w[c])));
    const Vec with_sign = simd::sub_i32(simd::bit_xor(v, negative), negative);
    const Wide biased = simd::add(simd::multiply_i32(with_sign, factor), half_and_bias);
    const Vec code = simd::sub_i32(simd::narrow_low(simd::shift_right(biased, kReciprocalBits)), bias);
    sums = simd::add_i32(sums, code);
    return code;
  };
  size_t c = 0;
  for (; c + 16 <= x.size(); c += 16) {
    const Vec c0 = four(c), c4 = four(c + 4), c8 = four(c + 8), c12 = four(c + 12);
    simd::store(&codes[c], simd::pack_i8(c0, c4, c8, c12));
  }
  const int32_t rest = scalar::quantize(x.subspan(c), w.subspan(c), right, left, reciprocal, codes.subspan(c));
  return static_cast<int32_t>(simd::lane_u32<0>(sums) + simd::lane_u32<1>(sums) + simd::lane_u32<2>(sums) +
                              simd::lane_u32<3>(sums)) +
         rest;
}

}  // namespace

uint32_t largest_product(std::span<const Act> x, std::span<const NormWeight> w, int right, int left) {
  return left == 0 ? largest_product_of<false>(x, w, right, 0) : largest_product_of<true>(x, w, 0, left);
}

int32_t quantize(std::span<const Act> x, std::span<const NormWeight> w, int right, int left, uint32_t reciprocal,
                 std::span<int8_t> codes) {
  return left == 0 ? quantize_with<false>(x, w, right, 0, reciprocal, codes)
                   : quantize_with<true>(x, w, 0, left, reciprocal, codes);
}

void rescale(std::span<const int32_t> acc, const Rescale& scale, std::span<Act> y) {
  const RoundShift round(scale.shift);
  const Vec mantissa = simd::splat_i32(scale.mantissa);
  in_fours(
      acc.size(),
      [&](size_t c) {
        const Wide scaled = round(simd::multiply_i32(simd::load(&acc[c]), mantissa));
        simd::store(&y[c], without_bias(scaled));
        return fits(scaled);
      },
      [&](size_t c, size_t count) { scalar::rescale(acc.subspan(c, count), scale, y.subspan(c, count)); });
}

void normalize(std::span<const Act> x, const Rescale& divide, std::span<const NormWeight> w, int shift,
               std::span<Act> y) {
  const RoundShift round_normed(divide.shift), round(shift);
  const Vec mantissa = simd::splat_i32(divide.mantissa);
  in_fours(
      x.size(),
      [&](size_t c) {
        const Wide normed = round_normed(simd::multiply_i32(simd::load(&x[c]), mantissa));
        const Wide weighted = round(simd::multiply_i32(without_bias(normed), simd::load(&w[c])));
        if (simd::any(simd::bit_or(simd::narrow_high(normed), simd::narrow_high(weighted)))) return false;
        simd::store(&y[c], without_bias(weighted));
        return true;
      },
      [&](size_t c, size_t count) {
        scalar::normalize(x.subspan(c, count), divide, w.subspan(c, count), shift, y.subspan(c, count));
      });
}

void add(std::span<Act> h, std::span<const Act> x) {
  in_fours(
      h.size(),
      [&](size_t c) {
        simd::store(&h[c], add_saturated(simd::load(&h[c]), simd::load(&x[c])));
        return true;
      },
      [&](size_t c, size_t count) { scalar::add(h.subspan(c, count), x.subspan(c, count)); });
}

void silu_product(std::span<const Act> gate, std::span<const Act> x, Sigmoid kind, std::span<Act> y) {
  if (kind != Sigmoid::kTable) return scalar::silu_product(gate, x, kind, y);
  const RoundShift round(Act::kFractionBits);
  in_fours(
      y.size(),
      [&](size_t c) {
        const Wide product = round(simd::multiply_i32(silu(simd::load(&gate[c])), simd::load(&x[c])));
        if (!fits(product)) return false;
        simd::store(&y[c], without_bias(product));
        return true;
      },
      [&](size_t c, size_t count) {
        scalar::silu_product(gate.subspan(c, count), x.subspan(c, count), kind, y.subspan(c, count));
      });
}

void convolution(std::span<const NormWeight> taps, std::span<const Act> bias, const Act* window, size_t stride,
                 Sigmoid kind, std::span<Act> y) {
  if (kind != Sigmoid::kTable) return scalar::convolution(taps, bias, window, stride, kind, y);
  const size_t n = y.size(), count = taps.size() / n;
  const RoundShift round(NormWeight::kFractionBits);
  in_fours(
      n,
      [&](size_t c) {
        Wide sum{simd::zero(), simd::zero()};
        if (!bias.empty()) {
          sum = simd::multiply_i32(simd::load(&bias[c]), simd::splat_i32(1 << NormWeight::kFractionBits));
        }
        for (size_t k = 0; k < count; ++k) {
          sum = simd::add(sum, simd::multiply_i32(simd::load(&taps[k * n + c]), simd::load(window + k * stride + c)));
        }
        const Wide rounded = round(sum);
        simd::store(&y[c], silu(without_bias(rounded)));
        return fits(rounded);
      },
      [&](size_t c, size_t some) {
        for (const size_t end = c + some; c < end; ++c) {
          y[c] = tern::silu(convolution_at(taps, bias, n, window, stride, c), kind);
        }
      });
}

void recurrence(std::span<const Act> i, std::span<const Act> z, std::span<const Gate> keep, Sigmoid kind,
                std::span<Cell> s, std::span<Cell> after) {
  if (kind != Sigmoid::kTable) return scalar::recurrence(i, z, keep, kind, s, after);
  constexpr int kFiner = Cell::kFractionBits - Act::kFractionBits;
  const Vec most = simd::splat_i32(~kLowest >> kFiner), least = simd::splat_i32(kLowest >> kFiner);
  in_fours(
      s.size(),
      [&](size_t c) {
        Vec k = sigmoid(simd::sub_i32(simd::zero(), simd::max_i32(simd::load(&z[c]), simd::splat_i32(-~kLowest))));
        if (!keep.empty()) k = from_q31(simd::multiply_u32(k, simd::load(&keep[c])));
        const Vec input = silu(simd::load(&i[c]));
        const Vec finer = simd::shift_left_i32<kFiner>(simd::max_i32(simd::min_i32(input, most), least));
        const Vec too_large = simd::shift_right_u32<1>(simd::greater_i32(input, most));
        const Vec u = simd::bit_or(finer, too_large);  // the largest number has ones below `finer`
        const Vec old = simd::load(&s[c]);
        // k (u - s) as a difference of products that fit; s moves towards u and not beyond, so nothing saturates.
        const Vec change = from_q31(simd::sub(simd::multiply_i32(k, u), simd::multiply_i32(k, old)));
        const Vec now = simd::add_i32(old, change);
        simd::store(&s[c], now);
        simd::store(&after[c], now);
        return true;
      },
      [&](size_t c, size_t count) {
        scalar::recurrence(i.subspan(c, count), z.subspan(c, count), keep.empty() ? keep : keep.subspan(c, count), kind,
                           s.subspan(c, count), after.subspan(c, count));
      });
}

void state_space(std::span<const Act> a, std::span<const Act> z, std::span<const NormWeight> skip,
                 const StateSpaceHead& head, std::span<Cell> s, std::span<Act> y) {
  const RoundShift round_input(head.input.shift), round_read(Cell::kFractionBits), round(Act::kFractionBits);
  const Vec input = simd::splat_i32(head.input.mantissa), output = simd::splat_i32(head.output.raw);
  const Vec decay = simd::splat_i32(static_cast<int32_t>(head.decay.raw));
  in_fours(
      s.size(),
      [&](size_t c) {
        const Vec x = simd::load(&a[c]);
        const Wide entering = round_input(simd::multiply_i32(x, input));
        const Vec kept = from_q31(simd::multiply_i32(simd::load(&s[c]), decay));
        const Vec now = add_saturated(kept, without_bias(entering));
        const Wide read = round_read(simd::multiply_i32(now, output));
        const Wide skipped = round(simd::multiply_i32(x, simd::load(&skip[c])));
        const Vec sum = add_saturated(without_bias(read), without_bias(skipped));
        const Wide gated = round(simd::multiply_i32(sum, silu(simd::load(&z[c]))));
        const Vec too_large = simd::bit_or(simd::bit_or(simd::narrow_high(entering), simd::narrow_high(read)),
                                           simd::bit_or(simd::narrow_high(skipped), simd::narrow_high(gated)));
        if (simd::any(too_large)) return false;
        simd::store(&s[c], now);
        simd::store(&y[c], without_bias(gated));
        return true;
      },
      [&](size_t c, size_t count) {
        scalar::state_space(a.subspan(c, count), z.subspan(c, count), skip.subspan(c, count), head, s.subspan(c, count),
                            y.subspan(c, count));
      });
}

}  // namespace tern::simd128
