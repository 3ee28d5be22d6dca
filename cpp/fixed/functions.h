// functions.h: the nonlinear functions of the engine, each with its domain, format and worst error.
#pragma once

#include <cstdint>

#include "fixed/fixed.h"
#include "fixed/tables.h"

namespace tern {

/// Which sigmoid a model was trained with (`hgrnbit.sigmoid` in its file).
enum class Sigmoid { kTable, kPiecewiseLinear };

/// 1 / (1 + exp(-x)).  Table over [-16, 16], step 1/32, linear interpolation; beyond, the value at the end, so that the
/// result is never exactly 0 or 1.  Absolute error below 1.2e-5 inside, 1.2e-7 outside; relative error below 3.6e-3, at
/// -16. 1 - sigmoid(x) is sigmoid(-x): computing it this way keeps the digits of a small result.
Gate sigmoid(Act x);

/// clamp(0.2 x + 0.5, 0, 1), rounded to Q0.31.
Gate sigmoid_piecewise_linear(Act x);

/// The sigmoid of the given kind.
inline Gate sigmoid(Act x, Sigmoid kind) { return kind == Sigmoid::kTable ? sigmoid(x) : sigmoid_piecewise_linear(x); }

/// x * sigmoid(x), always with the table.  Error below 2.8e-5 for |x| <= 16, below 1.2e-7 * |x| + 2^-17 beyond.
Act silu(Act x);

/// x * sigmoid(x) with the sigmoid of the given kind.
Act silu(Act x, Sigmoid kind);

/// 2^-x for x in Q8.24 (0 .. 256), result Q0.31: 2^31 for 0, 0 from about 32 on.
/// Table of 256 steps per octave, linear interpolation: error below 1e-6 of the result plus 2^-31.
inline uint32_t exp2_negative(uint32_t x_q24) {
  constexpr int kStepBits = 24 - 8;  // step 1/256
  const uint32_t octaves = x_q24 >> 24;
  const uint32_t index = (x_q24 >> kStepBits) & 0xFF;
  const uint32_t fraction = x_q24 & ((1u << kStepBits) - 1);
  const int64_t result = tables::interpolate(tables::kExp2Negative, index, fraction, kStepBits);
  return octaves > 32 ? 0 : static_cast<uint32_t>(round_shift(result, static_cast<int>(octaves)));
}

/// exp(-x) for x >= 0, below 1 always: 1 - 2^-31 for 0, 0 from 22.2 on.
/// The table of exp2_negative(), and between two entries the series up to the square: what a state forgets keeps its
/// digits.  Error below 5e-9 of the result plus 2^-31, and below 1.3e-6 of 1 - exp(-x) plus 2^-31.
Gate exp_negative(Step x);

/// ln(1 + exp(x)), at most 128 - 2^-24.  From the tables of exp_negative() and log2_of(): error below 2e-7, and below
/// 6e-4 of the result plus 2^-24.
Step softplus(Act x);

/// sin(2 pi phase / 2^32) in Q1.30; the cosine is the sine a quarter of a turn later.  Table of 1024 steps per quarter,
/// linear interpolation: error below 3e-7.
int32_t sine(uint32_t phase);

/// log2(n) in Q32.32 for n >= 1.  Table of 1024 steps per octave, linear interpolation: error below 1.8e-7.
Bits log2_of(uint64_t n);

}  // namespace tern
