// snapshot.cc: writing and checked reading of saved conversations.
// SPDX-License-Identifier: MIT
#include "session/snapshot.h"

#include <algorithm>

#include "format/ggml_types.h"

namespace tern {
namespace {

constexpr uint32_t kMagic = 0x4e524554;  // "TERN"
constexpr uint32_t kVersion = 1;
constexpr size_t kFixedBytes = 4 + 4 + 8 + 8 + 4 + 4 + 4;
constexpr size_t kCheckBytes = 8;

uint64_t fnv1a(std::span<const uint8_t> bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

void put(std::vector<uint8_t>& out, uint64_t value, size_t bytes) {
  for (size_t b = 0; b < bytes; ++b) out.push_back(static_cast<uint8_t>(value >> (8 * b)));
}

const uint8_t* get_words(const uint8_t* from, std::span<int32_t> to) {
  for (int32_t& word : to) {
    word = static_cast<int32_t>(load_u32(from));
    from += 4;
  }
  return from;
}

size_t bytes_of_token(size_t vocabulary) { return vocabulary <= kBytes.size ? 1 : 4; }

}  // namespace

std::vector<uint8_t> write_snapshot(const SnapshotSource& source) {
  const size_t token_bytes = bytes_of_token(source.vocabulary);
  size_t words = 0;
  for (const std::span<const int32_t> piece : source.state) words += piece.size();
  std::vector<uint8_t> out;
  out.reserve(kFixedBytes + 4 * (words + source.logits.size()) + token_bytes * source.recent.size() + kCheckBytes);
  put(out, kMagic, 4);
  put(out, kVersion, 4);
  put(out, source.fingerprint, 8);
  put(out, source.position, 8);
  put(out, words, 4);
  put(out, source.logits.size(), 4);
  put(out, source.recent.size(), 4);
  for (const std::span<const int32_t> piece : source.state) {
    for (const int32_t word : piece) put(out, static_cast<uint32_t>(word), 4);
  }
  for (const int32_t logit : source.logits) put(out, static_cast<uint32_t>(logit), 4);
  for (const Token token : source.recent) put(out, token, token_bytes);
  put(out, fnv1a(out), 8);
  return out;
}

Result<uint64_t> check_snapshot(std::span<const uint8_t> blob, const SnapshotUse& use) {
  const auto bad = [](const char* what) {
    return error_f(ErrorCode::kBadState, "saved session: expected %s; save it again with this version and model", what);
  };
  if (blob.size() < kFixedBytes + kCheckBytes || load_u32(blob.data()) != kMagic) {
    return bad("the bytes \"TERN\" and a header");
  }
  if (load_u32(blob.data() + 4) != kVersion) return bad("format version 1");
  if (load_u64(blob.data() + 8) != use.fingerprint) return bad("the fingerprint of the loaded model");
  const uint64_t position = load_u64(blob.data() + 16);
  if (position >= use.capacity) return bad("a text that fits into the context of this session");
  const uint64_t words = use.layout.words(position + 1);
  if (load_u32(blob.data() + 24) != words || load_u32(blob.data() + 28) != use.vocabulary ||
      load_u32(blob.data() + 32) != use.recent) {
    return bad("the sizes of the loaded model's state");
  }
  const uint64_t bytes = kFixedBytes + 4 * (words + use.vocabulary) + bytes_of_token(use.vocabulary) * use.recent;
  if (blob.size() != bytes + kCheckBytes) return bad("a blob of the length its header says");
  const std::span<const uint8_t> content = blob.first(static_cast<size_t>(bytes));
  if (load_u64(content.data() + bytes) != fnv1a(content)) return bad("a matching checksum: it is damaged");
  return position;
}

void read_snapshot(std::span<const uint8_t> blob, const SnapshotTarget& target) {
  const uint8_t* at = blob.data() + kFixedBytes;
  for (const std::span<int32_t> piece : target.state) at = get_words(at, piece);
  at = get_words(at, target.logits);
  const size_t token_bytes = bytes_of_token(target.logits.size());
  for (Token& token : target.recent) {
    token = token_bytes == 1 ? *at : load_u32(at);
    at += token_bytes;
  }
}

}  // namespace tern
