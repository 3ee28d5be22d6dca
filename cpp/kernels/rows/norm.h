// norm.h: root mean square, RMSNorm, quantisation to int8 and rescaling back: what is done once per row.
#pragma once

#include <cstdint>
#include <span>

#include "fixed/fixed.h"

namespace tern {

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
///   x, w   [cols]; weight_bits: fraction bits of w, 0 to 46 (below that, no code could tell them from 0)
///   codes  [padded_cols(cols)], 0 beyond cols
///   rms    root_mean_square(x, epsilon): the same for all matrices that read x
/// |v| and m are shifted together until m has 31 bits, dropping bits below; then code = round_shift(v * r, 54) with
/// r = floor(127 * 2^54 / m) < 2^31, so the product stays below 2^62.
QuantizedRow quantize_activations(std::span<const Act> x, std::span<const NormWeight> w, Scale rms,
                                  std::span<int8_t> codes, int weight_bits = NormWeight::kFractionBits);

/// codes[c] = round(most / max|x| * x[c]), by a factor of 31 bits, and what one code is worth in units of x: 0 for
/// zeros.
template <class Code>
Scale codes_of(std::span<const int32_t> x, Code most, std::span<Code> codes);

/// y[i] = acc[i] * scale, the last step of a BitLinear (scale = weight scale * QuantizedRow::scale).
void rescale(std::span<const int32_t> acc, Scale scale, std::span<Act> y);

}  // namespace tern
