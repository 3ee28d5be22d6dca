// The format of a saved conversation.
// SPDX-License-Identifier: MIT
//
// Little endian:  "TERN"  u32 version  u64 fingerprint of the model  u64 position  u32 state words  u32 logits
//                 u32 recent bytes  i32 state[]  i32 logits[]  u8 recent[]  u64 FNV-1a of everything before
// Words are the engine's raw fixed-point numbers, the same on every device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace tern {

struct SnapshotSource {
  uint64_t fingerprint;
  uint64_t position;
  std::span<const int32_t> state;
  std::span<const int32_t> logits;
  std::span<const uint8_t> recent;
};

struct SnapshotTarget {
  uint64_t fingerprint;
  std::span<int32_t> state;
  std::span<int32_t> logits;
  std::span<uint8_t> recent;
};

std::vector<uint8_t> write_snapshot(const SnapshotSource& source);

/// Fills the target and answers the position.  On an error the target is untouched.
Result<uint64_t> read_snapshot(std::span<const uint8_t> blob, const SnapshotTarget& target);

}  // namespace tern
