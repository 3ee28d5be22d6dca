// snapshot.h: the format of a saved conversation.
// SPDX-License-Identifier: MIT
//
// Little endian:  "TERN"  u32 version  u64 fingerprint of the model  u64 position  u32 state words  u32 logits
//                 u32 recent tokens  i32 state[]  i32 logits[]  recent[]  u64 FNV-1a of everything before
// A recent token has 8 bits where the vocabulary has at most 256 tokens, else 32.  Words are the engine's raw
// fixed-point numbers, the same on every device; of a state that grows, those up to the position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/batch.h"

namespace tern {

struct SnapshotSource {
  uint64_t fingerprint;
  uint64_t position;
  uint32_t vocabulary;
  std::span<const std::span<int32_t>> state;  // in pieces
  std::span<const int32_t> logits;
  std::span<const Token> recent;
};

/// What a blob must fit to.
struct SnapshotUse {
  uint64_t fingerprint;
  uint32_t vocabulary;
  size_t recent;
  StateLayout layout;
  uint64_t capacity;
};

struct SnapshotTarget {
  std::span<const std::span<int32_t>> state;
  std::span<int32_t> logits;
  std::span<Token> recent;
};

std::vector<uint8_t> write_snapshot(const SnapshotSource& source);

/// Answers the position, if all is well.
Result<uint64_t> check_snapshot(std::span<const uint8_t> blob, const SnapshotUse& use);

/// Fills a target of the sizes that were checked.
void read_snapshot(std::span<const uint8_t> blob, const SnapshotTarget& target);

}  // namespace tern
