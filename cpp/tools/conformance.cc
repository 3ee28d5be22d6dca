// conformance.cc: takes a flat list of numbers apart, calls the engine's operation of that name, and lists the result.
// SPDX-License-Identifier: MIT
#include "tools/conformance.h"

#include <utility>

#include "fixed/fixed.h"
#include "fixed/functions.h"
#include "format/ggml_types.h"
#include "kernels/kernels.h"
#include "kernels/rows/rows.h"
#include "model/layers/attention.h"
#include "model/layers/bit_linear.h"
#include "model/layers/chunking.h"
#include "model/layers/dense_linear.h"
#include "model/layers/row_operations.h"
#include "model/layers/state_space.h"
#include "text/sampler.h"
#include "text/softmax.h"

namespace tern {
namespace {

/// The inputs in order; asking for more than there are is a broken promise.
class Inputs {
 public:
  explicit Inputs(std::span<const int64_t> numbers) : numbers_(numbers) {}

  int64_t next() { return take(1).front(); }
  int32_t i32() { return static_cast<int32_t>(next()); }
  uint32_t u32() { return static_cast<uint32_t>(next()); }
  uint64_t u64() { return static_cast<uint64_t>(next()); }
  size_t count() { return static_cast<size_t>(next()); }
  Scale scale() {
    const uint64_t value = u64();
    return Scale::from_integer(value, i32());
  }
  Scale scale_of_f32() { return Scale::from_f32_bits(u32()).value_or(Scale{}); }
  Sigmoid sigmoid() { return next() == 0 ? Sigmoid::kTable : Sigmoid::kPiecewiseLinear; }

  template <class Number>
  std::vector<Number> row(size_t size) {
    std::vector<Number> row;
    for (const int64_t number : take(size)) row.push_back({static_cast<typename Number::RawType>(number)});
    return row;
  }

  template <class Integer>
  std::vector<Integer> integers(size_t size) {
    std::vector<Integer> row;
    for (const int64_t number : take(size)) row.push_back(static_cast<Integer>(number));
    return row;
  }

  bool all_taken() const { return numbers_.empty(); }

 private:
  std::span<const int64_t> take(size_t count) {
    TERN_CHECK(count <= numbers_.size());
    const auto taken = numbers_.first(count);
    numbers_ = numbers_.subspan(count);
    return taken;
  }

