// reference_model.h: HGRN-bit in double precision, straight from the definition, to compare the integer engine with.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "tiny_model.h"

namespace tern::test {

using Vector = std::vector<double>;

inline Vector rms_norm(const Vector& x, const Vector& w) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double rms = std::sqrt(sum / static_cast<double>(x.size()) + 1e-6);
  Vector y(x.size());
  for (size_t c = 0; c < x.size(); ++c) y[c] = x[c] / rms * w[c];
  return y;
}

inline Vector bit_linear(const TernaryMatrix& m, const Vector& x) {
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

/// A stack of blocks and its state, one token at a time; no code shared with the engine.
class ReferenceStack {
 public:
  ReferenceStack(const TinySpec& spec, const std::vector<TinyLayer>& layers) : spec_(spec), layers_(layers) {
    for (const TinyLayer& layer : layers) {
      states_.emplace_back(layer.gate_norm.size(), 0);
      const size_t before = spec.conv_kernel > 0 ? spec.conv_kernel - 1 : 0;
      windows_.emplace_back(before, Vector(layer.attn_norm.size(), 0));
    }
  }

  /// h after the last block; `trace` receives it after each.
  Vector step(Vector h, std::vector<Vector>* trace) {
    for (size_t l = 0; l < layers_.size(); ++l) {
      h = block(layers_[l], l, h);
      if (trace) trace->push_back(h);
    }
    return h;
  }

 private:
  double sigmoid(double x) const {
    if (spec_.sigmoid == "table") return 1 / (1 + std::exp(-x));
    return std::clamp(0.2 * x + 0.5, 0.0, 1.0);
  }
  double silu(double x) const { return x * sigmoid(x); }

  Vector block(const TinyLayer& layer, size_t index, const Vector& h) {
    Vector a = rms_norm(h, layer.attn_norm);
    const size_t K = spec_.conv_kernel;
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
    const bool gate_normed = spec_.gate_norm == "gate";
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

  TinySpec spec_;
  const std::vector<TinyLayer>& layers_;
  std::vector<Vector> states_;
  std::vector<std::vector<Vector>> windows_;
};

inline Vector embedding_row(const TinyParts& model, uint8_t token) {
  const auto width = static_cast<std::ptrdiff_t>(model.embedding.size() / 256);
  return {model.embedding.begin() + token * width, model.embedding.begin() + (token + 1) * width};
}

class ReferenceModel {
 public:
  explicit ReferenceModel(const TinyModel& model) : m_(model), stack_(model.spec(), model.layers) {}

  /// Logits after the token; `trace` receives h after each block.
  Vector step(uint8_t token, std::vector<Vector>* trace = nullptr) {
    return bit_linear(m_.output, rms_norm(stack_.step(embedding_row(m_, token), trace), m_.output_norm));
  }

 private:
  const TinyModel& m_;
  ReferenceStack stack_;
};

}  // namespace tern::test
