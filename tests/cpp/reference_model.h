// reference_model.h: HGRN-bit in double precision, straight from the definition, to compare the integer engine with.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tiny_model.h"

namespace tern::test {

using Vector = std::vector<double>;

/// One token at a time; no code shared with the engine.
class ReferenceModel {
 public:
  explicit ReferenceModel(const TinyModel& model)
      : m_(model), states_(model.layers.size()), windows_(model.layers.size()) {
    for (Vector& s : states_) s.assign(m_.spec().recurrent, 0);
    const size_t before = m_.spec().conv_kernel > 0 ? m_.spec().conv_kernel - 1 : 0;
    for (auto& window : windows_) window.assign(before, Vector(m_.spec().hidden, 0));
  }

  /// Logits after the token; `trace` receives h after each block.
  Vector step(uint8_t token, std::vector<Vector>* trace = nullptr) {
    const size_t H = m_.spec().hidden;
    Vector h(m_.embedding.begin() + static_cast<std::ptrdiff_t>(token * H),
             m_.embedding.begin() + static_cast<std::ptrdiff_t>((token + size_t{1}) * H));
    for (size_t l = 0; l < m_.layers.size(); ++l) {
      h = block(m_.layers[l], l, h);
      if (trace) trace->push_back(h);
    }
    return bit_linear(m_.output, rms_norm(h, m_.output_norm));
  }

 private:
  double sigmoid(double x) const {
    if (m_.spec().sigmoid == "table") return 1 / (1 + std::exp(-x));
    return std::clamp(0.2 * x + 0.5, 0.0, 1.0);
  }
  double silu(double x) const { return x * sigmoid(x); }

  static Vector rms_norm(const Vector& x, const Vector& w) {
    double sum = 0;
    for (const double v : x) sum += v * v;
    const double rms = std::sqrt(sum / static_cast<double>(x.size()) + 1e-6);
    Vector y(x.size());
    for (size_t c = 0; c < x.size(); ++c) y[c] = x[c] / rms * w[c];
    return y;
  }

  static Vector bit_linear(const TernaryMatrix& m, const Vector& x) {
    const Vector v = rms_norm(x, m.norm);
    double largest = 1e-5;
    for (const double value : v) largest = std::max(largest, std::abs(value));
    Vector y(m.rows, 0);
    for (size_t r = 0; r < m.rows; ++r) {
      for (size_t c = 0; c < m.cols; ++c) {
        const double code = std::clamp(std::floor(127 * v[c] / largest + 0.5), -127.0, 127.0);
        y[r] += m.w[r * m.cols + c] * code;
      }
      y[r] *= m.scale * largest / 127;
    }
    return y;
  }

  Vector block(const TinyLayer& layer, size_t index, const Vector& h) {
    Vector a = rms_norm(h, layer.attn_norm);
    const size_t K = m_.spec().conv_kernel;
    if (K > 0) {
      std::vector<Vector>& window = windows_[index];
      window.push_back(a);
      for (size_t c = 0; c < a.size(); ++c) {
        double sum = 0;
        for (size_t k = 0; k < K; ++k) sum += layer.conv[c * K + k] * window[k][c];
        a[c] = silu(sum);
      }
      window.erase(window.begin());
    }
    const Vector i = bit_linear(layer.attn_i, a);
    const Vector z = bit_linear(layer.attn_f, a);
    const Vector g = bit_linear(layer.attn_g, a);
    Vector& s = states_[index];
    for (size_t c = 0; c < s.size(); ++c) {
      double forget = sigmoid(z[c]);
      if (!layer.lower_bound.empty()) forget = layer.lower_bound[c] + (1 - layer.lower_bound[c]) * forget;
      s[c] = forget * s[c] + silu(i[c]) * (1 - forget);
    }
    const bool gate_normed = m_.spec().gate_norm == "gate";
    Vector o = rms_norm(gate_normed ? g : s, layer.gate_norm);
    for (size_t c = 0; c < o.size(); ++c) o[c] *= silu(gate_normed ? s[c] : g[c]);
    Vector out = h;
    const Vector mixed = bit_linear(layer.attn_o, o);
    for (size_t c = 0; c < out.size(); ++c) out[c] += mixed[c];

    const Vector gate_up = bit_linear(layer.ffn_gate_up, rms_norm(out, layer.ffn_norm));
    const size_t I = gate_up.size() / 2;
    Vector product(I);
    for (size_t c = 0; c < I; ++c) product[c] = silu(gate_up[c]) * gate_up[I + c];
    const Vector down = bit_linear(layer.ffn_down, product);
    for (size_t c = 0; c < out.size(); ++c) out[c] += down[c];
    return out;
  }

  const TinyModel& m_;
  std::vector<Vector> states_;
  std::vector<std::vector<Vector>> windows_;
};

}  // namespace tern::test
