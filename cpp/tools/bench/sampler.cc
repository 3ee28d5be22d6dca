// sampler.cc: what drawing a token from a large vocabulary costs beside the product that made its logits.
#include "text/sampler.h"

#include <vector>

#include "kernels/dispatch.h"
#include "tools/bench/measure.h"

namespace tern {
namespace {

// Of BitNet b1.58 2B4T, with the tokenizer of Llama 3.
constexpr Vocabulary kVocabulary{128256, 128000, 128001};
constexpr uint32_t kWidth = 2560;

/// Bell-shaped, from -16 to 16: some hundred tokens share most of the probability.
std::vector<int32_t> random_logits() {
  uint32_t random = 1;
  std::vector<int32_t> logits(kVocabulary.size);
  for (int32_t& logit : logits) {
    for (int n = 0; n < 16; ++n) logit += static_cast<int32_t>(next_random(random)) * 2 - 65536;
  }
  return logits;
}

/// Steps per second.
double product_rate(double seconds) {
  const PackedTernary head = random_matrix(kVocabulary.size, kWidth);
  uint32_t random = 1;
  std::vector<int8_t> x(padded_cols(kWidth));
  for (int8_t& value : x) value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  int32_t sum = 0;
  for (const int8_t value : x) sum += value;
  std::vector<int32_t> y(kVocabulary.size);
  return best_rate(seconds, 1, [&] {
    dispatch().level->matvec(head.view(), x.data(), sum, y.data());
    g_sink = static_cast<uint64_t>(y[0]);
  });
}

}  // namespace

void bench_sampler(const Meter& meter) {
  constexpr uint32_t kOne = 65536;
  const struct {
    const char* name;
    SampleOptions options;
  } cases[] = {
      {"greedy", {.greedy = true}},
      {"temperature 0.8", {.temperature_q16 = kOne * 8 / 10}},
      {"top-k 40", {.top_k = 40}},
      {"top-p 0.95", {.top_p_q16 = kOne * 95 / 100}},
      {"top-k 40, top-p 0.95, penalty 1.1",
       {.top_k = 40, .top_p_q16 = kOne * 95 / 100, .repetition_penalty_q16 = kOne * 11 / 10}},
  };
  const std::vector<int32_t> logits = random_logits();
  const double product = product_rate(meter.seconds);
  for (const auto& [name, options] : cases) {
    Sampler sampler(kVocabulary, options);
    const double rate = best_rate(meter.seconds, 1, [&] {
      const Token token = sampler.next(logits);
      sampler.observe(token);
      g_sink = token;
    });
    JsonWriter line;
    line.open('{').key("bench").text("sampler").key("level").text(dispatch().level->name).key("options").text(name);
    line.key("vocabulary").unsigned_integer(kVocabulary.size).key("cols").unsigned_integer(kWidth);
    line.key("us").real(1e6 / rate).key("product_us").real(1e6 / product).key("share").real(product / rate);
    meter.print(line);
  }
}

}  // namespace tern
