// sampler.h: draws the next byte from logits, in integers, the same bytes everywhere for the same seed.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/vocabulary.h"

namespace tern {

/// All reals are Q16.16 integers (65536 = 1.0).  The defaults change nothing: temperature 1, nothing cut.
struct SampleOptions {
  bool greedy = false;                      ///< the most likely byte, no drawing
  uint32_t temperature_q16 = 65536;         ///< 1/65536 .. 100.0
  uint32_t top_k = 256;                     ///< 1 .. 256: only the k most likely bytes
  uint32_t top_p_q16 = 65536;               ///< (0, 1.0]: the fewest most likely bytes that reach this probability
  uint32_t min_p_q16 = 0;                   ///< [0, 1.0): only bytes at least this share as likely as the likeliest
  uint32_t repetition_penalty_q16 = 65536;  ///< 1.0 .. 10.0, for bytes among the last 256
  uint64_t seed = 0;

  bool operator==(const SampleOptions&) const = default;
};

/// kBadOption with the range that was expected and the value found.
Result<void> validate(const SampleOptions& options);

/// PCG-XSH-RR 64/32 (O'Neill 2014, pcg-random.org): 64-bit state, 32-bit output, stream constant 54.
class Pcg32 {
 public:
  explicit Pcg32(uint64_t seed, uint64_t stream = 54);
  uint32_t next();

 private:
  uint64_t state_ = 0;
  uint64_t increment_;
};

/// One generation's sampler.  Copyable: a copy continues with the same bytes.
class Sampler {
 public:
  /// The options must be valid (see validate).
  explicit Sampler(const SampleOptions& options);

  /// Draws a byte.  Order: repetition penalty, temperature, top-k, softmax, top-p, min-p, draw.  Ties go to the lower
  /// byte; BOS is never drawn.  Does not observe the byte: the caller observes every byte it feeds to the model.
  uint8_t next(std::span<const int32_t> logits_q16 /*256*/);

  /// Adds a byte to the window of the repetition penalty: the last 256 bytes of prompt and output.
  void observe(uint8_t byte);

 private:
  static constexpr size_t kWindow = 256;

  // Top-k, then top-p: sets the weights of all other bytes to 0.
  void keep_likeliest(const std::array<int32_t, kVocab>& logits, std::array<uint32_t, kVocab>& weights) const;

  SampleOptions options_;
  Pcg32 random_;
  std::array<uint8_t, kWindow> window_{};     // ring buffer of observed bytes
  std::array<uint16_t, kVocab> in_window_{};  // how often each byte is in the window
  uint32_t observed_ = 0;                     // bytes in the window, then kWindow
  uint8_t oldest_ = 0;                        // position in the ring that is overwritten next
};

}  // namespace tern
