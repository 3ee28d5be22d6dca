// dispatch.cc: picks the fastest exact level once, and checks shapes before a kernel touches memory.
#include <algorithm>

#include "kernels/levels.h"

namespace tern {
namespace {

[[maybe_unused]] bool always_exact() { return true; }

constexpr KernelLevel kLevels[] = {
#define TERN_LEVEL(name, is_exact) {#name, is_exact, name::matvec, name::matmul},
#include "kernels/kernels.inc"
#undef TERN_LEVEL
};

const KernelLevel* last_exact() {
  size_t best = std::size(kLevels) - 1;
  while (best > 0 && !kLevels[best].is_exact()) --best;
  return &kLevels[best];
}

const KernelLevel*& active() {
  static const KernelLevel* level = last_exact();
  return level;
}

// Products per millisecond, by repeating until a millisecond has passed.
uint32_t kmacs_per_ms(const KernelLevel& level, uint32_t (*microseconds)()) {
  constexpr uint32_t kSize = 512;
  constexpr uint32_t kEnough = 1000;
  const PackedTernary matrix(kSize, kSize);
  const std::vector<int8_t> x(kSize, 1);
  std::vector<int32_t> y(kSize);
  level.matvec(matrix.view(), x.data(), 0, y.data());  // brings everything into the cache
  uint64_t products = 0;
  uint32_t passed = 0;
  for (const uint32_t start = microseconds(); passed < kEnough; passed = microseconds() - start) {
    level.matvec(matrix.view(), x.data(), 0, y.data());
    ++products;
  }
  return static_cast<uint32_t>(products * kSize * kSize / passed);
}

}  // namespace

std::span<const KernelLevel> kernel_levels() { return kLevels; }

void use_level(const KernelLevel& level) { active() = &level; }

const char* kernel_level() { return active()->name; }

std::vector<LevelProbe> probe(uint32_t (*microseconds)()) {
  std::vector<LevelProbe> levels;
  for (const KernelLevel& level : kLevels) levels.push_back({level.name, level.is_exact(), 0, false});
  if (microseconds != nullptr) {
    constexpr int kRounds = 3;  // one after the other, so that a busy moment does not fall on one level alone
    for (int round = 0; round < kRounds; ++round) {
      for (size_t i = 0; i < levels.size(); ++i) {
        if (!levels[i].exact) continue;
        levels[i].kmacs_per_ms = std::max(levels[i].kmacs_per_ms, kmacs_per_ms(kLevels[i], microseconds));
      }
    }
    size_t fastest = 0;
    for (size_t i = 0; i < levels.size(); ++i) {
      if (levels[i].kmacs_per_ms > levels[fastest].kmacs_per_ms) fastest = i;
    }
    active() = &kLevels[fastest];
  }
  for (size_t i = 0; i < levels.size(); ++i) levels[i].in_use = &kLevels[i] == active();
  return levels;
}

void ternary_matvec(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) {
  TERN_CHECK(x.size() == padded_cols(w.cols) && y.size() == w.rows);
  active()->matvec(w, x.data(), sum_x, y.data());
}

void ternary_matmul(const TernaryView& w, MatrixView<const int8_t> x, std::span<const int32_t> sum_x,
                    MatrixView<int32_t> y) {
  TERN_CHECK(x.cols == padded_cols(w.cols) && y.cols == w.rows);
  TERN_CHECK(y.rows == x.rows && sum_x.size() == x.rows);
  active()->matmul(w, x, sum_x.data(), y);
}

}  // namespace tern
