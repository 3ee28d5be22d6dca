// parallel.cc: the threads: each waits at a word of its own, spinning for a moment before it sleeps.
//
// Between two products of a step there are a few microseconds, so a thread that spins is there at once; between two
// calls of the engine it sleeps and costs nothing.  Spinning without an end collapses when there are more threads than
// cores: the spinning ones then keep the working ones from running.
#include "base/parallel.h"

#ifdef TERN_THREADS

#include <atomic>
#include <cstddef>
#include <new>
#ifndef __EMSCRIPTEN__
#include <thread>
#endif

#include "base/check.h"
#include "base/mailbox.h"
#include "base/stack.h"

namespace tern {
namespace {

using Word = std::atomic<uint32_t>;

// Spinning waits of 20 to 50 microseconds, and sleeping ones.
#ifdef __EMSCRIPTEN__
struct System {
  static constexpr int kSpins = 1 << 15;  // a load, a comparison and a jump: about a nanosecond
  static void pause() {}
  static void wait(Word& word, uint32_t value) {
    __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int32_t*>(&word), static_cast<int32_t>(value), -1);
  }
  static void wake(Word& word) { __builtin_wasm_memory_atomic_notify(reinterpret_cast<int32_t*>(&word), 1); }
};
#else
struct System {
#if defined(__x86_64__)
  static constexpr int kSpins = 1000;  // 40 to 140 cycles each
  static void pause() { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
  static constexpr int kSpins = 1 << 15;  // a yield is next to nothing on most machines
  static void pause() { asm volatile("yield"); }
#else
  static constexpr int kSpins = 1 << 15;
  static void pause() {}
#endif
  static void wait(Word& word, uint32_t value) { word.wait(value); }
  static void wake(Word& word) { word.notify_one(); }
};
#endif

struct alignas(64) Helper {
  Mailbox<System> parts;  // only the caller offers; the helper or, later, the caller takes
#ifdef __EMSCRIPTEN__
  char* stack = nullptr;  // its end, where stacks begin; allocated once
#else
  std::thread thread;
#endif
};

struct Pool {
  alignas(64) Word pending{0};  // parts that helpers may still be working on, and kCallerAsleep
  alignas(64) std::atomic<bool> busy{false};
  void (*work)(const void* context, uint32_t part) = nullptr;
  const void* context = nullptr;
  uint32_t threads = 1;
  Helper helpers[kMaxThreads];  // the first is the caller and unused

#ifndef __EMSCRIPTEN__
  ~Pool();
#endif
};

constexpr uint32_t kCallerAsleep = uint32_t{1} << 31;

Pool pool;

void help(uint32_t part) {
  Helper& helper = pool.helpers[part];
  while (helper.parts.next()) {
    pool.work(pool.context, part);
    if (pool.pending.fetch_sub(1, std::memory_order_release) == (kCallerAsleep | 1)) System::wake(pool.pending);
  }
}

void wait_for_helpers() {
  for (int spin = 0; spin < System::kSpins; ++spin) {
    if (pool.pending.load(std::memory_order_acquire) == 0) return;
    System::pause();
  }
  uint32_t pending = pool.pending.fetch_or(kCallerAsleep, std::memory_order_acquire) | kCallerAsleep;
  while (pending != kCallerAsleep) {
    System::wait(pool.pending, pending);
    pending = pool.pending.load(std::memory_order_acquire);
  }
}

}  // namespace

uint32_t threads() { return pool.threads; }

void run_parts(uint32_t parts, void (*work)(const void* context, uint32_t part), const void* context) {
  TERN_CHECK(parts >= 1 && parts <= pool.threads);
  if (pool.busy.exchange(true, std::memory_order_acquire)) {
    for (uint32_t part = 0; part < parts; ++part) work(context, part);
    return;
  }
  pool.work = work;
  pool.context = context;
  pool.pending.store(parts - 1, std::memory_order_relaxed);
  for (uint32_t part = 1; part < parts; ++part) pool.helpers[part].parts.offer();
  work(context, 0);
  uint32_t taken = 0;
  for (uint32_t part = 1; part < parts; ++part) {
    if (!pool.helpers[part].parts.take()) continue;
    work(context, part);
    ++taken;
  }
  pool.pending.fetch_sub(taken, std::memory_order_relaxed);
  wait_for_helpers();
  pool.busy.store(false, std::memory_order_release);
}

#ifdef __EMSCRIPTEN__

void set_threads(uint32_t count) {
  TERN_CHECK(count >= 1 && count <= kMaxThreads && !pool.busy);
  pool.threads = count;
}

extern "C" void _emscripten_stack_restore(void* top);  // of Emscripten's runtime: sets the instance's stack pointer

namespace {

// Nothing here may use the stack: until its first line is done it is the caller's.
[[gnu::noinline]] void help_on_own_stack(uint32_t part) { help(part); }
void enter_helper(uint32_t part) {
  _emscripten_stack_restore(pool.helpers[part].stack);
  help_on_own_stack(part);
}

}  // namespace

uint32_t prepare_helper(uint32_t part) {
  TERN_CHECK(part >= 1 && part < kMaxThreads);
  Helper& helper = pool.helpers[part];
  if (helper.stack == nullptr) helper.stack = new (std::align_val_t{64}) char[kStackBytes] + kStackBytes;
  helper.parts.clear();
  return reinterpret_cast<uintptr_t>(&enter_helper);
}

#else

void set_threads(uint32_t count) {
  TERN_CHECK(count >= 1 && count <= kMaxThreads && !pool.busy);
  for (uint32_t part = count; part < pool.threads; ++part) {
    Helper& helper = pool.helpers[part];
    helper.parts.end();
    helper.thread.join();
  }
  for (uint32_t part = pool.threads; part < count; ++part) {
    pool.helpers[part].parts.clear();
    pool.helpers[part].thread = std::thread(help, part);
  }
  pool.threads = count;
}

Pool::~Pool() { set_threads(1); }

#endif

}  // namespace tern

#endif
