// json.cc: the JSON writer of the command line programs.
#include "tools/json.h"

#include <cstdio>

#include "text/utf8.h"

namespace tern {

void JsonWriter::begin_value() {
  if (comma_) out_ += ',';
  comma_ = true;
}

JsonWriter& JsonWriter::open(char bracket) {
  begin_value();
  out_ += bracket;
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::close(char bracket) {
  out_ += bracket;
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view name) {
  begin_value();
  quoted(name);
  out_ += ':';
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::text(std::string_view value) {
  begin_value();
  quoted(value);
  return *this;
}

JsonWriter& JsonWriter::integer(int64_t value) {
  begin_value();
  out_ += std::to_string(value);
  return *this;
}

JsonWriter& JsonWriter::unsigned_integer(uint64_t value) {
  begin_value();
  out_ += std::to_string(value);
  return *this;
}

JsonWriter& JsonWriter::boolean(bool value) {
  begin_value();
  out_ += value ? "true" : "false";
  return *this;
}

JsonWriter& JsonWriter::real(double value) {
  begin_value();
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.6f", value);
  out_ += digits;
  return *this;
}

JsonWriter& JsonWriter::integers(std::span<const int32_t> values) {
  open('[');
  for (const int32_t value : values) integer(value);
  return close(']');
}

void JsonWriter::quoted(std::string_view value) {
  Utf8Splitter splitter;
  const std::string text =
      splitter.push({reinterpret_cast<const uint8_t*>(value.data()), value.size()}) + splitter.finish();
  out_ += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out_ += '\\';
      out_ += c;
    } else if (byte < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", unsigned{byte});
      out_ += escape;
    } else {
      out_ += c;
    }
  }
  out_ += '"';
}

std::string to_hex(std::span<const uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const uint8_t byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string to_hex(uint64_t number) {
  uint8_t bytes[8];
  for (size_t b = 0; b < 8; ++b) bytes[b] = static_cast<uint8_t>(number >> (56 - 8 * b));
  return to_hex(std::span<const uint8_t>(bytes));
}

}  // namespace tern
