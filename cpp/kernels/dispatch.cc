// dispatch.cc: picks the fastest exact level once, and checks shapes before a kernel touches memory.
#include "kernels/levels.h"

namespace tern {
namespace {

[[maybe_unused]] bool always_exact() { return true; }

constexpr KernelLevel kLevels[] = {
#define TERN_LEVEL(name, is_exact) {#name, is_exact, name::matvec, name::matmul},
#include "kernels/kernels.inc"
#undef TERN_LEVEL
};

const KernelLevel& choose() {
  size_t best = std::size(kLevels) - 1;
  while (best > 0 && !kLevels[best].is_exact()) --best;
  return kLevels[best];
}

const KernelLevel& active() {
  static const KernelLevel& level = choose();
  return level;
}

}  // namespace

std::span<const KernelLevel> kernel_levels() { return kLevels; }

const char* kernel_level() { return active().name; }

void ternary_matvec(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) {
  TERN_CHECK(x.size() == padded_cols(w.cols) && y.size() == w.rows);
  active().matvec(w, x.data(), sum_x, y.data());
}

void ternary_matmul(const TernaryView& w, MatrixView<const int8_t> x, std::span<const int32_t> sum_x,
                    MatrixView<int32_t> y) {
  TERN_CHECK(x.cols == padded_cols(w.cols) && y.cols == w.rows);
  TERN_CHECK(y.rows == x.rows && sum_x.size() == x.rows);
  active().matmul(w, x, sum_x.data(), y);
}

}  // namespace tern
