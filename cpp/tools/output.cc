// output.cc: buffers, write(2), and the unfinished file that a signal removes.
#include "tools/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace tern {
namespace {

constexpr size_t kBuffer = size_t{1} << 16;

// The one unfinished file of the program, where a signal handler can find it.
char unfinished[PATH_MAX];
std::atomic<bool> has_unfinished = false;

void remember_unfinished(const std::string& path) {
  std::strncpy(unfinished, path.c_str(), sizeof unfinished - 1);
  has_unfinished = true;
}

/// Calls only what POSIX allows in a signal handler.
[[noreturn]] void end_by_signal(int number) {
  if (has_unfinished) unlink(unfinished);
  std::signal(number, SIG_DFL);
  sigset_t only;
  sigemptyset(&only);
  sigaddset(&only, number);
  sigprocmask(SIG_UNBLOCK, &only, nullptr);
  raise(number);
  _exit(128 + number);
}

Error failure(const std::string& name, const char* what) {
  return error_f(ErrorCode::kBadState, "%s: %s", name.c_str(), what);
}

/// A standard stream that is closed is not given to the next file that is opened, and signals clean up.
void prepare_outputs() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor) {
    // Reading from it ends at once, and writing fails as it would on a closed stream.
    if (fcntl(descriptor, F_GETFD) < 0 && open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY) < 0) return;
  }
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow further is an error of write()
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    struct sigaction action = {};
    if (sigaction(number, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;  // nohup
    action = {};
    action.sa_handler = &end_by_signal;
    sigaction(number, &action, nullptr);
  }
}

bool is_same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

}  // namespace

std::string printable(std::string_view text, bool lines) {
  std::string shown;
  for (size_t at = 0; at < text.size(); ++at) {
    const auto byte = static_cast<uint8_t>(text[at]);
    const bool second =
        byte == 0xC2 && at + 1 < text.size() && static_cast<uint8_t>(text[at + 1]) < 0xA0;  // U+0080..9F
    if (second || byte == 0x7F || (byte < 0x20 && !(lines && (byte == '\n' || byte == '\t')))) {
      shown += "\xEF\xBF\xBD";
      at += second ? 1 : 0;
    } else {
      shown += text[at];
    }
  }
  return shown;
}

Output::Output() : Output(1, "standard output") { is_terminal_ = isatty(descriptor_) == 1; }

Output::Output(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}

Output::Output(Output&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      name_(std::move(other.name_)),
      path_(std::move(other.path_)),
      partial_(std::exchange(other.partial_, {})),
      pending_(std::move(other.pending_)),
      written_(other.written_),
      asked_(other.asked_),
      is_terminal_(other.is_terminal_),
      characters_(other.characters_),
      failed_(std::move(other.failed_)) {}

Output::~Output() { discard(); }

/// Closes the file and removes what was not finished.
void Output::discard() {
  if (descriptor_ > 2) close(descriptor_);
  descriptor_ = -1;
  if (partial_.empty()) return;
  has_unfinished = false;
  unlink(partial_.c_str());
  partial_.clear();
}

Result<Output> Output::file(const std::string& path, std::span<const std::string> inputs) {
  struct stat old = {};
  const bool exists = stat(path.c_str(), &old) == 0;
  for (const std::string& input : inputs) {
    struct stat other = {};
    if (exists && stat(input.c_str(), &other) == 0 && is_same_file(old, other) && S_ISREG(old.st_mode)) {
      return error_f(ErrorCode::kBadOption, "%s: expected a file to write, found the one that is read (%s)",
                     path.c_str(), input.c_str());
    }
  }
  if (exists && S_ISDIR(old.st_mode)) return failure(path, std::strerror(EISDIR));
  if (exists && !S_ISREG(old.st_mode)) {
    const int descriptor = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (descriptor < 0) return failure(path, std::strerror(errno));
    return Output(descriptor, path);
  }
  if (exists && access(path.c_str(), W_OK) != 0) return failure(path, std::strerror(errno));
  // A link stays a link: what it leads to is replaced.
  std::array<char, PATH_MAX> resolved = {};
  const std::string target = exists && realpath(path.c_str(), resolved.data()) != nullptr ? resolved.data() : path;
  const std::string partial = target + "." + std::to_string(getpid()) + ".partial";
  remember_unfinished(partial);
  const int descriptor = open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    has_unfinished = false;
    return failure(partial, std::strerror(errno));
  }
  if (exists) static_cast<void>(fchmod(descriptor, old.st_mode & 07777));
  Output output(descriptor, path);
  output.path_ = target;
  output.partial_ = partial;
  return output;
}

void Output::write(std::string_view bytes) {
  asked_ += bytes.size();
  if (!failed_.ok()) return;
  pending_ += bytes;
  if (pending_.size() >= kBuffer) static_cast<void>(flush());
}

void Output::write_text(std::string_view bytes) {
  if (!is_terminal_) return write(bytes);
  write(printable(characters_.push({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}), true));
}

void Output::print(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  va_list again;
  va_copy(again, arguments);
  std::string text(static_cast<size_t>(std::vsnprintf(nullptr, 0, format, arguments)), '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, again);
  va_end(again);
  va_end(arguments);
  write(text);
}

Result<void> Output::flush() {
  std::string_view left = pending_;
  while (failed_.ok() && !left.empty()) {
    const ssize_t count = ::write(descriptor_, left.data(), left.size());
    if (count >= 0) {
      written_ += static_cast<uint64_t>(count);
      left.remove_prefix(static_cast<size_t>(count));
    } else if (errno == EPIPE) {
      end_by_signal(SIGPIPE);
    } else if (errno != EINTR) {
      failed_ =
          error_f(ErrorCode::kBadState, "%s: %s; %llu of %llu bytes were written", name_.c_str(), std::strerror(errno),
                  static_cast<unsigned long long>(written_), static_cast<unsigned long long>(asked_));
    }
  }
  pending_.clear();
  return failed_;
}

Result<void> Output::finish() {
  if (is_terminal_) write(characters_.finish());
  Result<void> done = flush();
  const int descriptor = std::exchange(descriptor_, -1);
  // A file system may keep an error for the last close, of standard output as well.
  if (close(descriptor) != 0 && done.ok() && errno != EINTR) done = failure(name_, std::strerror(errno));
  if (done.ok() && !partial_.empty() && std::rename(partial_.c_str(), path_.c_str()) != 0) {
    done = failure(name_, std::strerror(errno));
  }
  if (done.ok()) {
    has_unfinished = false;
    partial_.clear();
  }
  discard();
  return done;
}

int run_program(const char* name, const std::function<Result<void>(Output& out)>& run) {
  prepare_outputs();
  Output out;
  Result<void> done = run(out);
  const Result<void> written = out.finish();
  if (done.ok()) done = written;
  if (done.ok()) return 0;
  std::fprintf(stderr, "%s: %s\n", name, printable(done.error().message, false).c_str());
  return done.error().code == ErrorCode::kBadOption ? 2 : 1;
}

}  // namespace tern
