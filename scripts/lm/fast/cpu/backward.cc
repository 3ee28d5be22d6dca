// Backward pass of one HGRN-bit block, fused for the CPU; see block.h.

#include <algorithm>

#include "block.h"

namespace lm {
namespace {

// Sequences whose products are added together: what they note of a matrix should fit the second cache, and there have
// to be enough of them for the threads.
constexpr int kGroupTokens = 4096, kGroupRows = 16;

/// One thread's share of the gradients of the parameters, and its scratch.
struct Worker {
  BlockGradients grads;    // sums over this thread's sequences; without the matrices
  size_t grads_floats;     // all of them lie behind one another, from grads.attn_norm
  float* gy[kMatrices];    // [T][rows] output gradients over the whole sequence; kDown's are the block's own
  float* top[kMatrices];   // [rows] largest |gy * scale of the input codes| of the sequence
  float* peak[kMatrices];  // [kTile] largest |gy| of each token
  float* wide[3];          // [kTile][max(H, E, I)] input gradients
  float* row[2];           // [max(H, E, I)]
  float *gc, *ga;          // [kTile + K - 1][H] gradients of the convolution's output, of its input
  float* carry;            // [E] gradient of the state
  uint8_t* code;           // [kTile][max rows]
  float* inverse;          // [max rows]
  Outputs outputs;

  Worker(const BlockParameters& p, Carver& carve) : outputs(p, kTile, carve) {
    const Shape shape(p);
    const size_t before = carve.used();
    const size_t T = whole_fours(p.T), H = size_t(p.H), E = size_t(p.E), I = size_t(p.I), K = size_t(p.K);
    const size_t cols = std::max({H, E, I}), rows = std::max({H, E, 2 * I});
    grads.attn_norm = carve.floats(H);
    grads.conv = carve.floats(K * H);
    grads.keep = carve.floats(E);
    grads.gate_norm = carve.floats(E);
    grads.ffn_norm = carve.floats(H);
    for (int m = 0; m < kMatrices; ++m) grads.in_norm[m] = carve.floats(size_t(shape.cols[m]));
    grads_floats = (carve.used() - before) / sizeof(float);
    for (int m = 0; m < kMatrices; ++m) {
      gy[m] = m == kDown ? nullptr : carve.floats(T * size_t(shape.rows[m]));
      top[m] = carve.floats(size_t(shape.rows[m]));
      peak[m] = carve.floats(kTile);
    }
    for (float*& x : wide) x = carve.floats(kTile * cols);
    for (float*& x : row) x = carve.floats(cols);
    gc = carve.floats((kTile + K) * H);
    ga = carve.floats(kTile * H);
    carry = carve.floats(E);
    inverse = carve.floats(rows);
    code = carve.bytes(kTile * rows + 64);
  }
};

/// What a sequence gives to the gradients of the matrices.
struct MatrixNotes {
  std::vector<WeightGradient> of;
  MatrixNotes(const BlockParameters& p, Carver& carve) {
    const Shape shape(p);
    for (int m = 0; m < kMatrices; ++m)
      of.emplace_back(carve, size_t(p.T), size_t(shape.rows[m]), size_t(shape.cols[m]));
  }
};

/// Adds to the gradients of the matrices.  Each square of each is summed over the sequences at once, in their order, so
/// that the sums do not depend on the number of threads, and megabytes of gradients are not walked through again and
/// again.
void add_products(const BlockParameters& p, const std::vector<MatrixNotes>& notes, float* const matrix[kMatrices]) {
  struct Task {
    int m;
    Area of;
  };
  const Shape shape(p);
  std::vector<Task> tasks;  // strips across the longer side: what all of them read is the shorter one
  std::vector<Factors> factors[kMatrices];
  for (int m = 0; m < kMatrices; ++m) {
    const int rows = shape.rows[m], cols = shape.cols[m], strip = 64;
    if (rows >= cols)
      for (int r = 0; r < rows; r += strip) tasks.push_back({m, {r, std::min(r + strip, rows), 0, cols}});
    else
      for (int c = 0; c < cols; c += strip) tasks.push_back({m, {0, rows, c, std::min(c + strip, cols)}});
    for (const MatrixNotes& sequence : notes)
      if (sequence.of[size_t(m)].fours) factors[m].push_back(sequence.of[size_t(m)].factors());
  }
#pragma omp parallel for schedule(dynamic)
  for (const Task& task : tasks)
    products(factors[task.m].data(), static_cast<int>(factors[task.m].size()),
             {matrix[task.m], shape.cols[task.m], true}, task.of);
}

/// Receives one token's gradient at the output of a matrix, and what rounding it will need to know.
struct GradientRow {
  float *out, *top;
  float scale;  // of the token's input codes
  Lanes peak{};
  GradientRow(Worker& k, const Saved& s, int m, int t, int rows)
      : out(k.gy[m] + size_t(t) * size_t(rows)), top(k.top[m]), scale(s.scale[m][t]) {}
  void note(int c, Lanes v) {
    peak = max(peak, abs(v));
    store(top + c, max(load(top + c), abs(v) * scale));
  }
  void put(int c, Lanes v) {
    store(out + c, v);
    note(c, v);
  }
};

/// One sequence, backwards; the formula of the norms is at `shrink` in linear.h.
struct Backward {
  const BlockParameters& p;
  const std::vector<Packed>&straight, &w;  // as forward has them, and transposed
  const Saved& s;
  Worker& k;
  MatrixNotes& notes;
  const float *in, *g_out;  // [T][H]
  float* g_in;
  int T;
  Random random;
  Outputs of;  // of the present tile

