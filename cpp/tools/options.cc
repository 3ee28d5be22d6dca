// options.cc: the command line parser.
#include "tools/options.h"

#include <algorithm>

namespace tern {
namespace {

Error expected(std::string_view what, const std::string& wanted, std::string_view found) {
  return error_f(ErrorCode::kBadOption, "%s: expected %s, found \"%s\"", std::string(what).c_str(), wanted.c_str(),
                 std::string(found).c_str());
}

bool is_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string help_text(std::string_view usage, std::span<const Option> options) {
  std::string help = "usage: " + std::string(usage) + "\n\n";
  for (const Option& option : options) {
    std::string left = std::string("  ") + option.name + (option.value ? std::string(" ") + option.value : "");
    if (left.size() < 30) left.resize(30, ' ');
    help += left + " " + option.help + "\n";
  }
  return help + "  -h, --help                   print this and exit\n";
}

Result<Arguments> Arguments::parse(std::span<char* const> words, std::span<const Option> options) {
  Arguments arguments;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const size_t equals = word.find('=');
    const std::string_view name = word.substr(0, equals);
    const auto option = std::ranges::find_if(options, [&](const Option& o) { return name == o.name; });
    if (option == options.end()) {
      return error_f(ErrorCode::kBadOption, "unknown option \"%s\": --help lists the known ones",
                     std::string(word).c_str());
    }
    std::string value;
    if (option->value == nullptr) {
      if (equals != std::string_view::npos) return expected(name, "no value", word.substr(equals + 1));
    } else if (equals != std::string_view::npos) {
      value = word.substr(equals + 1);
    } else if (++i < words.size()) {
      value = words[i];
    } else {
      return error_f(ErrorCode::kBadOption, "%s: expected %s after it, found nothing", option->name, option->value);
    }
    arguments.values_.emplace(option->name, value);
  }
  return arguments;
}

std::string Arguments::text(const char* name, std::string_view otherwise) const {
  const std::vector<std::string> values = all(name);
  return values.empty() ? std::string(otherwise) : values.back();
}

std::vector<std::string> Arguments::all(const char* name) const {
  std::vector<std::string> values;
  const auto [first, last] = values_.equal_range(name);
  for (auto it = first; it != last; ++it) values.push_back(it->second);
  return values;
}

Result<std::string> Arguments::required(const char* name) const {
  if (has(name)) return text(name);
  return error_f(ErrorCode::kBadOption, "expected the option %s: --help says more", name);
}

Result<uint64_t> Arguments::integer(const char* name, uint64_t otherwise, uint64_t low, uint64_t high) const {
  if (!has(name)) return otherwise;
  return parse_integer(name, text(name), low, high);
}

Result<uint64_t> parse_integer(std::string_view what, std::string_view text, uint64_t low, uint64_t high) {
  uint64_t number = 0;
  bool valid = !text.empty() && is_digits(text);
  for (size_t i = 0; valid && i < text.size(); ++i) {
    const auto digit = static_cast<uint64_t>(text[i] - '0');
    valid = number <= (UINT64_MAX - digit) / 10;
    number = number * 10 + digit;
  }
  if (valid && number >= low && number <= high) return number;
  return expected(what, "a whole number from " + std::to_string(low) + " to " + std::to_string(high), text);
}

Result<uint32_t> parse_q16(std::string_view what, std::string_view text) {
  const size_t point = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, point);
  const std::string_view fraction = point < text.size() ? text.substr(point + 1, 12) : std::string_view();
  if (whole.size() + fraction.size() == 0 || whole.size() > 4 || !is_digits(whole) ||
      !is_digits(text.substr(std::min(point + 1, text.size())))) {
    return expected(what, "a number from 0 to 9999, such as 0.8", text);
  }
  uint64_t scale = 1;
  uint64_t digits = 0;
  for (const char c : std::string(whole) + std::string(fraction)) digits = digits * 10 + static_cast<uint64_t>(c - '0');
  for (size_t i = 0; i < fraction.size(); ++i) scale *= 10;
  // Whole part and remainder apart: digits can have 16 decimals, too many to multiply by 65536.
  const uint64_t rounded = digits / scale * 65536 + (digits % scale * 65536 + scale / 2) / scale;
  return static_cast<uint32_t>(rounded);
}

Result<void> set_sample_option(SampleOptions& options, std::string_view name, std::string_view value,
                               std::string_view shown) {
  struct Real {
    const char* name;
    uint32_t SampleOptions::* field;
    const char* range;  // as validate() has it, in the user's units
  };
  static constexpr Real kReals[] = {
      {"temperature", &SampleOptions::temperature_q16, "a number above 0, up to 100, such as 0.8"},
      {"top-p", &SampleOptions::top_p_q16, "a number above 0, up to 1, such as 0.9"},
      {"min-p", &SampleOptions::min_p_q16, "a number from 0 to below 1, such as 0.05"},
      {"repetition-penalty", &SampleOptions::repetition_penalty_q16, "a number from 1 to 10, such as 1.1"}};
  const auto real = std::ranges::find_if(kReals, [&](const Real& r) { return name == r.name; });
  SampleOptions changed = options;
  if (real != std::end(kReals)) {
    const Result<uint32_t> number = parse_q16(shown, value);
    if (number.ok()) changed.*(real->field) = number.value();
    if (!number.ok() || !validate(changed, kBytes).ok()) return expected(shown, real->range, value);
  } else if (name == "top-k") {
    const Result<uint64_t> number = parse_integer(shown, value, 1, 256);
    if (!number.ok()) return number.error();
    changed.top_k = static_cast<uint32_t>(number.value());
  } else if (name == "seed") {
    const Result<uint64_t> number = parse_integer(shown, value, 0, UINT64_MAX);
    if (!number.ok()) return number.error();
    changed.seed = number.value();
  } else if ((name == "greedy" || name == "raw") && (value == "true" || value == "false")) {
    (name == "raw" ? changed.raw : changed.greedy) = value == "true";
  } else if (name == "greedy" || name == "raw") {
    return expected(shown, "true or false", value);
  } else {
    return expected("sampling option", "temperature, top-k, top-p, min-p, repetition-penalty, seed, greedy or raw",
                    name);
  }
  options = changed;
  return {};
}

}  // namespace tern