  std::span<const int64_t> numbers_;
};

using Outputs = std::vector<int64_t>;

Outputs of(Scale scale) { return {scale.mantissa, scale.exponent}; }

template <class Integer>
Outputs of(const std::optional<Integer>& number) {
  return number ? Outputs{1, *number} : Outputs{0, 0};
}

template <class Number>
Outputs of(const std::vector<Number>& row) {
  Outputs outputs;
  for (const Number& number : row) outputs.push_back(number.raw);
  return outputs;
}

// ---- Functions ------------------------------------------------------------------------------------------------------

Outputs round_shift(Inputs& in) {
  const int64_t a = in.next();
  return {tern::round_shift(a, in.i32())};
}

Outputs multiply(Inputs& in) {
  const Act a{in.i32()};
  return {tern::multiply(a, {in.i32()}).raw};
}

Outputs add(Inputs& in) {
  const Act a{in.i32()};
  return {tern::add(a, {in.i32()}).raw};
}

Outputs isqrt(Inputs& in) { return {isqrt64(in.u64())}; }

Outputs scale(Inputs& in) { return of(in.scale()); }

Outputs scale_add(Inputs& in) {
  const Scale a = in.scale();
  return of(a + in.scale());
}

Outputs scale_multiply(Inputs& in) {
  const Scale a = in.scale();
  return of(a * in.scale());
}

Outputs scale_divide(Inputs& in) {
  const Scale a = in.scale(), b = in.scale();
  return of(a / b);
}

Outputs scale_sqrt(Inputs& in) { return of(in.scale().sqrt()); }

Outputs scale_to_fixed(Inputs& in) {
  const Scale a = in.scale();
  return {a.to_fixed(in.i32())};
}

Outputs rescale(Inputs& in) {
  const Scale a = in.scale();
  const Rescale rescale(a, in.i32());
  return {rescale(in.i32())};
}

Outputs f32_to_fixed(Inputs& in) {
  const uint32_t bits = in.u32();
  return of(fixed_from_f32_bits(bits, in.i32()));
}

Outputs f16_to_fixed(Inputs& in) {
  const uint32_t bits = f32_bits_from_f16(static_cast<uint16_t>(in.next()));
  return of(fixed_from_f32_bits(bits, in.i32()));
}

Outputs f32_to_scale(Inputs& in) {
  const std::optional<Scale> scale = Scale::from_f32_bits(in.u32());
  return scale ? Outputs{1, scale->mantissa, scale->exponent} : Outputs{0, 0, 0};
}

Outputs sigmoid(Inputs& in) {
  const Sigmoid kind = in.sigmoid();
  return {tern::sigmoid(Act{in.i32()}, kind).raw};
}

Outputs silu(Inputs& in) {
  const Sigmoid kind = in.sigmoid();
  return {tern::silu(Act{in.i32()}, kind).raw};
}

Outputs exp2_negative(Inputs& in) { return {tern::exp2_negative(in.u32())}; }

Outputs exp_negative(Inputs& in) { return {tern::exp_negative(Step{in.i32()}).raw}; }

Outputs softplus(Inputs& in) { return {tern::softplus(Act{in.i32()}).raw}; }

Outputs sine(Inputs& in) { return {tern::sine(in.u32())}; }

Outputs log2(Inputs& in) { return {static_cast<int64_t>(log2_of(in.u64()).raw)}; }

Outputs random(Inputs& in) {
  Pcg32 generator(in.u64());
  Outputs words(in.count());
  for (int64_t& word : words) word = generator.next();
  return words;
}

// ---- Operations on rows ---------------------------------------------------------------------------------------------

Outputs root_mean_square(Inputs& in) {
  const Scale epsilon = in.scale_of_f32();
  const size_t n = in.count();
  return of(tern::root_mean_square(in.row<Act>(n), epsilon));
}

Outputs rms_norm(Inputs& in) {
  const Scale epsilon = in.scale_of_f32();
  const size_t n = in.count();
  const auto x = in.row<Act>(n);
  const auto weight = in.row<NormWeight>(n);
  std::vector<Act> y(n);
  tern::rms_norm(std::span<const Act>(x), weight, epsilon, std::span(y));
  return of(y);
}

Outputs quantize(Inputs& in) {
  const Scale epsilon = in.scale_of_f32();
  const size_t n = in.count();
  const auto x = in.row<Act>(n);
  const auto weight = in.row<NormWeight>(n);
  std::vector<int8_t> codes(padded_cols(static_cast<uint32_t>(n)));
  const QuantizedRow row = quantize_activations(x, weight, tern::root_mean_square(x, epsilon), codes);
  Outputs outputs(codes.begin(), codes.begin() + static_cast<std::ptrdiff_t>(n));
  outputs.push_back(row.scale.mantissa);
  outputs.push_back(row.scale.exponent);
  return outputs;
}

Outputs bit_linear(Inputs& in) {
  const Scale epsilon = in.scale_of_f32();
  BitLinear layer;
  layer.epsilon = epsilon;
  layer.scale = Scale::from_f16_bits(static_cast<uint16_t>(in.next())).value_or(Scale{});
  const size_t rows = in.count(), cols = in.count();
  const auto x = in.row<Act>(cols);
  layer.norm = in.row<NormWeight>(cols);
  layer.weight = PackedTernary(static_cast<uint32_t>(rows), static_cast<uint32_t>(cols));
  std::vector<uint8_t> codes(cols);
  for (uint32_t r = 0; r < rows; ++r) {
    for (uint8_t& code : codes) code = static_cast<uint8_t>(in.next() + 1);
    layer.weight.pack_row(r, codes);
  }
  layer.rows = static_cast<uint32_t>(rows);
  layer.cols = static_cast<uint32_t>(cols);
  std::vector<Act> y(rows);
  Workspace workspace(Workspace::kGrows);
  tern::bit_linear(workspace, "", {y.data(), 1, rows}, {x.data(), 1, cols}, layer);
  return of(y);
}

Outputs superfloat_linear(Inputs& in) {
  BitLinear layer;
  layer.epsilon = in.scale_of_f32();
  const bool wide = in.next() > 8;
  const size_t rows = in.count(), cols = in.count();
  const auto x = in.row<Act>(cols);
  layer.norm = in.row<NormWeight>(cols);
  layer.rows = static_cast<uint32_t>(rows);
  layer.cols = static_cast<uint32_t>(cols);
  layer.dense = DenseMatrix((wide ? 2 : 1) * layer.rows, layer.cols);
  std::vector<int8_t> low(cols), high(cols);
  for (uint32_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < cols; ++c) {
      const int32_t number = in.i32();
      low[c] = static_cast<int8_t>(wide ? (number & 255) - 128 : number);
      high[c] = static_cast<int8_t>(number >> 8);
    }
    layer.dense.set_row(wide ? 2 * r + 1 : r, low);
    if (wide) layer.dense.set_row(2 * r, high);
  }
  for (size_t r = 0; r < rows; ++r) layer.row_scales.push_back(in.scale_of_f32());
  std::vector<Act> y(rows);
  Workspace workspace(Workspace::kGrows);
  tern::bit_linear(workspace, "", {y.data(), 1, rows}, {x.data(), 1, cols}, layer);
  return of(y);
}

Outputs superfloat_row(Inputs& in) {
  const auto type = static_cast<GgmlType>(1000 + in.next());
  std::vector<uint8_t> row(static_cast<size_t>(traits_of(type).bytes));
  for (uint8_t& byte : row) byte = static_cast<uint8_t>(in.next());
  std::array<int32_t, 8> numbers;
  decode_superfloat(type, row, numbers);
  return {numbers.begin(), numbers.end()};
}

Outputs dense_linear(Inputs& in) {
  const size_t rows = in.count(), cols = in.count();
  const bool has_bias = in.next() != 0;
  const auto x = in.row<Act>(cols);
  DenseLinear layer;
  layer.weight = DenseMatrix(static_cast<uint32_t>(rows), static_cast<uint32_t>(cols));
  std::vector<int8_t> codes(cols);
  for (uint32_t r = 0; r < rows; ++r) {
    for (int8_t& code : codes) code = static_cast<int8_t>(in.next());
    layer.weight.set_row(r, codes);
  }
  for (size_t r = 0; r < rows; ++r) layer.scale.push_back(in.scale_of_f32());
  if (has_bias) layer.bias = in.row<Act>(rows);
  layer.rows = static_cast<uint32_t>(rows);
  layer.cols = static_cast<uint32_t>(cols);
  const std::vector<NormWeight> ones(cols, NormWeight::from_real(1));
  Workspace workspace(Workspace::kGrows);
  Buffer<Act> y(workspace);
  quantize(workspace, {x.data(), 1, cols}, ones);
  tern::dense_linear(workspace, "", y, layer);
  const std::span<const Act> row = y.view().row(0);
  return of(std::vector<Act>(row.begin(), row.end()));
}

Outputs convolution(Inputs& in) {
  const Sigmoid kind = in.sigmoid();
  const size_t taps = in.count(), n = in.count();
  const auto weights = in.row<NormWeight>(taps * n);
  const auto window = in.row<Act>(taps * n);
  std::vector<Act> y(n);
  rows::convolution(weights, {}, window.data(), n, kind, y);
  return of(y);
}

Outputs biased_convolution(Inputs& in) {
  const size_t taps = in.count(), n = in.count();
  const auto weights = in.row<NormWeight>(taps * n);
  const auto window = in.row<Act>(taps * n), bias = in.row<Act>(n);
  std::vector<Act> y(n);
  rows::convolution(weights, bias, window.data(), n, Sigmoid::kTable, y);
  return of(y);
}

/// One head: its states after a token, then what it gives.
Outputs state_space(Inputs& in) {
  const Scale rate = in.scale_of_f32();
  const auto head = in.row<Act>(4);  // dt, its bias, B, C
  const size_t n = in.count();
  auto s = in.row<Cell>(n);
  const auto a = in.row<Act>(n), z = in.row<Act>(n);
  const auto skip = in.row<NormWeight>(n);
  std::vector<Act> y(n);
  rows::state_space(a, z, skip, state_space_head(rate, head[0], head[1], head[2], head[3]), s, y);
  Outputs outputs = of(s);
  for (const Act& v : y) outputs.push_back(v.raw);
  return outputs;
}

Outputs recurrence(Inputs& in) {
  const Sigmoid kind = in.sigmoid();
  const bool has_keep = in.next() != 0;
  const size_t n = in.count();
  auto s = in.row<Cell>(n);
  const auto i = in.row<Act>(n), z = in.row<Act>(n);
  const auto keep = in.row<Gate>(has_keep ? n : 0);
  std::vector<Cell> after(n);
  rows::recurrence(i, z, keep, kind, s, after);
  return of(after);
}

Outputs gated_product(Inputs& in) {
  const Sigmoid kind = in.sigmoid();
  const size_t n = in.count();
  const auto gate_up = in.row<Act>(2 * n);
  std::vector<Act> y(n);
  rows::silu_product(std::span(gate_up).first(n), std::span(gate_up).last(n), kind, y);
  return of(y);
}

template <class Integer>
Outputs of(std::span<const Integer> row, Scale scale) {
  Outputs outputs(row.begin(), row.end());
  outputs.push_back(scale.mantissa);
  outputs.push_back(scale.exponent);
  return outputs;
}

Outputs codes_of(Inputs& in) {
  const auto most = static_cast<int16_t>(in.next());
  const size_t n = in.count();
  const auto x = in.integers<int32_t>(n);
  std::vector<int16_t> codes(n);
  const Scale scale = tern::codes_of<int16_t>(x, most, codes);
  return of<int16_t>(codes, scale);
}

/// A row of a ScaledRows.
void fill(ScaledRows& rows, const std::vector<int32_t>& row, Scale scale) {
  std::ranges::copy(row, rows.integers.shape(1, row.size()).data);
  rows.scales[0] = scale;
}

Outputs normed_codes(Inputs& in) {
  InputNorm norm;
  norm.epsilon = in.scale_of_f32();
  norm.is_norm = in.next() != 0;
  norm.fraction_bits = in.i32();
  const Scale scale = in.scale();
  const size_t n = in.count();
  Workspace workspace(Workspace::kGrows);
  ScaledRows x(workspace);
  fill(x, in.integers<int32_t>(n), scale);
  if (norm.is_norm) {
    norm.weight = in.row<NormWeight>(n);
  } else {
    norm.none(static_cast<uint32_t>(n));
  }
  quantize(workspace, x, norm);
  return of<int8_t>(workspace.codes.view().row(0).first(n), workspace.scales[0]);
}

Outputs rotate(Inputs& in) {
  const uint32_t position = in.u32();
  const size_t width = in.count();
  std::vector<Turn> turns;
  for (const uint32_t frequency : in.integers<uint32_t>(width / 2)) turns.push_back(turn_of(position, frequency));
  const auto x = in.integers<int32_t>(width);
  std::vector<int32_t> y(width);
  tern::rotate(x, turns, y);
  return {y.begin(), y.end()};
}

Outputs attend(Inputs& in) {
  const size_t width = in.count(), count = in.count();
  const Scale scale = in.scale();
  const auto query = in.integers<int16_t>(width);
  const size_t stride = Attention::words(1, static_cast<uint32_t>(width));
  std::vector<int32_t> words(stride * count), weights(count);
  std::vector<int32_t*> pages;
  for (size_t first = 0; first < count; first += State::kPage) pages.push_back(words.data() + first * stride);
  for (size_t p = 0; p < count; ++p) {
    const auto codes = in.integers<int8_t>(2 * width);
    std::ranges::copy(codes, reinterpret_cast<int8_t*>(&words[p * stride]));
    const Scale key = in.scale(), value = in.scale();
    const int32_t both[] = {static_cast<int32_t>(key.mantissa), key.exponent, static_cast<int32_t>(value.mantissa),
                            value.exponent};
    std::ranges::copy(both, &words[p * stride + width / 2]);
  }
  std::vector<int64_t> sums(width);
  const Scale factor = attend_to(query, scale, {pages, 0, stride, count}, weights, sums);
  return of<int64_t>(sums, factor);
}

Outputs gated(Inputs& in) {
  const Activation activation = in.next() == 0 ? Activation::kSquaredRelu : Activation::kSilu;
  const Scale gate_scale = in.scale(), up_scale = in.scale();
  const size_t n = in.count();
  Workspace workspace(Workspace::kGrows);
  ScaledRows gate(workspace), up(workspace), y(workspace);
  Buffer<int64_t> products(workspace);
  fill(gate, in.integers<int32_t>(n), gate_scale);
  fill(up, in.integers<int32_t>(n), up_scale);
  tern::gated_product(workspace, y, gate, up, activation, products);
  return of<int32_t>(y.integers.view().row(0), y.scales[0]);
}

Outputs wide_linear(Inputs& in) {
  const size_t rows = in.count(), cols = in.count();
  const auto x = in.row<Act>(cols);
  DenseLinear layer;
  layer.rows = static_cast<uint32_t>(rows);
  layer.cols = static_cast<uint32_t>(cols);
  layer.weight = DenseMatrix(layer.rows, layer.cols);
  for (uint32_t r = 0; r < rows; ++r) layer.weight.set_row(r, in.integers<int8_t>(cols));
  for (size_t r = 0; r < rows; ++r) layer.scale.push_back(in.scale_of_f32());
  std::vector<Act> y(rows);
  Workspace workspace(Workspace::kGrows);
  Buffer<int16_t> codes(workspace);
  tern::dense_linear(workspace, "", {y.data(), 1, rows}, {x.data(), 1, cols}, layer, codes);
  return of(y);
}

Outputs boundary_probability(Inputs& in) {
  const size_t n = in.count();
  const auto q = in.row<Act>(n), k = in.row<Act>(n);
  const std::optional<Gate> p = tern::boundary_probability(q, k);
  return {p ? int64_t{p->raw} : 0};
}

Outputs blend(Inputs& in) {
  const Gate p{in.u32()};
  const size_t n = in.count();
  const auto y = in.row<Act>(n);
  auto z = in.row<Cell>(n);
  blend_chunk(p, y, z);
  return of(z);
}

Outputs ternary_block(Inputs& in) {
  const GgmlType type = in.next() == 34 ? GgmlType::kTQ1_0 : GgmlType::kTQ2_0;
  std::vector<uint8_t> block(static_cast<size_t>(traits_of(type).bytes));
  for (uint8_t& byte : block) byte = static_cast<uint8_t>(in.next());
  std::vector<uint8_t> codes(kTernaryBlock);
  std::optional<uint16_t> scale;
  if (!decode_ternary(type, block, codes, scale).ok()) return {0};
  Outputs outputs{1, *scale};
  for (const uint8_t code : codes) outputs.push_back(code - 1);
  return outputs;
}

// ---- Operations on logits -------------------------------------------------------------------------------------------

std::vector<int32_t> logits_of(Inputs& in) {
  std::vector<int32_t> logits(kBytes.size);
  for (int32_t& logit : logits) logit = in.i32();
  return logits;
}

Outputs softmax_weights(Inputs& in) {
  const uint32_t temperature = in.u32();
  std::vector<uint32_t> weights(kBytes.size);
  tern::softmax_weights(logits_of(in), temperature, weights);
  return {weights.begin(), weights.end()};
}

Outputs surprisal(Inputs& in) {
  const auto byte = static_cast<uint8_t>(in.next());
  return {static_cast<int64_t>(tern::surprisal(logits_of(in), byte).raw)};
}

/// Of the most likely bytes, so many.
Outputs expectation(Inputs& in) {
  std::vector<Likely> top(in.count());
  Outputs outputs{score_token(logits_of(in), 0, top).entropy_q24};
  for (const Likely& each : top) outputs.insert(outputs.end(), {each.token, each.probability_q31});
  return outputs;
}

/// Draws from the same logits again and again; each byte drawn counts for the next one's penalty.
Outputs draw(Inputs& in) {
  SampleOptions options;
  options.greedy = in.next() != 0;
  options.temperature_q16 = in.u32();
  options.top_k = in.u32();
  options.top_p_q16 = in.u32();
  options.min_p_q16 = in.u32();
  options.repetition_penalty_q16 = in.u32();
  options.seed = in.u64();
  const size_t draws = in.count();
  const std::vector<int32_t> logits = logits_of(in);
  Sampler sampler(kBytes, options);
  Outputs bytes;
  for (size_t n = 0; n < draws; ++n) {
    const Token byte = sampler.next(logits);
    sampler.observe(byte);
    bytes.push_back(byte);
  }
  return bytes;
}

constexpr std::pair<std::string_view, Outputs (*)(Inputs&)> kOperations[] = {
    {"round_shift", round_shift},
    {"multiply", multiply},
    {"add", add},
    {"isqrt", isqrt},
    {"scale", scale},
    {"scale_add", scale_add},
    {"scale_multiply", scale_multiply},
    {"scale_divide", scale_divide},
    {"scale_sqrt", scale_sqrt},
    {"scale_to_fixed", scale_to_fixed},
    {"rescale", rescale},
    {"f32_to_fixed", f32_to_fixed},
    {"f16_to_fixed", f16_to_fixed},
    {"f32_to_scale", f32_to_scale},
    {"sigmoid", sigmoid},
    {"silu", silu},
    {"exp2_negative", exp2_negative},
    {"exp_negative", exp_negative},
    {"softplus", softplus},
    {"sine", sine},
    {"log2", log2},
    {"random", random},
    {"root_mean_square", root_mean_square},
    {"rms_norm", rms_norm},
    {"quantize", quantize},
    {"bit_linear", bit_linear},
    {"superfloat_linear", superfloat_linear},
    {"superfloat_row", superfloat_row},
    {"dense_linear", dense_linear},
    {"convolution", convolution},
    {"biased_convolution", biased_convolution},
    {"recurrence", recurrence},
    {"state_space", state_space},
    {"gated_product", gated_product},
    {"codes_of", codes_of},
    {"normed_codes", normed_codes},
    {"rotate", rotate},
    {"attend", attend},
    {"gated", gated},
    {"wide_linear", wide_linear},
    {"boundary_probability", boundary_probability},
    {"blend", blend},
    {"ternary_block", ternary_block},
    {"softmax_weights", softmax_weights},
    {"surprisal", surprisal},
    {"expectation", expectation},
    {"draw", draw},
};

}  // namespace

std::optional<std::vector<int64_t>> evaluate_operation(std::string_view name, std::span<const int64_t> inputs) {
  for (const auto& [known, operation] : kOperations) {
    if (known != name) continue;
    Inputs in(inputs);
    Outputs outputs = operation(in);
    TERN_CHECK(in.all_taken());
    return outputs;
  }
  return std::nullopt;
}

}  // namespace tern
