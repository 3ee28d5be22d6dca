// json.h: writes JSON with the commas and quotes in the right places.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tern {

/// Appends one value after another; the caller opens and closes objects and arrays in order.
/// Text that is not UTF-8 has its ill-formed parts replaced by U+FFFD.
class JsonWriter {
 public:
  JsonWriter& open(char bracket);   // '{' or '['
  JsonWriter& close(char bracket);  // '}' or ']'
  JsonWriter& key(std::string_view name);
  JsonWriter& text(std::string_view value);
  JsonWriter& integer(int64_t value);
  JsonWriter& unsigned_integer(uint64_t value);
  JsonWriter& boolean(bool value);
  JsonWriter& real(double value);  // six digits after the point
  JsonWriter& integers(std::span<const int32_t> values);

  const std::string& result() const { return out_; }

 private:
  void begin_value();
  void quoted(std::string_view value);

  std::string out_;
  bool comma_ = false;  // the next value or key needs one before it
};

/// Two hexadecimal digits per byte.
std::string to_hex(std::span<const uint8_t> bytes);
/// 16 hexadecimal digits.
std::string to_hex(uint64_t number);

}  // namespace tern
