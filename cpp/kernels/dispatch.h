// dispatch.h: which implementation of the ternary products runs, on how many threads, and from how many tokens tables.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ternary/levels.h"

namespace tern {

/// All levels in this build, in the order of levels.inc; scalar, the definition, first.
std::span<const KernelLevel> kernel_levels();

/// How products run.  Whatever it says, they give the same numbers.
struct Dispatch {
  /// At first the last of kernel_levels() that is exact on this machine.  Must live on; the bench has levels of its
  /// own.
  const KernelLevel* level = nullptr;

  /// Fewest tokens for which a table is taken; more than kTableTokens: never.  At first what was measured where one
  /// product takes 22 to 31 GMAC/s and tables 43 (Cascade Lake, Chromium).
  uint32_t table_tokens = 11;

  /// Weights of a product with one token that are worth a thread of their own: 1 to 5 microseconds of work, where
  /// offering a part to another thread costs 0.05 to 0.5.  Of several tokens four times as many, since the tables of
  /// table_matmul.h are made by every thread for itself (as much work as 130 rows are).
  uint64_t products_per_thread = uint64_t{1} << 17;

  /// What probe() measured, the best ever seen: a machine with other work, or code that is not well compiled yet, is
  /// only slower.  As LevelProbe::kmacs_per_ms, by level; and of tables.
  std::vector<uint32_t> kmacs_per_ms = {};
  uint32_t table_kmacs_per_ms = 0;
};

/// The one of this program.  Tests and the bench change it; not while another thread computes.
Dispatch& dispatch();

/// w times x by one level, as ternary_matmul() would on one thread: tables while they are filled well enough, else one
/// product after the other, which was no slower than unpacking weights once for a few tokens (30 against 33 GMAC/s
/// relaxed, 17 against 16 SIMD128).
void matmul_by(const KernelLevel& level, const TernaryView& w, MatrixView<const int8_t> x, const int32_t* sum_x,
               MatrixView<int32_t> y);

/// What probe() found out about a level.
struct LevelProbe {
  const char* name;
  bool exact;             ///< only such a level is ever used
  uint32_t kmacs_per_ms;  ///< best so far of a 512 x 512 matrix, thousands of weights per millisecond; 0: not measured
  bool in_use;
};

struct ProbeReport {
  std::vector<LevelProbe> levels;   ///< as kernel_levels()
  uint32_t table_kmacs_per_ms = 0;  ///< the same matrix with 16 tokens by table lookup; 0: not measured
  uint32_t table_tokens = 0;        ///< as in Dispatch
};

/// Tests all levels and, given a clock, measures the exact ones for `rounds` milliseconds each and uses the fastest
/// from then on, and tables for as many tokens as make them faster than that one.  All give the same numbers, so it can
/// be called at any time, though not while another thread computes.
///   microseconds  a clock that may wrap and is best read often, or nullptr
ProbeReport probe(uint32_t (*microseconds)(), uint32_t rounds);

}  // namespace tern
