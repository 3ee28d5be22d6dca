// options.h: a table-driven parser of command lines, and of the numbers in them.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/sampler.h"

namespace tern {

struct Option {
  const char* name;   // with its dashes
  const char* value;  // what to call its value in the help; null for a flag
  const char* help;
};

/// The help text of one command.
std::string help_text(std::string_view usage, std::span<const Option> options);

/// A parsed command line.  The last of a repeated option counts, all() has every one.
class Arguments {
 public:
  /// `--name value`, `--name=value` and flags; anything else is an error.
  static Result<Arguments> parse(std::span<char* const> words, std::span<const Option> options);

  bool has(const char* name) const { return values_.contains(name); }
  std::string text(const char* name, std::string_view otherwise = "") const;
  std::vector<std::string> all(const char* name) const;

  /// The value of a required option.
  Result<std::string> required(const char* name) const;
  /// A whole number from low to high.
  Result<uint64_t> integer(const char* name, uint64_t otherwise, uint64_t low, uint64_t high) const;

 private:
  std::multimap<std::string, std::string> values_;
};

/// "0.8" -> round(0.8 * 65536).  Digits and at most one point; `what` names the option in messages.
Result<uint32_t> parse_q16(std::string_view what, std::string_view text);
Result<uint64_t> parse_integer(std::string_view what, std::string_view text, uint64_t low, uint64_t high);

/// The sampling options that `tern generate` and its interactive commands share, by name without dashes:
/// temperature, top-k, top-p, min-p, repetition-penalty, seed, greedy and raw (value "true" or "false").
/// `shown`: what messages call it, for example "--seed".
Result<void> set_sample_option(SampleOptions& options, std::string_view name, std::string_view value,
                               std::string_view shown);

}  // namespace tern
