// The cross entropy and its gradient, in one pass over the logits.

#include <cmath>
#include <cstddef>

#include "lanes.h"

extern "C" {

/// nats[t] = -log of the probability that logits [tokens][n] give to targets[t]; gradient [tokens][n] that of their
/// mean. n is a multiple of 16.
void cross_entropy(int tokens, int n, const float* logits, const int64_t* targets, float* gradient, float* nats) {
  using namespace lm;
#pragma omp parallel for
  for (int t = 0; t < tokens; ++t) {
    const size_t at = size_t(t) * size_t(n);
    const float* x = logits + at;
    float* g = gradient + at;
    Lanes top = load(x);
    for (int c = kLanes; c < n; c += kLanes) top = max(top, load(x + c));
    const float highest = largest(top);
    Lanes total{};
    for (int c = 0; c < n; c += kLanes) {
      const Lanes share = exp(load(x + c) - highest);
      store(g + c, share);
      total += share;
    }
    const float all = sum(total), scale = 1.0f / (all * static_cast<float>(tokens));
    for (int c = 0; c < n; c += kLanes) store(g + c, load(g + c) * scale);
    const int64_t target = targets[t];
    g[target] -= 1.0f / static_cast<float>(tokens);
    nats[t] = std::log(all) + highest - x[target];
  }
}
}
