// sample_metrics.h: how varied and how repetitive generated texts are; scripts/lm/measure/samples.py computes the same
// numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tern {

inline constexpr size_t kMaxGram = 4;

/// A word is a longest run of bytes that are not ASCII white space; case and punctuation count.  N-grams lie within one
/// sample.  A share of nothing is 0.
struct SampleMetrics {
  uint64_t samples = 0;
  double utf8_valid = 0;  // share of samples that are well-formed UTF-8, up to a character that the end cuts off
  std::array<double, kMaxGram> distinct_words{};  // [n-1]: different n-grams of words among all, over all samples
                                                  // together (distinct-n, Li et al. 2016, arXiv 1510.03055)
  std::array<double, kMaxGram> distinct_bytes{};  // the same for bytes
  double repetition = 0;                          // share of 4-grams of words that were there before in the same sample
                                                  // (seq-rep-4, Welleck et al. 2020, arXiv 1908.04319)
};

SampleMetrics measure_samples(std::span<const std::vector<uint8_t>> samples);

}  // namespace tern
