// output.h: everything a program writes, checked up to the last byte: standard output, and files that appear when
// whole.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/utf8.h"

namespace tern {

/// A destination.  The first error is kept, and nothing is written after it; finish() says what it was and how much had
/// been written.  When the reader of a pipe has gone, the program ends as SIGPIPE would end it.
class Output {
 public:
  /// Standard output.  On a terminal, control characters of texts are shown as U+FFFD.
  Output();
  /// A file that appears under its name, in one step, when finish() succeeds; until then, and after an error, an older
  /// file of that name stays as it was.  What is no regular file (a pipe, /dev/null) is written to directly.
  /// kBadOption if `path` is one of the inputs, also by another name.
  static Result<Output> file(const std::string& path, std::span<const std::string> inputs);

  ~Output();
  Output(Output&& other) noexcept;
  Output& operator=(Output&&) = delete;

  void write(std::string_view bytes);
  /// A text of a model or of a file, for people: see the constructor.
  void write_text(std::string_view bytes);
  void write_text(std::span<const uint8_t> bytes) {
    write_text(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
  [[gnu::format(printf, 2, 3)]] void print(const char* format, ...);

  /// Everything so far is handed to the system.
  Result<void> flush();
  /// flush(), and the file appears.  Call last; without it a file does not appear.
  Result<void> finish();

  bool is_terminal() const { return is_terminal_; }

 private:
  Output(int descriptor, std::string name);
  void discard();

  int descriptor_;
  std::string name_;      // for messages
  std::string path_;      // of the file to appear; empty if there is none
  std::string partial_;   // what is written until then
  std::string pending_;   // not yet handed over
  uint64_t written_ = 0;  // handed over
  uint64_t asked_ = 0;    // in all
  bool is_terminal_ = false;
  Utf8Splitter characters_;  // of texts on a terminal
  Result<void> failed_;
};

/// Text with its control characters replaced by U+FFFD, for a terminal; line ends and tabs stay where `lines` is true.
std::string printable(std::string_view text, bool lines);

/// A whole program: `run` writes to standard output, whose last byte is checked before the program says that all went
/// well.  Errors go to stderr as "NAME: what, expected, found" in one line.
/// -> 0; 1 for a file that cannot be used or written; 2 for a wrong option.  Signals that end a program remove its
/// unfinished file and end it with their usual status.
int run_program(const char* name, const std::function<Result<void>(Output& out)>& run);

}  // namespace tern
