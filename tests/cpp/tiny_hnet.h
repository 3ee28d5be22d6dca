// tiny_hnet.h: random HNet-bit models, and the architecture in double precision to compare the integer engine with.
#pragma once

#include "reference_model.h"
#include "tiny_model.h"

namespace tern::test {

struct TinyHnetSpec {
  std::vector<TinyWidths> levels;  // the stages, then the innermost stack
  std::vector<uint32_t> encoders, decoders, routers;
  uint32_t inner_blocks = 2;
  bool bias = true;
  TinySpec parts;  // what is not a width
};

/// One stage around an innermost stack: wider inside, router narrower than its stage.
inline TinyHnetSpec one_stage() {
  return {.levels = {{32, 32, 48}, {48, 40, 64}},
          .encoders = {1},
          .decoders = {1},
          .routers = {24},
          .parts = {.lower_bounds = false}};
}

/// Two stages, the outer as wide as the inner; odd widths; encoder or decoder missing.
inline TinyHnetSpec two_stages() {
  return {.levels = {{24, 33, 40}, {24, 17, 32}, {50, 64, 30}},
          .encoders = {2, 0},
          .decoders = {0, 1},
          .routers = {24, 9},
          .inner_blocks = 1,
          .bias = false,
          .parts = {.gate_norm = "state", .sigmoid = "piecewise_linear", .embedding = GgmlType::kF32, .seed = 2}};
}

struct DenseParts {
  size_t rows = 0, cols = 0;
  std::vector<double> w;      // codes [rows][cols]
  std::vector<double> scale;  // [rows]
  std::vector<double> bias;   // [rows], or empty
};

struct TinyStage {
  std::vector<TinyLayer> encoder, decoder;
  std::vector<double> encoder_norm, decoder_norm, pad;
  DenseParts router_q, router_k, residual;
};

/// A random model; its rows and routers are random too, so about half of all positions begin a chunk.
class TinyHnet : public TinyParts {
 public:
  explicit TinyHnet(const TinyHnetSpec& spec) : TinyParts(spec.parts), hnet(spec) {
    write_common("hnetbit");
    writer.u32("hnetbit.block_count", spec.inner_blocks);
    std::vector<uint32_t> hidden, recurrent, feed_forward;
    for (const TinyWidths& level : spec.levels) {
      hidden.push_back(level.hidden);
      recurrent.push_back(level.recurrent);
      feed_forward.push_back(level.feed_forward);
    }
    writer.u32s("hnetbit.embedding_length", hidden);
    writer.u32s("hnetbit.recurrent_length", recurrent);
    writer.u32s("hnetbit.feed_forward_length", feed_forward);
    writer.u32s("hnetbit.encoder_block_count", spec.encoders);
    writer.u32s("hnetbit.decoder_block_count", spec.decoders);
    writer.u32s("hnetbit.router_length", spec.routers);

    make_embedding(spec.levels[0].hidden);
    for (size_t s = 0; s < spec.routers.size(); ++s) make_stage(s);
    inner = make_stack("blk.", spec.inner_blocks, spec.levels.back());
    inner_norm = make_vector("main_norm.weight", spec.levels.back().hidden, 0.5, 1.5);
    output = make_matrix("output", kVocab, spec.levels[0].hidden);
    file = writer.build();
  }

  TinyHnetSpec hnet;
  std::vector<TinyStage> stages;
  std::vector<TinyLayer> inner;
  std::vector<double> inner_norm;

 private:
  void make_stage(size_t s) {
    const std::string at = "stage." + std::to_string(s) + ".";
    const uint32_t d = hnet.levels[s].hidden, below = hnet.levels[s + 1].hidden;
    TinyStage stage;
    stage.encoder = make_stack(at + "enc.", hnet.encoders[s], hnet.levels[s]);
    stage.encoder_norm = make_vector(at + "enc_norm.weight", d, 0.5, 1.5);
    stage.router_q = make_dense(at + "router_q", hnet.routers[s], d);
    stage.router_k = make_dense(at + "router_k", hnet.routers[s], d);
    if (below > d) stage.pad = make_vector(at + "pad", below - d, -1, 1);
    stage.residual = make_dense(at + "residual", d, d);
    if (hnet.bias) stage.residual.bias = make_vector(at + "residual.bias", d, -0.5, 0.5);
    stage.decoder = make_stack(at + "dec.", hnet.decoders[s], hnet.levels[s]);
    stage.decoder_norm = make_vector(at + "dec_norm.weight", d, 0.5, 1.5);
    stages.push_back(std::move(stage));
  }

