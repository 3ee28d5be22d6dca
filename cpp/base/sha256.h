// sha256.h: SHA-256 (FIPS 180-4) of bytes that arrive in pieces.
// SPDX-License-Identifier: MIT
//
// Own code because no package offers it header-only for WebAssembly, and WebCrypto hashes only what is whole in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tern {

class Sha256 {
 public:
  void push(std::span<const uint8_t> bytes);

  /// Of all bytes so far, as 64 lower-case hexadecimal digits; more may follow.
  std::string hex() const;

 private:
  void compress(const uint8_t* blocks, size_t count);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  uint64_t bytes_ = 0;
};

}  // namespace tern
