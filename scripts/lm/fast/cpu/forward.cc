// Forward pass of one HGRN-bit block, fused for the CPU; see block.h.

#include <algorithm>

#include "block.h"

namespace lm {
namespace {

struct Scratch {
  float* row;     // [max(H, E, I)]
  float* result;  // [kTile][H]
  Outputs outputs;
  Scratch(const BlockParameters& p, Carver& carve)
      : row(carve.floats(size_t(std::max({p.H, p.E, p.I})))),
        result(carve.floats(kTile * size_t(p.H))),
        outputs(p, kTile, carve) {}
};

/// One sequence.
struct Forward {
  const BlockParameters& p;
  const std::vector<Packed>& w;
  const Saved& s;
  const Scratch& own;
  const float* in;  // [T][H]
  Outputs of;       // of the present tile

  // Norm of the residual stream, short convolution, SiLU; their codes for the three projections.
  void project(int t) const {
    const int H = p.H, K = p.K;
    const float* h = in + size_t(t) * size_t(H);
    float* a = s.conv_in + size_t(t + std::max(K - 1, 0)) * size_t(H);
    const float r = s.inverse_rms[kBeforeMix][t] = inverse_rms(h, H, p.eps);
    for (int c = 0; c < H; c += kLanes) store(a + c, load(h + c) * r * load(p.attn_norm + c));
    const float* x = a;
    if (K) {
      x = own.row;
      float* y = s.conv_out + size_t(t) * size_t(H);
      const float* oldest = s.conv_in + size_t(t) * size_t(H);
      for (int c = 0; c < H; c += kLanes) {
        Lanes sum{};
        for (int k = 0; k < K; ++k) sum += load(oldest + k * H + c) * load(p.conv + k * H + c);
        store(y + c, sum);
        store(own.row + c, sum * sigmoid(sum));
      }
    }
    const float rx = s.inverse_rms[kBeforeProjections][t] = inverse_rms(x, H, p.eps);
    for (int m : {kI, kF, kG}) encode(m, t, x, rx);
  }

  // The gated recurrence and the output gate.
  void recur(int t, int here) const {
    const int E = p.E;
    const size_t at = size_t(t) * size_t(E), tile = size_t(here) * size_t(E);
    const float *i = of.i + tile, *z = of.z + tile, *g = of.g + tile, *before = s.s + at;
    float* after = s.s + at + E;
    const float r = s.inverse_rms[kOfGate][t] = inverse_rms(g, E, p.eps);
    for (int c = 0; c < E; c += kLanes) {
      const Lanes k = load(p.keep + c) * sigmoid(-load(z + c)), u = load(i + c) * sigmoid(load(i + c));
      const Lanes now = load(before + c) + k * (u - load(before + c));
      store(after + c, now);
      store(own.row + c, load(g + c) * r * load(p.gate_norm + c) * (now * sigmoid(now)));
    }
    encode(kO, t, own.row, s.inverse_rms[kBeforeO][t] = inverse_rms(own.row, E, p.eps));
  }

  void enter_mlp(int t, const float* mixed) const {
    const int H = p.H;
    const float* h = in + size_t(t) * size_t(H);
    float* h1 = s.h1 + size_t(t) * size_t(H);
    for (int c = 0; c < H; c += kLanes) store(h1 + c, load(h + c) + load(mixed + c));
    const float r = s.inverse_rms[kBeforeMlp][t] = inverse_rms(h1, H, p.eps);
    for (int c = 0; c < H; c += kLanes) store(own.row + c, load(h1 + c) * r * load(p.ffn_norm + c));
    encode(kGateUp, t, own.row, s.inverse_rms[kBeforeGateUp][t] = inverse_rms(own.row, H, p.eps));
  }

  void gate_mlp(int t, int here) const {
    const int I = p.I;
    const float *gate = of.gate_up + size_t(here) * 2 * size_t(I), *up = gate + I;
    for (int c = 0; c < I; c += kLanes) store(own.row + c, load(gate + c) * sigmoid(load(gate + c)) * load(up + c));
    encode(kDown, t, own.row, s.inverse_rms[kBeforeDown][t] = inverse_rms(own.row, I, p.eps));
  }

  void encode(int m, int t, const float* x, float r) const {
    const int cols = w[size_t(m)].k;
    s.scale[m][t] = quantize(x, p.in_norm[m], r, cols, s.code[m] + size_t(t) * size_t(cols));
  }
  void run(int T, float* out, float* state, float* tail) {
    const size_t H = size_t(p.H), E = size_t(p.E), past = p.K ? size_t(p.K - 1) : 0;
    if (past) std::memcpy(s.conv_in, tail, sizeof(float) * past * H);
    std::memcpy(s.s, state, sizeof(float) * E);
    for (int t0 = 0; t0 < T; t0 += kTile) {
      const int n = std::min(kTile, T - t0), end = t0 + n;
      const size_t at = size_t(t0);
      of = s.of_tile(p, t0, own.outputs);
      for (int t = t0; t < end; ++t) project(t);
      multiply(w, s, kI, t0, n, of.i);
      multiply(w, s, kF, t0, n, of.z);
      multiply(w, s, kG, t0, n, of.g);
      for (int t = t0; t < end; ++t) recur(t, t - t0);
      multiply(w, s, kO, t0, n, own.result);
      for (int t = t0; t < end; ++t) enter_mlp(t, own.result + size_t(t - t0) * H);
      multiply(w, s, kGateUp, t0, n, of.gate_up);
      for (int t = t0; t < end; ++t) gate_mlp(t, t - t0);
      multiply(w, s, kDown, t0, n, own.result);
      for (size_t c = 0; c < size_t(n) * H; c += kLanes)
        store(out + at * H + c, load(s.h1 + at * H + c) + load(own.result + c));
    }
    std::memcpy(state, s.s + size_t(T) * E, sizeof(float) * E);
    if (past) std::memcpy(tail, s.conv_in + size_t(T) * H, sizeof(float) * past * H);
  }
};

}  // namespace

}  // namespace lm

extern "C" {

/// Bytes that forward needs per sequence to remember what backward uses.
int64_t block_saved_bytes(const BlockParameters* p) { return static_cast<int64_t>(lm::Saved::bytes(*p)); }

/// out[B][T][H] = block(in[B][T][H]); state [B][E] and tail [B][K-1][H] are read and replaced by their values at the
/// end. Row b holds lengths[b] tokens, 0 to T (null: T each); what follows them is not read, and is zero in out.
void block_forward(const BlockParameters* p, int B, const int32_t* lengths, const float* in, float* out, float* state,
                   float* tail, uint8_t* saved) {
  using namespace lm;
  const std::vector<Packed> w = pack_all(*p, Packed::straight);
  const size_t stride = Saved::bytes(*p), H = size_t(p->H), area = size_t(p->T) * H, past = p->K ? size_t(p->K - 1) : 0;
#pragma omp parallel for schedule(dynamic)
  for (int b = 0; b < B; ++b) {
    const size_t at = size_t(b);
    Carver notes(saved + at * stride), count(nullptr);
    Scratch(*p, count);
    Carver local(scratch(count.used()));
    const Saved s(*p, notes);
    const Scratch own(*p, local);
    Forward forward{*p, w, s, own, in + at * area, own.outputs};
    const int T = lengths ? lengths[b] : p->T;
    forward.run(T, out + at * area, state + at * size_t(p->E), tail + at * past * H);
    std::fill(out + at * area + size_t(T) * H, out + (at + 1) * area, 0.0f);
  }
}
}
