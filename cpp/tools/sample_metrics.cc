// sample_metrics.cc: counts the n-grams of sample texts.
#include "tools/sample_metrics.h"

#include <string>
#include <string_view>
#include <unordered_set>

#include "text/utf8.h"

namespace tern {
namespace {

constexpr std::string_view kSpace = " \t\n\v\f\r";

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = text.find_first_not_of(kSpace); at != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    words.emplace_back(text.substr(at, end - at));
    at = text.find_first_not_of(kSpace, end);
  }
  return words;
}

/// The n-grams of words, joined by a space, which no word contains.
std::vector<std::string> word_grams(std::span<const std::string> words, size_t n) {
  std::vector<std::string> grams;
  for (size_t at = 0; at + n <= words.size(); ++at) {
    std::string gram = words[at];
    for (size_t i = 1; i < n; ++i) gram += " " + words[at + i];
    grams.push_back(std::move(gram));
  }
  return grams;
}

/// A last character whose bytes are all there so far but not complete does not make a sample invalid.
bool is_valid_sample(std::span<const uint8_t> sample) {
  const std::span<const uint8_t> rest = sample.subspan(valid_utf8_prefix(sample));
  Utf8Splitter splitter;
  return rest.size() < 4 && splitter.push(rest).empty();
}

/// Counts what it is shown, and how much of that is different.
struct Variety {
  std::unordered_set<std::string> seen;
  uint64_t all = 0;

  void add(std::string gram) {
    ++all;
    seen.insert(std::move(gram));
  }
  double distinct() const { return all == 0 ? 0 : static_cast<double>(seen.size()) / static_cast<double>(all); }
};

}  // namespace

SampleMetrics measure_samples(std::span<const std::vector<uint8_t>> samples) {
  std::array<Variety, kMaxGram> words;
  std::array<Variety, kMaxGram> bytes;
  uint64_t valid = 0;
  uint64_t grams = 0;
  uint64_t first_time = 0;
  for (const std::vector<uint8_t>& sample : samples) {
    const std::string text(sample.begin(), sample.end());
    const std::vector<std::string> split = words_of(text);
    valid += is_valid_sample(sample);
    Variety within;
    for (size_t n = 1; n <= kMaxGram; ++n) {
      for (std::string& gram : word_grams(split, n)) {
        if (n == kMaxGram) within.add(gram);
        words[n - 1].add(std::move(gram));
      }
      for (size_t at = 0; at + n <= text.size(); ++at) bytes[n - 1].add(text.substr(at, n));
    }
    grams += within.all;
    first_time += within.seen.size();
  }

  SampleMetrics metrics;
  metrics.samples = samples.size();
  if (!samples.empty()) metrics.utf8_valid = static_cast<double>(valid) / static_cast<double>(samples.size());
  for (size_t n = 0; n < kMaxGram; ++n) {
    metrics.distinct_words[n] = words[n].distinct();
    metrics.distinct_bytes[n] = bytes[n].distinct();
  }
  if (grams > 0) metrics.repetition = static_cast<double>(grams - first_time) / static_cast<double>(grams);
  return metrics;
}

}  // namespace tern
