// levels.h: what an implementation of the ternary products is, and what every one in levels.inc implements.
#pragma once

#include <algorithm>
#include <cstring>

#include "base/view.h"
#include "kernels/ternary/packed.h"

namespace tern {

/// One implementation of the products; the arguments are those of ternary_matvec() and ternary_matmul() in kernels.h,
/// whose result it gives bit for bit.
struct KernelLevel {
  const char* name;
  bool (*is_exact)();  ///< known-answer test of what the level needs from the machine
  void (*matvec)(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y);
  void (*table)(const TernaryView& w, MatrixView<const int8_t> x, MatrixView<int32_t> y);  ///< many tokens, or null
};

#define TERN_LEVEL(name, is_exact, table)                                        \
  namespace name {                                                               \
  void matvec(const TernaryView& w, const int8_t* x, int32_t sum_x, int32_t* y); \
  }
#include "kernels/ternary/levels.inc"
#undef TERN_LEVEL

inline bool always_exact() { return true; }

// Known-answer tests of the relaxed dot product: false where signed/unsigned or saturation rules would change a result.
bool relaxed_dot_is_exact();        ///< with codes of 7 bits, as WebAssembly promises where engines agree
bool relaxed_dot_takes_unsigned();  ///< codes of 8 bits count as unsigned: x86 with VNNI
bool relaxed_dot_takes_signed();    ///< codes of 8 bits count as signed: ARM with SDOT

/// Copies the sums of a tile's rows that exist, `first` being the tile's first row.
inline void store_rows(const int32_t (&sums)[kTileRows], uint32_t first, const TernaryView& w, int32_t* y) {
  std::memcpy(y + first, sums, sizeof(int32_t) * std::min(kTileRows, w.rows - first));
}

}  // namespace tern
