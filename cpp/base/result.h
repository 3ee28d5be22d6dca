// result.h: bad data is a value, not an exception; every fallible call of the engine returns a Result.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace tern {

/// Stable categories; the bindings map them one to one to the `code` of a TernError.
enum class ErrorCode { kBadFile, kUnsupported, kBadOption, kBadState, kOutOfMemory };

struct Error {
  ErrorCode code;
  std::string message;  ///< what was expected, what was found, what to do
};

/// An Error with a formatted message.  Conversions: %s (const char*), %d %u (int, unsigned), %lld %llu (64 bit), %%.
/// Anything else traps.  There is no %f on purpose: printf's float code must not get into the wasm module.
[[gnu::format(printf, 2, 3)]] Error error_f(ErrorCode code, const char* format, ...);

/// Either a T or an Error.  Reading the wrong one is a broken promise and traps.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : content_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(*-explicit-*)
  Result(Error error) : content_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(*-explicit-*)

  bool ok() const { return content_.index() == 0; }
  T& value() & { return *checked(std::get_if<0>(&content_)); }
  const T& value() const& { return *checked(std::get_if<0>(&content_)); }
  T&& value() && { return std::move(*checked(std::get_if<0>(&content_))); }
  const Error& error() const { return *checked(std::get_if<1>(&content_)); }

 private:
  template <class P>
  static P* checked(P* content) {
    TERN_CHECK(content != nullptr);
    return content;
  }

  std::variant<T, Error> content_;
};

/// Success without a value, or an Error: `return {};` means success.
template <>
class [[nodiscard]] Result<void> : public Result<std::monostate> {
 public:
  Result() : Result<std::monostate>(std::monostate{}) {}
  Result(Error error) : Result<std::monostate>(std::move(error)) {}  // NOLINT(*-explicit-*)
};

}  // namespace tern
