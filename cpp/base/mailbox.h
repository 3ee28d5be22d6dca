// mailbox.h: the word at which a helper of parallel.cc waits for its next part, spinning for a moment before it sleeps.
#pragma once

#include <atomic>
#include <cstdint>

namespace tern {

/// One thread calls next(), another one the rest.  System has
///   kSpins               rounds of a spinning wait
///   pause()              between two of them
///   wait(word, value)    sleeps while the word has that value; may return early
///   wake(word)           ends the sleep of the one that waits there
template <class System>
class Mailbox {
 public:
  using Word = std::atomic<uint32_t>;

  /// A part waits from now on, until somebody takes it.
  void offer() { put(kOffered); }

  /// next() returns false from now on.
  void end() { put(kEnd); }

  /// Empty, for a helper that starts.
  void clear() { word_ = kIdle; }

  /// Whether there was a part; it is the caller's now.
  bool take() {
    uint32_t offered = kOffered;
    return word_.compare_exchange_strong(offered, kIdle, std::memory_order_acquire, std::memory_order_relaxed);
  }

  /// Waits for a part, and takes it.  False: there will be none.
  bool next() {
    for (;;) {
      for (int spin = 0; spin < System::kSpins; ++spin) {
        const uint32_t word = word_.load(std::memory_order_relaxed);
        if (word == kEnd) return false;
        if (word == kOffered && take()) return true;
        System::pause();
      }
      uint32_t idle = kIdle;
      word_.compare_exchange_strong(idle, kAsleep, std::memory_order_relaxed);
      // Again and again: what wakes it may be the notification of a part that it took, or that was taken, before.
      while (word_.load(std::memory_order_relaxed) == kAsleep) System::wait(word_, kAsleep);
    }
  }

 private:
  enum : uint32_t {
    kIdle,     // nothing to do
    kOffered,  // a part waits
    kAsleep,   // nothing to do, and the helper must be woken
    kEnd,      // the helper is to return
  };

  void put(uint32_t word) {
    if (word_.exchange(word, std::memory_order_acq_rel) == kAsleep) System::wake(word_);
  }

  Word word_{kIdle};
};

}  // namespace tern
