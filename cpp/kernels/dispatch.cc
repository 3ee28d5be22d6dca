// dispatch.cc: picks the fastest exact level once, splits products among threads, and checks shapes before a kernel
// touches memory.
#include "kernels/dispatch.h"

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "kernels/ternary/table_matmul.h"

namespace tern {
namespace {

constexpr KernelLevel kLevels[] = {
#define TERN_LEVEL(name, is_exact, table) {#name, is_exact, name::matvec, table},
#include "kernels/ternary/levels.inc"
#undef TERN_LEVEL
};

const KernelLevel* last_exact() {
  size_t best = std::size(kLevels) - 1;
  while (best > 0 && !kLevels[best].is_exact()) --best;
  return &kLevels[best];
}

// ---- Measuring ------------------------------------------------------------------------------------------------------

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

uint32_t rate_of_tables(const KernelLevel& level, uint32_t (*microseconds)()) {
  const PackedTernary matrix(kProbeSize, kProbeSize);
  const std::vector<int8_t> x(kTableTokens * kProbeSize, 1);
  std::vector<int32_t> y(kTableTokens * kProbeSize);
  return kmacs_per_ms(uint64_t{kTableTokens} * kProbeSize * kProbeSize, microseconds, [&] {
    level.table(matrix.view(), {x.data(), kTableTokens, kProbeSize}, {y.data(), kTableTokens, kProbeSize});
  });
}

void measure(Dispatch& d, uint32_t (*microseconds)(), uint32_t rounds) {
  const std::span<const KernelLevel> levels(kLevels);
  // The definition is never the fastest: it is slower by a factor that only a disturbed measurement can hide.
  const size_t first = std::min<size_t>(1, levels.size() - 1);
  const bool has_table = levels[first].table != nullptr;
  // One after the other in each round, so that a busy moment does not fall on one level alone.
  for (uint32_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < levels.size(); ++i) {
      if (levels[i].is_exact()) d.kmacs_per_ms[i] = std::max(d.kmacs_per_ms[i], rate_of(levels[i], microseconds));
    }
    if (has_table) {
      d.table_kmacs_per_ms = std::max(d.table_kmacs_per_ms, rate_of_tables(levels[first], microseconds));
    }
  }
  size_t fastest = first;
  for (size_t i = first; i < levels.size(); ++i) {
    if (d.kmacs_per_ms[i] > d.kmacs_per_ms[fastest]) fastest = i;
  }
  d.level = &levels[fastest];
  if (has_table) {  // a table costs the same for any number of tokens
    const uint64_t rate = d.kmacs_per_ms[fastest];
    d.table_tokens = static_cast<uint32_t>(kTableTokens * rate / std::max(1u, d.table_kmacs_per_ms)) + 1;
  }
}

// ---- Threads --------------------------------------------------------------------------------------------------------

/// work(rows, first row) for parts of w, each some tiles of rows, on as many threads as pay.
template <class Work>
void split_rows(const TernaryView& w, size_t tokens, const Work& work) {
  const uint32_t tiles = padded_rows(w.rows) / kTileRows;
  const uint64_t least = (tokens == 1 ? 1 : 4) * dispatch().products_per_thread;
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

Dispatch& dispatch() {
  static Dispatch d{.level = last_exact(), .kmacs_per_ms = std::vector<uint32_t>(std::size(kLevels), 0)};
  return d;
}

ProbeReport probe(uint32_t (*microseconds)(), uint32_t rounds) {
  Dispatch& d = dispatch();
  const bool measured = microseconds != nullptr && rounds > 0;
  if (measured) measure(d, microseconds, rounds);
  ProbeReport report;
  report.table_kmacs_per_ms = measured ? d.table_kmacs_per_ms : 0;
  report.table_tokens = d.table_tokens;
  for (size_t i = 0; i < std::size(kLevels); ++i) {
    const KernelLevel& level = kLevels[i];
    report.levels.push_back({level.name, level.is_exact(), measured ? d.kmacs_per_ms[i] : 0, &level == d.level});
  }
  return report;
}

void matmul_by(const KernelLevel& level, const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x,
               MatrixView<int32_t> y) {
  const size_t enough = dispatch().table_tokens, last = x.rows % kTableTokens;
  const bool never = level.table == nullptr || enough > kTableTokens;
  const size_t by_table = never ? 0 : last >= enough ? x.rows : x.rows - last;
  if (by_table > 0) level.table(w, x.slice(0, by_table), y.slice(0, by_table));
  for (size_t t = by_table; t < x.rows; ++t) level.matvec(w, x.row(t).data(), sum_x[t], y.row(t).data());
}

void ternary_matvec(const TernaryView& w, std::span<const int8_t> x, int32_t sum_x, std::span<int32_t> y) {
  TERN_CHECK(x.size() == padded_cols(w.cols) && y.size() == w.rows);
  const KernelLevel& level = *dispatch().level;
  split_rows(w, 1,
             [&](const TernaryView& rows, uint32_t first) { level.matvec(rows, x.data(), sum_x, y.data() + first); });
}

void ternary_matmul(const TernaryView& w, MatrixView<const int8_t> x, std::span<const int32_t> sum_x,
                    MatrixView<int32_t> y) {
  TERN_CHECK(x.cols == padded_cols(w.cols) && y.cols == w.rows);
  TERN_CHECK(y.rows == x.rows && sum_x.size() == x.rows);
  const KernelLevel& level = *dispatch().level;
  split_rows(w, x.rows, [&](const TernaryView& rows, uint32_t first) {
    matmul_by(level, rows, x, sum_x.data(), {y.data + first, y.rows, rows.rows, y.stride});
  });
}

}  // namespace tern
