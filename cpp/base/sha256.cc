// sha256.cc: the compression function, and padding at the end.
// SPDX-License-Identifier: MIT
#include "base/sha256.h"

#include <algorithm>
#include <bit>

namespace tern {
namespace {

// FIPS 180-4, 4.2.2: fractional parts of the cube roots of the first 64 primes.
constexpr std::array<uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t load_big_endian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

}  // namespace

void Sha256::compress(const uint8_t* blocks, size_t count) {
  using std::rotr;
  for (; count > 0; --count, blocks += 64) {
    std::array<uint32_t, 64> w;
    for (size_t t = 0; t < 16; ++t) w[t] = load_big_endian(blocks + 4 * t);
    for (size_t t = 16; t < 64; ++t) {
      const uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
      const uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (size_t t = 0; t < 64; ++t) {
      const uint32_t t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + kRound[t] + w[t];
      const uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g;
      g = f;
      f = e;
      e = d + t1;
      d = c;
      c = b;
      b = a;
      a = t1 + t2;
    }
    const uint32_t sums[] = {a, b, c, d, e, f, g, h};
    for (size_t i = 0; i < state_.size(); ++i) state_[i] += sums[i];
  }
}

void Sha256::push(std::span<const uint8_t> bytes) {
  const size_t pending = bytes_ % pending_.size();
  bytes_ += bytes.size();
  if (pending > 0) {
    const auto head = bytes.first(std::min(bytes.size(), pending_.size() - pending));
    std::ranges::copy(head, pending_.begin() + pending);
    bytes = bytes.subspan(head.size());
    if (pending + head.size() < pending_.size()) return;
    compress(pending_.data(), 1);
  }
  compress(bytes.data(), bytes.size() / pending_.size());
  std::ranges::copy(bytes.last(bytes.size() % pending_.size()), pending_.begin());
}

std::string Sha256::hex() const {
  Sha256 padded = *this;
  std::array<uint8_t, 72> padding = {0x80};  // a one bit, zeros, and the number of bits in eight bytes
  const size_t zeros = (pending_.size() + 55 - bytes_ % pending_.size()) % pending_.size();
  for (size_t b = 0; b < 8; ++b) padding[1 + zeros + b] = static_cast<uint8_t>(bytes_ * 8 >> (56 - 8 * b));
  padded.push(std::span(padding).first(1 + zeros + 8));
  std::string digits;
  for (const uint32_t word : padded.state_) {
    for (int shift = 28; shift >= 0; shift -= 4) digits += "0123456789abcdef"[word >> shift & 15];
  }
  return digits;
}

}  // namespace tern
