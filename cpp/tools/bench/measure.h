// measure.h: how the bench measures a rate, and the line it prints for each.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/model.h"
#include "tools/json.h"
#include "tools/output.h"

namespace tern {

inline volatile uint64_t g_sink;  ///< results go here, so that no measured work can be left out

/// Of one thread processor time: on an idle machine the same as time, and not disturbed by waiting for other programs.
/// In a browser, which has no such clock (std::clock() ticks in milliseconds there), time.
inline double seconds_now() {
#if !defined(__EMSCRIPTEN__)
  if (threads() == 1) return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A call of its own: a browser puts its optimised code to use when a function is called, never in the middle of a
/// loop.
template <class Work>
[[gnu::noinline]] void call(Work& work) {
  work();
}

/// Rate of the best of at least three batches, in units per second: interruptions and the other half of a shared core
/// can only slow a batch down.  `work` does `units` per call.  Half as long again goes by before the first batch:
/// caches fill, idle processors speed up, browsers optimise.
template <class Work>
double best_rate(double seconds, double units, Work work) {
  const double warm = seconds_now() + seconds / 2;
  do {
    call(work);
  } while (seconds_now() < warm);
  size_t calls = 1;
  double best = 0;
  const double end = seconds_now() + seconds;
  for (int batches = 0; batches < 3 || seconds_now() < end;) {
    const double start = seconds_now();
    for (size_t i = 0; i < calls; ++i) call(work);
    const double taken = seconds_now() - start;
    if (taken < seconds / 40) {
      calls *= 2;  // a batch long enough for the clock, short enough to fall between interruptions
    } else {
      best = std::max(best, units * static_cast<double>(calls) / taken);
      ++batches;
    }
  }
  return best;
}

/// How long each measurement takes, and where its line goes.
struct Meter {
  double seconds;
  Output& out;

  /// Ends the object that `line` holds and writes it as a line, for a reader who waits for it.  `out` keeps the error.
  void print(JsonWriter& line) const {
    out.write(line.close('}').result() + "\n");
    static_cast<void>(out.flush());
  }
};

/// A reproducible filling; the values do not matter for speed.
inline uint32_t next_random(uint32_t& state) {
  state = state * 1664525 + 1013904223;
  return state >> 16;
}

/// Kernel layout, every weight as likely as another.
PackedTernary random_matrix(uint32_t rows, uint32_t cols);

// ---- The parts; each prints a line per measurement ----

/// Of the machine: the kernels' instructions alone, reading memory alone.  Measured between the other parts, the best
/// counts.
class Limits {
 public:
  void measure(double seconds);
  void print(const Meter& meter) const;

 private:
  struct Limit {
    const char *bench, *key, *name, *unit;
    double rate;
  };
  void add(const Limit& limit);
  std::vector<Limit> limits_;
};

void bench_products(const Meter& meter);  ///< every exact level, matrices in cache; and the shapes of BitNet b1.58 2B4T
void bench_dram(const Meter& meter);      ///< every fast level, a matrix of 64 MB
void bench_lab(const Meter& meter);       ///< kernels that lost, beside ours, in cache
void bench_lab_dram(const Meter& meter);  ///< the same from memory
void bench_activations(const Meter& meter);  ///< what happens between two products

/// Drawing a token from a vocabulary of 128,256, beside the product that makes its logits.
void bench_sampler(const Meter& meter);

/// What bench_model and the two below measure.
struct BenchedModel {
  std::string name;
  std::shared_ptr<const Model> model;
};

void bench_model(const Meter& meter, const BenchedModel& model);    ///< decoding, prefill, and the shares of a step
void bench_prompts(const Meter& meter, const BenchedModel& model);  ///< prefill of short and long prompts

/// Feeds `bytes` bytes as one text: the rate in the first and in the last hundredth, and the memory before and after.
void bench_stream(const Meter& meter, uint64_t bytes, const BenchedModel& model);

/// Memory of this process (natively the most it ever had, in a browser that of the module) beside that of the weights.
void bench_memory(const Meter& meter, const BenchedModel& model);

}  // namespace tern