  // Gradient at the normed input of matrix m, for tokens t0 .. t0+n: gx [n][cols].
  void input_gradient(int m, int t0, int n, const float* gy, float* gx) {
    const int rows = w[size_t(m)].k;
    float scale[kTile];
    for (int t = 0; t < n; ++t)
      scale[t] = quantize_by_chance(gy + size_t(t0 + t) * size_t(rows), k.peak[m][t], rows,
                                    k.code + size_t(t) * size_t(rows), random);
    w[size_t(m)].times(k.code, scale, n, gx);
  }

  void note_output(int t, int here) {
    GradientRow to(k, s, kDown, t, 0);
    const float* g = g_out + size_t(t) * size_t(p.H);
    for (int c = 0; c < p.H; c += kLanes) to.note(c, load(g + c));
    k.peak[kDown][here] = largest(to.peak);
  }

  // gx: gradient at the normed input of down.
  void gate_mlp(int t, int here, const float* gx) {
    const int I = p.I;
    const float *gate = of.gate_up + size_t(here) * 2 * size_t(I), *up = gate + I, *norm = p.in_norm[kDown];
    float *dw = k.grads.in_norm[kDown], *value = k.row[0], *slope = k.row[1];
    const float r = s.inverse_rms[kBeforeDown][t];
    Lanes dot{};
    for (int c = 0; c < I; c += kLanes) {
      const Silu a = silu(load(gate + c));
      const Lanes x = a.value * load(up + c), gxx = load(gx + c) * x;
      store(value + c, a.value);
      store(slope + c, a.slope);
      add_to(dw + c, gxx * r);
      dot += gxx * load(norm + c);
    }
    const float less = shrink(dot, r, I);
    GradientRow to(k, s, kGateUp, t, 2 * I);
    for (int c = 0; c < I; c += kLanes) {
      const Lanes a = load(value + c), u = load(up + c), g = r * (load(gx + c) * load(norm + c)) - a * u * less;
      to.put(c, g * u * load(slope + c));
      to.put(I + c, g * a);
    }
    k.peak[kGateUp][here] = largest(to.peak);
  }

