// RMSNorm by itself, forward and backward, and the memory of the threads.

#include <cstdlib>
#include <memory>

#include "linear.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace lm {
namespace {

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};

// dx and dw of one token.
void norm_token(const float* x, const float* w, const float* g, float r, int n, float* dx, float* dw) {
  Lanes dot{};
  for (int c = 0; c < n; c += kLanes) {
    const Lanes gx = load(g + c) * load(x + c);
    add_to(dw + c, gx * r);
    dot += gx * load(w + c);
  }
  const float less = shrink(dot, r, n);
  for (int c = 0; c < n; c += kLanes) store(dx + c, r * (load(g + c) * load(w + c)) - load(x + c) * less);
}

}  // namespace

uint8_t* scratch(size_t bytes, int which) {
  thread_local std::unique_ptr<uint8_t, Free> memories[2];
  thread_local size_t sizes[2] = {};
  std::unique_ptr<uint8_t, Free>& memory = memories[which];
  size_t& size = sizes[which];
  constexpr size_t kPage = size_t{2} << 20;
  if (size < bytes) {
    size = (bytes + kPage - 1) / kPage * kPage;
    memory.reset(static_cast<uint8_t*>(std::aligned_alloc(kPage, size)));
    prefer_huge_pages(memory.get(), static_cast<int64_t>(size));
  }
  return memory.get();
}

}  // namespace lm

extern "C" {

/// Asks the system for 2 MiB pages, where it knows them: the passes walk over megabytes with long strides.
void prefer_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__)
  const auto page = uintptr_t{4096}, from = (reinterpret_cast<uintptr_t>(memory) + page - 1) / page * page;
  const auto to = (reinterpret_cast<uintptr_t>(memory) + static_cast<uintptr_t>(bytes)) / page * page;
  if (to > from) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);  // advice: it may fail
#else
  (void)memory, (void)bytes;
#endif
}

/// y[tokens][n] = x * w / sqrt(mean(x^2) + eps), or if `quantized` the nearest of 127 steps of its token's largest
/// magnitude, as ternary layers take it; inverse_rms [tokens] is for norm_backward.
void norm_forward(int tokens, int n, float eps, int quantized, const float* x, const float* w, float* y,
                  float* inverse_of) {
  using namespace lm;
#pragma omp parallel for
  for (int t = 0; t < tokens; ++t) {
    const float* from = x + size_t(t) * size_t(n);
    float* to = y + size_t(t) * size_t(n);
    const float r = inverse_of[t] = inverse_rms(from, n, eps);
    Lanes peak{};
    for (int c = 0; c < n; c += kLanes) {
      const Lanes v = load(from + c) * r * load(w + c);
      store(to + c, v);
      peak = max(peak, abs(v));
    }
    if (!quantized) continue;
    const float step = std::fmax(largest(peak), 1e-5f) / 127.0f, inverse = 1.0f / step;
    for (int c = 0; c < n; c += kLanes)
      store(to + c, __builtin_convertvector(nearest(load(to + c) * inverse), Lanes) * step);
  }
}

/// dx[tokens][n] from g, adds to dw [n]; the gradient passes straight through the rounding.
void norm_backward(int tokens, int n, const float* x, const float* w, const float* g, const float* inverse_of,
                   float* dx, float* dw) {
  using namespace lm;
#pragma omp parallel
  {
    float* const share = reinterpret_cast<float*>(scratch(sizeof(float) * size_t(n)));
    std::fill_n(share, n, 0.0f);
#pragma omp for
    for (int t = 0; t < tokens; ++t) {
      const size_t at = size_t(t) * size_t(n);
      norm_token(x + at, w, g + at, inverse_of[t], n, dx + at, share);
    }
#pragma omp critical
    for (int c = 0; c < n; c += kLanes) add_to(dw + c, load(share + c));
  }
}
}
