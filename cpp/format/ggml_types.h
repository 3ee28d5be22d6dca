// The tensor types we read, and how their rows become integers: ternary codes, or fixed-point numbers.
// SPDX-License-Identifier: MIT
//
// Block layouts: ggml/src/ggml-common.h and ggml-quants.c (dequantize_row_tq1_0, dequantize_row_tq2_0).
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/result.h"

namespace tern {

/// With ggml's numbers; SF3 to SF16 are ours: 1003 to 1016.
enum class GgmlType : uint32_t { kF32 = 0, kF16 = 1, kI8 = 24, kTQ1_0 = 34, kTQ2_0 = 35, kSF3 = 1003, kSF16 = 1016 };

/// x of SFx, the bits of a number: 3 to 16; of other types 0.
constexpr uint32_t superfloat_bits(GgmlType type) {
  return type >= GgmlType::kSF3 && type <= GgmlType::kSF16 ? static_cast<uint32_t>(type) - 1000 : 0;
}

struct GgmlTypeTraits {
  const char* name;
  uint64_t block;  // elements per block; rows are whole blocks
  uint64_t bytes;  // per block
};

/// Null for a type number that is unknown or not supported.
const GgmlTypeTraits* traits_of(uint32_t type);
const GgmlTypeTraits& traits_of(GgmlType type);

inline constexpr uint64_t kTernaryBlock = 256;

/// One row of TQ1_0 or TQ2_0 blocks -> one code w + 1 in {0, 1, 2} per element.
/// `scale` is the fp16 bit pattern that every block of the tensor must carry: it is taken from the first block seen
/// (when empty) and compared with all others.  Zero is a valid scale; negative, infinite and NaN scales are not.
Result<void> decode_ternary(GgmlType type, std::span<const uint8_t> row, std::span<uint8_t> codes,
                            std::optional<uint16_t>& scale);

/// One row of SFx numbers, sign and magnitude, the lowest bits first -> integers of at most x - 1 bits, in units of
/// 2^-(x - 1).  Of out.size() numbers, a multiple of 8.
void decode_superfloat(GgmlType type, std::span<const uint8_t> row, std::span<int32_t> out);

/// One row of F32 or F16 numbers -> fixed point with that many fraction bits (16: Q16.16, 31: Q0.31), rounded
/// (add half, floor).  NaN, infinities and numbers that do not fit are errors.
Result<void> decode_fixed(GgmlType type, std::span<const uint8_t> row, int32_t fraction_bits, std::span<int32_t> out);

/// Little-endian loads.
inline uint32_t load_u16(const uint8_t* p) { return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8; }
inline uint32_t load_u32(const uint8_t* p) { return load_u16(p) | load_u16(p + 2) << 16; }
inline uint64_t load_u64(const uint8_t* p) { return load_u32(p) | static_cast<uint64_t>(load_u32(p + 4)) << 32; }

}  // namespace tern