  // gx: gradient at the normed input of gate_up.
  void enter_mlp(int t, int here, const float* gx) {
    const int H = p.H;
    const float *h1 = s.h1 + size_t(t) * size_t(H), *g = g_out + size_t(t) * size_t(H), *outer = p.ffn_norm,
                *inner = p.in_norm[kGateUp];
    float *d_outer = k.grads.ffn_norm, *d_inner = k.grads.in_norm[kGateUp], *wg = k.row[0];
    const float r = s.inverse_rms[kBeforeMlp][t], ry = s.inverse_rms[kBeforeGateUp][t];
    Lanes dot{};
    for (int c = 0; c < H; c += kLanes) {
      const Lanes y = load(h1 + c) * r * load(outer + c), gxy = load(gx + c) * y;
      add_to(d_inner + c, gxy * ry);
      dot += gxy * load(inner + c);
    }
    const float less_y = shrink(dot, ry, H);
    dot = Lanes{};
    for (int c = 0; c < H; c += kLanes) {
      const Lanes x = load(h1 + c), gy = ry * (load(gx + c) * load(inner + c)) - x * r * load(outer + c) * less_y;
      add_to(d_outer + c, gy * x * r);
      store(wg + c, gy * load(outer + c));
      dot += load(wg + c) * x;
    }
    const float less = shrink(dot, r, H);
    GradientRow to(k, s, kO, t, H);
    for (int c = 0; c < H; c += kLanes) to.put(c, load(g + c) + r * load(wg + c) - load(h1 + c) * less);
    k.peak[kO][here] = largest(to.peak);
  }

  // gx: gradient at the normed input of o.  Output gate and recurrence.
  void recur(int t, int here, const float* gx) {
    const int E = p.E;
    const size_t tile = size_t(here) * size_t(E);
    const float *i = of.i + tile, *z = of.z + tile, *g = of.g + tile, *before = s.s + size_t(t) * size_t(E),
                *now = before + E;
    const float *gate_norm = p.gate_norm, *norm = p.in_norm[kO], *keep = p.keep;
    float *dw = k.grads.in_norm[kO], *d_gate = k.grads.gate_norm, *d_keep = k.grads.keep, *value = k.row[0],
          *slope = k.row[1], *carry = k.carry;
    const float rg = s.inverse_rms[kOfGate][t], ro = s.inverse_rms[kBeforeO][t];
    Lanes dot{};
    for (int c = 0; c < E; c += kLanes) {
      const Silu a = silu(load(now + c));
      const Lanes o = load(g + c) * rg * load(gate_norm + c) * a.value, gxo = load(gx + c) * o;
      store(value + c, a.value);
      store(slope + c, a.slope);
      add_to(dw + c, gxo * ro);
      dot += gxo * load(norm + c);
    }
    const float less = shrink(dot, ro, E);
    dot = Lanes{};
    GradientRow to_i(k, s, kI, t, E), to_f(k, s, kF, t, E), to_g(k, s, kG, t, E);
    for (int c = 0; c < E; c += kLanes) {
      const Lanes normed = load(g + c) * rg, weight = load(gate_norm + c), a = load(value + c);
      const Lanes go = ro * (load(gx + c) * load(norm + c)) - normed * weight * a * less;
      const Lanes total = load(carry + c) + go * normed * weight * load(slope + c), g_gate = go * a;
      add_to(d_gate + c, g_gate * normed);
      store(value + c, g_gate * weight);
      dot += g_gate * weight * load(g + c);
      const Lanes open = sigmoid(-load(z + c)), share = load(keep + c) * open;
      const Silu u = silu(load(i + c));
      const Lanes back = (load(before + c) - u.value) * total;  // minus the gradient of the share that is replaced
      add_to(d_keep + c, -back * open);
      to_f.put(c, back * share * (1.0f - open));
      to_i.put(c, total * share * u.slope);
      store(carry + c, total * (1.0f - share));
    }
    const float less_g = shrink(dot, rg, E);
    for (int c = 0; c < E; c += kLanes) to_g.put(c, rg * load(value + c) - load(g + c) * less_g);
    k.peak[kI][here] = largest(to_i.peak);
    k.peak[kF][here] = largest(to_f.peak);
    k.peak[kG][here] = largest(to_g.peak);
  }

