// parallel.h: work split into parts that a few threads do at the same time.
#pragma once

#include <cstdint>

namespace tern {

/// Most threads that can take part, the caller among them.
inline constexpr uint32_t kMaxThreads = 64;

// Threads exist in native builds, and in WebAssembly built with shared memory.
#if !defined(__EMSCRIPTEN__) || defined(__wasm_atomics__)
#define TERN_THREADS 1

/// Threads that parallel() may use, the caller among them: 1 at first.
uint32_t threads();

/// From now on `count` threads, 1 to kMaxThreads.  Native: starts and ends them.  In WebAssembly the page's side does,
/// see prepare_helper(); one that has not come yet, or is no more, is not waited for.  Not while another thread
/// computes.
void set_threads(uint32_t count);

/// Calls work(context, part) for all parts 0 .. parts - 1, 1 <= parts <= threads(), and returns when all are done.
/// Part p is for thread p, always the same one, so that what it reads stays in its cache; a part that its thread has
/// not begun when the caller is done with its own is the caller's, which so never waits for a thread to wake up.
/// If another caller is in here, this one does everything itself.
void run_parts(uint32_t parts, void (*work)(const void* context, uint32_t part), const void* context);

#ifdef __EMSCRIPTEN__
/// Makes a stack for thread `part`, 1 .. kMaxThreads - 1.  Answers the index in the module's table of the function that
/// another instance of it, with the same memory, calls with `part` from a thread of its own; it does not return.  The
/// thread can be ended whenever this one is not in run_parts().
uint32_t prepare_helper(uint32_t part);
#endif

#else
constexpr uint32_t threads() { return 1; }
#endif

/// work(part) for all parts, 1 <= parts <= threads().
template <class Work>
void parallel(uint32_t parts, const Work& work) {
#ifdef TERN_THREADS
  if (parts > 1) {
    run_parts(parts, [](const void* context, uint32_t part) { (*static_cast<const Work*>(context))(part); }, &work);
    return;
  }
#endif
  for (uint32_t part = 0; part < parts; ++part) work(part);
}

/// How many parts pay for work of this size: as many as there are threads, but none smaller than `least`.
inline uint32_t parts_for(uint64_t size, uint64_t least) {
  const uint64_t most = size / least;
  return most >= threads() ? threads() : most > 1 ? static_cast<uint32_t>(most) : 1;
}

/// Item where part `part` of `parts` begins, of `count` items; part `parts` begins at the end.
constexpr uint32_t part_begin(uint32_t count, uint32_t part, uint32_t parts) {
  return static_cast<uint32_t>(uint64_t{count} * part / parts);
}

}  // namespace tern
