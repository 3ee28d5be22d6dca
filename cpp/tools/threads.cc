// threads.cc: starts the threads that a command was asked for.
#include "tools/threads.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/parallel.h"
#include "session/choose_threads.h"

namespace tern {
namespace {

uint32_t microseconds() {
  using std::chrono::microseconds;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint32_t>(std::chrono::duration_cast<microseconds>(now).count());
}

}  // namespace

Result<void> use_threads(const Arguments& arguments, const std::shared_ptr<const Model>& model) {
  const std::string asked = arguments.text("--threads", "1");
  if (asked == "auto") {
    choose_threads(model, std::clamp(std::thread::hardware_concurrency(), 1u, kMaxThreads), microseconds);
    return {};
  }
  const Result<uint64_t> count = parse_integer("--threads", asked, 1, kMaxThreads);
  if (!count.ok()) {
    return error_f(ErrorCode::kBadOption, "--threads: expected a whole number from 1 to %u, or auto, found \"%s\"",
                   kMaxThreads, asked.c_str());
  }
  set_threads(static_cast<uint32_t>(count.value()));
  return {};
}

}  // namespace tern