  DenseParts make_dense(const std::string& name, size_t rows, size_t cols) {
    DenseParts dense{rows, cols, {}, {}, {}};
    std::vector<uint8_t> codes;
    for (size_t i = 0; i < rows * cols; ++i) {
      dense.w.push_back(static_cast<int>(random_.below(255)) - 127);
      codes.push_back(static_cast<uint8_t>(static_cast<int>(dense.w.back())));
    }
    writer.tensor(name + ".weight", GgmlType::kI8, {cols, rows}, codes);
    dense.scale = make_vector(name + ".scale", rows, 0.0005, 0.003);
    return dense;
  }
};

/// One token at a time, from the definition.  Where chunks begin is decided by the caller: near a tie, rounding
/// decides, and a comparison must go on with the same chunks.
class ReferenceHnet {
 public:
  explicit ReferenceHnet(const TinyHnet& model) : m_(model), inner_(model.spec(), model.inner) {
    for (const TinyStage& stage : model.stages) {
      stages_.push_back({ReferenceStack(model.spec(), stage.encoder),
                         ReferenceStack(model.spec(), stage.decoder),
                         Vector(stage.encoder_norm.size(), 0),
                         {}});
    }
  }

  /// Logits after the token, whose boundary mask is given.  `trace` receives h after each block, empty for those that
  /// do not run; `cosines` the router's decision value per stage that runs.
  Vector step(uint8_t token, uint8_t mask, std::vector<Vector>& trace, std::vector<double>& cosines) {
    return bit_linear(m_.output, level(0, embedding_row(m_, token), mask, trace, cosines));
  }

 private:
  struct StageState {
    ReferenceStack encoder, decoder;
    Vector z;
    Vector q;  // of the position before; empty at the start
  };

  static Vector dense(const DenseParts& m, const Vector& x) {
    double largest = 1e-5;
    for (const double value : x) largest = std::max(largest, std::abs(value));
    Vector y(m.rows, 0);
    for (size_t r = 0; r < m.rows; ++r) {
      for (size_t c = 0; c < m.cols; ++c) y[r] += m.w[r * m.cols + c] * std::floor(127 * x[c] / largest + 0.5);
      y[r] = y[r] * m.scale[r] * largest / 127 + (m.bias.empty() ? 0 : m.bias[r]);
    }
    return y;
  }

  static double dot(const Vector& a, const Vector& b) {
    double sum = 0;
    for (size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
    return sum;
  }

  size_t blocks_below(size_t s) const {
    size_t blocks = m_.inner.size();
    for (size_t n = s + 1; n < m_.stages.size(); ++n)
      blocks += m_.stages[n].encoder.size() + m_.stages[n].decoder.size();
    return blocks;
  }

  Vector level(size_t s, const Vector& x, uint8_t mask, std::vector<Vector>& trace, std::vector<double>& cosines) {
    if (s == m_.stages.size()) return rms_norm(inner_.step(x, &trace), m_.inner_norm);
    const TinyStage& stage = m_.stages[s];
    StageState& state = stages_[s];
    const Vector e = rms_norm(state.encoder.step(x, &trace), stage.encoder_norm);
    const Vector q = dense(stage.router_q, e);
    const Vector k = dense(stage.router_k, e);
    const bool first = state.q.empty();
    const double cosine = first ? -1 : dot(state.q, k) / std::sqrt(dot(state.q, state.q) * dot(k, k));
    state.q = q;
    cosines.push_back(cosine);
    if ((mask >> s & 1) != 0) {
      Vector row = e;
      row.insert(row.end(), stage.pad.begin(), stage.pad.end());
      const Vector y = level(s + 1, row, mask, trace, cosines);
      const double p = std::clamp((1 - cosine) / 2, 1e-4, 1 - 1e-4);
      for (size_t c = 0; c < e.size(); ++c) state.z[c] = p * y[c] + (1 - p) * state.z[c];
    } else {
      trace.resize(trace.size() + blocks_below(s));
    }
    Vector h = dense(stage.residual, e);
    for (size_t c = 0; c < h.size(); ++c) h[c] += state.z[c];
    return rms_norm(state.decoder.step(h, &trace), stage.decoder_norm);
  }

  const TinyHnet& m_;
  std::vector<StageState> stages_;
  ReferenceStack inner_;
};

}  // namespace tern::test