  // The three projections share their input.  to: gradient of the convolution's output, or of the norm before it if K =
  // 0.
  void project(int t, int here, float* to) {
    const int H = p.H, K = p.K;
    const float* y = (K ? s.conv_out : s.conv_in) + size_t(t) * size_t(H);
    const float r = s.inverse_rms[kBeforeProjections][t];
    const float *gi = k.wide[0] + here * H, *gf = k.wide[1] + here * H, *gg = k.wide[2] + here * H;
    const float *wi = p.in_norm[kI], *wf = p.in_norm[kF], *wg = p.in_norm[kG];
    float *di = k.grads.in_norm[kI], *df = k.grads.in_norm[kF], *dg = k.grads.in_norm[kG], *value = k.row[0],
          *slope = k.row[1];
    Lanes dot{};
    for (int c = 0; c < H; c += kLanes) {
      const Silu a = K ? silu(load(y + c)) : Silu{load(y + c), Lanes{} + 1.0f};
      const Lanes xr = a.value * r,
                  total = load(gi + c) * load(wi + c) + load(gf + c) * load(wf + c) + load(gg + c) * load(wg + c);
      add_to(di + c, load(gi + c) * xr);
      add_to(df + c, load(gf + c) * xr);
      add_to(dg + c, load(gg + c) * xr);
      store(value + c, a.value);
      store(slope + c, a.slope);
      store(to + c, total);
      dot += total * a.value;
    }
    const float less = shrink(dot, r, H);
    for (int c = 0; c < H; c += kLanes) store(to + c, (r * load(to + c) - load(value + c) * less) * load(slope + c));
  }

  // gc: this token's gradient of the convolution's output, followed by those of the K-1 tokens after it.
  void convolve(int t, const float* gc, float* ga) {
    const int H = p.H, K = p.K;
    const float *x = s.conv_in + size_t(t) * size_t(H), *conv = p.conv;
    float* dw = k.grads.conv;
    for (int c = 0; c < H; c += kLanes) {
      const Lanes here = load(gc + c);
      Lanes a{};
      for (int tap = 0; tap < K; ++tap) {
        a += load(gc + (K - 1 - tap) * H + c) * load(conv + tap * H + c);
        add_to(dw + tap * H + c, here * load(x + tap * H + c));
      }
      store(ga + c, a);
    }
  }

  // ga: gradient of the first norm's output; joins the residual stream's.
  void enter_mix(int t, const float* ga) {
    const int H = p.H;
    const float *h = in + size_t(t) * size_t(H), *g1 = k.gy[kO] + size_t(t) * size_t(H), *norm = p.attn_norm;
    float *to = g_in + size_t(t) * size_t(H), *dw = k.grads.attn_norm;
    const float r = s.inverse_rms[kBeforeMix][t];
    Lanes dot{};
    for (int c = 0; c < H; c += kLanes) {
      const Lanes gh = load(ga + c) * load(h + c);
      add_to(dw + c, gh * r);
      dot += gh * load(norm + c);
    }
    const float less = shrink(dot, r, H);
    for (int c = 0; c < H; c += kLanes)
      store(to + c, load(g1 + c) + r * (load(ga + c) * load(norm + c)) - load(h + c) * less);
  }

  void run() {
    const int H = p.H, E = p.E, I = p.I, K = p.K, past = K ? K - 1 : 0;
    const Shape shape(p);
    for (int m = 0; m < kMatrices; ++m) std::fill_n(k.top[m], shape.rows[m], 0.0f);
    std::fill_n(k.carry, E, 0.0f);
    std::fill_n(k.gc, (kTile + past) * H, 0.0f);
    for (int t0 = (T - 1) / kTile * kTile; t0 >= 0; t0 -= kTile) {
      const int n = std::min(kTile, T - t0);
      of = s.of_tile(p, t0, k.outputs);
      if (!s.keeps_outputs) {
        multiply(straight, s, kI, t0, n, of.i);
        multiply(straight, s, kF, t0, n, of.z);
        multiply(straight, s, kG, t0, n, of.g);
        multiply(straight, s, kGateUp, t0, n, of.gate_up);
      }
      for (int t = 0; t < n; ++t) note_output(t0 + t, t);
      input_gradient(kDown, t0, n, g_out, k.wide[0]);
      for (int t = 0; t < n; ++t) gate_mlp(t0 + t, t, k.wide[0] + t * I);
      input_gradient(kGateUp, t0, n, k.gy[kGateUp], k.wide[0]);
      for (int t = 0; t < n; ++t) enter_mlp(t0 + t, t, k.wide[0] + t * H);
      input_gradient(kO, t0, n, k.gy[kO], k.wide[0]);
      for (int t = n - 1; t >= 0; --t) recur(t0 + t, t, k.wide[0] + t * E);
      for (int m : {kI, kF, kG}) input_gradient(m, t0, n, k.gy[m], k.wide[m]);
      if (K) {  // gc: the n tokens of this tile, then the first of the tile after it
        std::memmove(k.gc + n * H, k.gc, sizeof(float) * size_t(past * H));
        for (int t = 0; t < n; ++t) project(t0 + t, t, k.gc + t * H);
        for (int t = 0; t < n; ++t) convolve(t0 + t, k.gc + t * H, k.ga + t * H);
      } else {
        for (int t = 0; t < n; ++t) project(t0 + t, t, k.ga + t * H);
      }
      for (int t = 0; t < n; ++t) enter_mix(t0 + t, k.ga + t * H);
    }
    for (int m = 0; m < kMatrices; ++m)
      notes.of[size_t(m)].note(m == kDown ? g_out : k.gy[m], k.top[m], s.code[m], s.scale[m], T, shape.rows[m],
                               shape.cols[m], k.inverse, random);
  }
};

void add(float* to, const float* from, size_t n) {
  for (size_t c = 0; c < n; c += kLanes) add_to(to + c, load(from + c));
}

}  // namespace
}  // namespace lm

