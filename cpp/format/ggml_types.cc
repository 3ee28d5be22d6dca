// Decoding of tensor rows with integer operations only.
// SPDX-License-Identifier: MIT
#include "format/ggml_types.h"

#include <array>

#include "base/check.h"
#include "fixed/decimal.h"
#include "fixed/fixed.h"

namespace tern {
namespace {

constexpr uint64_t kTQ1Bytes = 54;  // 48 bytes of 5 trits, 4 bytes of 4 trits, fp16
constexpr uint64_t kTQ2Bytes = 66;  // 64 bytes of 4 codes, fp16

/// TQ1_0 stores base-3 numbers n = 0..242 (most significant trit first) as ceil(256 n / 243), so that multiplying the
/// byte by 3^k mod 256 and then by 3 leaves trit k in the bits above 256.  13 byte values encode nothing.
struct TritByte {
  std::array<uint8_t, 5> trits{};
  bool valid = false;   // five trits
  bool valid4 = false;  // four trits: the fifth is 0
};

constexpr std::array<TritByte, 256> make_trit_bytes() {
  std::array<TritByte, 256> table{};
  for (uint32_t n = 0; n < 243; ++n) {
    TritByte& entry = table[(n * 256 + 242) / 243];
    uint32_t power = 81;
    for (uint8_t& trit : entry.trits) {
      trit = static_cast<uint8_t>(n / power % 3);
      power = power > 1 ? power / 3 : 1;
    }
    entry.valid = true;
    entry.valid4 = n % 3 == 0;
  }
  return table;
}
constexpr std::array<TritByte, 256> kTritBytes = make_trit_bytes();

/// `count` bytes of `trits` trits each; trit k of byte m is element k * count + m.
bool decode_trits(const uint8_t* bytes, size_t count, size_t trits, uint8_t* codes) {
  bool valid = true;
  for (size_t m = 0; m < count; ++m) {
    const TritByte& entry = kTritBytes[bytes[m]];
    valid = valid && (trits == 5 ? entry.valid : entry.valid4);
    for (size_t k = 0; k < trits; ++k) codes[k * count + m] = entry.trits[k];
  }
  return valid;
}

bool decode_tq1_0(const uint8_t* block, uint8_t* codes) {
  const bool first = decode_trits(block, 32, 5, codes);              // elements 0..159
  const bool second = decode_trits(block + 32, 16, 5, codes + 160);  // 160..239
  const bool third = decode_trits(block + 48, 4, 4, codes + 240);    // 240..255
  return first && second && third;
}

/// Code n of byte m of each 32 is element m + 32 n of each 128; 3 encodes nothing.
bool decode_tq2_0(const uint8_t* block, uint8_t* codes) {
  uint8_t largest = 0;
  for (size_t half = 0; half < 2; ++half) {
    for (size_t n = 0; n < 4; ++n) {
      for (size_t m = 0; m < 32; ++m) {
        const auto code = static_cast<uint8_t>((block[half * 32 + m] >> (2 * n)) & 3);
        largest = code > largest ? code : largest;
        codes[half * 128 + n * 32 + m] = code;
      }
    }
  }
  return largest <= 2;
}

constexpr GgmlTypeTraits kF32Traits{"F32", 1, 4};
constexpr GgmlTypeTraits kF16Traits{"F16", 1, 2};
constexpr GgmlTypeTraits kI8Traits{"I8", 1, 1};
constexpr GgmlTypeTraits kTQ1Traits{"TQ1_0", kTernaryBlock, kTQ1Bytes};
constexpr GgmlTypeTraits kTQ2Traits{"TQ2_0", kTernaryBlock, kTQ2Bytes};
constexpr GgmlTypeTraits kSuperFloatTraits[] = {{"SF3", 8, 3},   {"SF4", 8, 4},   {"SF5", 8, 5},   {"SF6", 8, 6},
                                                {"SF7", 8, 7},   {"SF8", 8, 8},   {"SF9", 8, 9},   {"SF10", 8, 10},
                                                {"SF11", 8, 11}, {"SF12", 8, 12}, {"SF13", 8, 13}, {"SF14", 8, 14},
                                                {"SF15", 8, 15}, {"SF16", 8, 16}};

}  // namespace

const GgmlTypeTraits* traits_of(uint32_t type) {
  switch (static_cast<GgmlType>(type)) {
    case GgmlType::kF32:
      return &kF32Traits;
    case GgmlType::kF16:
      return &kF16Traits;
    case GgmlType::kI8:
      return &kI8Traits;
    case GgmlType::kTQ1_0:
      return &kTQ1Traits;
    case GgmlType::kTQ2_0:
      return &kTQ2Traits;
    default:
      const uint32_t bits = superfloat_bits(static_cast<GgmlType>(type));
      return bits > 0 ? &kSuperFloatTraits[bits - 3] : nullptr;
  }
}

const GgmlTypeTraits& traits_of(GgmlType type) {
  const GgmlTypeTraits* traits = traits_of(static_cast<uint32_t>(type));
  TERN_CHECK(traits != nullptr);
  return *traits;
}

Result<void> decode_ternary(GgmlType type, std::span<const uint8_t> row, std::span<uint8_t> codes,
                            std::optional<uint16_t>& scale) {
  TERN_CHECK(type == GgmlType::kTQ1_0 || type == GgmlType::kTQ2_0);
  const size_t block_bytes = static_cast<size_t>(traits_of(type).bytes);
  const size_t blocks = row.size() / block_bytes;
  TERN_CHECK(row.size() == blocks * block_bytes && codes.size() == blocks * kTernaryBlock);
  for (size_t b = 0; b < blocks; ++b) {
    const uint8_t* block = row.data() + b * block_bytes;
    uint8_t* out = codes.data() + b * kTernaryBlock;
    const bool valid = type == GgmlType::kTQ1_0 ? decode_tq1_0(block, out) : decode_tq2_0(block, out);
    if (!valid) {
      return error_f(ErrorCode::kBadFile, "block %llu of the row holds a code that is not -1, 0 or 1",
                     static_cast<unsigned long long>(b));
    }
    const uint16_t bits = static_cast<uint16_t>(load_u16(block + block_bytes - 2));
    if (!scale) {
      if (bits >= 0x7c00) {  // infinity, NaN, or the sign bit
        return error_f(ErrorCode::kBadFile, "expected a finite scale >= 0, found %s", f16_text(bits).c_str());
      }
      scale = bits;
    } else if (bits != *scale) {
      return error_f(ErrorCode::kBadFile,
                     "expected one scale for the whole matrix (%s), found %s in block %llu of the row",
                     f16_text(*scale).c_str(), f16_text(bits).c_str(), static_cast<unsigned long long>(b));
    }
  }
  return {};
}

void decode_superfloat(GgmlType type, std::span<const uint8_t> row, std::span<int32_t> out) {
  const uint32_t bits = superfloat_bits(type), sign = uint32_t{1} << bits >> 1;
  TERN_CHECK(bits > 0 && out.size() % 8 == 0 && row.size() == out.size() / 8 * bits);
  const uint8_t* next = row.data();
  uint32_t held = 0, count = 0;
  for (int32_t& number : out) {
    for (; count < bits; count += 8) held |= uint32_t{*next++} << count;
    const auto magnitude = static_cast<int32_t>(held & (sign - 1));
    number = (held & sign) != 0 ? -magnitude : magnitude;
    held >>= bits;
    count -= bits;
  }
}

Result<void> decode_fixed(GgmlType type, std::span<const uint8_t> row, int32_t fraction_bits, std::span<int32_t> out) {
  const size_t item_bytes = static_cast<size_t>(traits_of(type).bytes);
  TERN_CHECK(traits_of(type).block == 1 && row.size() == out.size() * item_bytes);
  for (size_t i = 0; i < out.size(); ++i) {
    const uint8_t* item = row.data() + i * item_bytes;
    const uint32_t bits =
        type == GgmlType::kF32 ? load_u32(item) : f32_bits_from_f16(static_cast<uint16_t>(load_u16(item)));
    const std::optional<int32_t> fixed = fixed_from_f32_bits(bits, fraction_bits);
    if (!fixed) {
      return error_f(ErrorCode::kBadFile,
                     "expected finite numbers below 2^%d in magnitude, found another at column %llu of the row",
                     31 - fraction_bits, static_cast<unsigned long long>(i));
    }
    out[i] = *fixed;
  }
  return {};
}

}  // namespace tern
