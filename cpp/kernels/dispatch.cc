// dispatch.cc: picks the fastest exact level once, and checks shapes before a kernel touches memory.
#include <algorithm>

#include "base/parallel.h"
#include "kernels/levels.h"
#if TERN_SIMD >= 1
#include "kernels/table_matmul.h"
#endif

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

// Runs `work`, which computes `macs` products, until a millisecond has passed; thousands per millisecond.
template <class Work>
uint32_t kmacs_per_ms(uint64_t macs, uint32_t (*microseconds)(), Work work) {
  constexpr uint32_t kEnough = 1000;
  uint32_t start = microseconds();
  do work();  // brings everything into the cache
  while (microseconds() == start);  // a clock that moves in steps: begin where it has just moved
  uint64_t times = 0;
  uint32_t passed = 0;
  for (start = microseconds(); passed < kEnough; passed = microseconds() - start) {
    work();
    ++times;
  }
  return static_cast<uint32_t>(times * macs / passed);
}

constexpr uint32_t kProbeSize = 512;  // rows and columns

uint32_t rate_of(const KernelLevel& level, uint32_t (*microseconds)()) {
  const PackedTernary matrix(kProbeSize, kProbeSize);
  const std::vector<int8_t> x(kProbeSize, 1);
  std::vector<int32_t> y(kProbeSize);
  return kmacs_per_ms(uint64_t{kProbeSize} * kProbeSize, microseconds,
                      [&] { level.matvec(matrix.view(), x.data(), 0, y.data()); });
}

#if TERN_SIMD >= 1
uint32_t rate_of_tables(uint32_t (*microseconds)()) {
  const PackedTernary matrix(kProbeSize, kProbeSize);
  const std::vector<int8_t> x(kTableTokens * kProbeSize, 1);
  std::vector<int32_t> y(kTableTokens * kProbeSize);
  return kmacs_per_ms(uint64_t{kTableTokens} * kProbeSize * kProbeSize, microseconds, [&] {
    table_matmul(matrix.view(), {x.data(), kTableTokens, kProbeSize}, {y.data(), kTableTokens, kProbeSize});
  });
}
#endif

uint64_t products_per_thread = kProductsPerThread;

/// work(rows, first row) for parts of w, each some tiles of rows, on as many threads as pay.
template <class Work>
void split_rows(const TernaryView& w, size_t tokens, const Work& work) {
  const uint32_t tiles = padded_rows(w.rows) / kTileRows;
  const uint64_t least = tokens == 1 ? products_per_thread : 4 * products_per_thread;
  const uint32_t parts = std::min(tiles, parts_for(uint64_t{w.rows} * w.cols * tokens, least));
  if (parts <= 1) return work(w, 0);
  const size_t tile_bytes = size_t{padded_cols(w.cols)} / kTileCols * kTileBytes;
  parallel(parts, [&](uint32_t part) {
    const uint32_t begin = part_begin(tiles, part, parts), end = part_begin(tiles, part + 1, parts);
    const uint32_t first = begin * kTileRows;
    work(TernaryView{w.tiles + begin * tile_bytes, std::min(end * kTileRows, w.rows) - first, w.cols}, first);
  });
}

}  // namespace

std::span<const KernelLevel> kernel_levels() { return kLevels; }

void set_products_per_thread(uint64_t products) { products_per_thread = products; }

void use_level(const KernelLevel& level) { active() = &level; }

const char* kernel_level() { return active()->name; }

ProbeReport probe(uint32_t (*microseconds)(), uint32_t rounds) {
  ProbeReport report;
  std::vector<LevelProbe>& levels = report.levels;
  for (const KernelLevel& level : kLevels) levels.push_back({level.name, level.is_exact(), 0, false});
  if (microseconds != nullptr && rounds > 0) {
    // The best ever seen counts: a machine with other work, or code that is not well compiled yet, is only slower.
    static uint32_t best[std::size(kLevels)], best_table;
    // One after the other in each round, so that a busy moment does not fall on one level alone.
    for (uint32_t round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < levels.size(); ++i) {
        if (levels[i].exact) best[i] = std::max(best[i], rate_of(kLevels[i], microseconds));
      }
#if TERN_SIMD >= 1
      best_table = std::max(best_table, rate_of_tables(microseconds));
#endif
    }
    for (size_t i = 0; i < levels.size(); ++i) levels[i].kmacs_per_ms = best[i];
    report.table_kmacs_per_ms = best_table;
    // The definition is never the fastest: it is slower by a factor that only a disturbed measurement can hide.
    size_t fastest = std::min<size_t>(1, levels.size() - 1);
    for (size_t i = fastest; i < levels.size(); ++i) {
      if (levels[i].kmacs_per_ms > levels[fastest].kmacs_per_ms) fastest = i;
    }
    active() = &kLevels[fastest];
#if TERN_SIMD >= 1
    // A table costs the same for any number of tokens.
    table_tokens() = static_cast<uint32_t>(uint64_t{kTableTokens} * levels[fastest].kmacs_per_ms /
                                           std::max(1u, report.table_kmacs_per_ms)) +
                     1;
#endif
  }
  for (size_t i = 0; i < levels.size(); ++i) levels[i].in_use = &kLevels[i] == active();
#if TERN_SIMD >= 1
  report.table_tokens = table_tokens();
#endif
  return report;
}

void ternary_matvec(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) {
  TERN_CHECK(x.size() == padded_cols(w.cols) && y.size() == w.rows);
  const KernelLevel& level = *active();
  split_rows(w, 1,
             [&](const TernaryView& rows, uint32_t first) { level.matvec(rows, x.data(), sum_x, y.data() + first); });
}

void ternary_matmul(const TernaryView& w, MatrixView<const int8_t> x, std::span<const int32_t> sum_x,
                    MatrixView<int32_t> y) {
  TERN_CHECK(x.cols == padded_cols(w.cols) && y.cols == w.rows);
  TERN_CHECK(y.rows == x.rows && sum_x.size() == x.rows);
  const KernelLevel& level = *active();
  split_rows(w, x.rows, [&](const TernaryView& rows, uint32_t first) {
    level.matmul(rows, x, sum_x.data(), {y.data + first, y.rows, rows.rows, y.stride});
  });
}

}  // namespace tern