extern "C" {

/// g_in[B][T][H] from g_out, for what forward has noted of `in`; adds to the gradients of the parameters.  The gradient
/// does not flow into the state on entry.  With more than one thread the order of the float sums of the vectors'
/// gradients, and so the last bits, may differ from run to run.
void block_backward(const BlockParameters* p, int B, const int32_t* lengths, const float* in, const float* g_out,
                    float* g_in, const uint8_t* saved, const BlockGradients* grads, uint32_t seed) {
  using namespace lm;
  std::vector<Packed> straight;
  if (tiles_in_use()) straight = pack_all(*p, Packed::straight);
  const std::vector<Packed> w = pack_all(*p, Packed::transposed);
  const size_t stride = Saved::bytes(*p), H = size_t(p->H), area = size_t(p->T) * H;
  Carver count_notes(nullptr);
  MatrixNotes(*p, count_notes);
  const int group = std::min(B, std::max(kGroupTokens / p->T, kGroupRows));
  Carver carve_notes(scratch(size_t(group) * count_notes.used(), 1));
  std::vector<MatrixNotes> notes;
  for (int b = 0; b < group; ++b) notes.emplace_back(*p, carve_notes);
  for (int first = 0; first < B; first += group) {
    const int end = std::min(first + group, B);
    for (MatrixNotes& n : notes)
      for (WeightGradient& gradient : n.of) gradient.fours = 0;
#pragma omp parallel
    {
      Carver count(nullptr);
      Worker(*p, count);
      Carver carve(scratch(count.used()));
      Worker worker(*p, carve);
      std::fill_n(worker.grads.attn_norm, worker.grads_floats, 0.0f);
#pragma omp for schedule(dynamic)
      for (int b = first; b < end; ++b) {
        const size_t at = size_t(b);
        Carver carve_saved(const_cast<uint8_t*>(saved) + at * stride);
        const Saved s(*p, carve_saved);
        const int T = lengths ? lengths[b] : p->T;
        const Random random(seed * 2654435761u + static_cast<uint32_t>(b) * 40503u);
        if (T > 0) {
          Backward pass{*p,
                        straight,
                        w,
                        s,
                        worker,
                        notes[size_t(b - first)],
                        in + at * area,
                        g_out + at * area,
                        g_in + at * area,
                        T,
                        random,
                        worker.outputs};
          pass.run();
        }
        std::fill(g_in + at * area + size_t(T) * H, g_in + (at + 1) * area, 0.0f);
      }
#pragma omp critical
      {
        const Shape shape(*p);
        add(grads->attn_norm, worker.grads.attn_norm, H);
        if (p->K) add(grads->conv, worker.grads.conv, size_t(p->K) * H);
        add(grads->keep, worker.grads.keep, size_t(p->E));
        add(grads->gate_norm, worker.grads.gate_norm, size_t(p->E));
        add(grads->ffn_norm, worker.grads.ffn_norm, H);
        for (int m = 0; m < kMatrices; ++m) add(grads->in_norm[m], worker.grads.in_norm[m], size_t(shape.cols[m]));
      }
    }
    add_products(*p, notes, grads->matrix);
  }
}
}
