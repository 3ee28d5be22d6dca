// result.cc: the formatter behind error_f, integers and strings only.
#include "base/result.h"

#include <cstdarg>
#include <cstdint>

namespace tern {
namespace {

void append_unsigned(std::string& out, uint64_t value) {
  char digits[20];  // 2^64 has 20 decimal digits
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count > 0) out.push_back(digits[--count]);
}

void append_signed(std::string& out, int64_t value) {
  if (value < 0) out.push_back('-');
  // Negating as unsigned is exact for the smallest int64 too.
  append_unsigned(out, value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value));
}

}  // namespace

Error error_f(ErrorCode code, const char* format, ...) {
  std::string out;
  va_list arguments;
  va_start(arguments, format);
  for (const char* p = format; *p != '\0'; ++p) {
    if (*p != '%') {
      out.push_back(*p);
      continue;
    }
    ++p;
    int longs = 0;
    while (*p == 'l') {
      ++longs;
      ++p;
    }
    TERN_CHECK(longs == 0 || longs == 2);
    if (*p == 's') {
      out += va_arg(arguments, const char*);
    } else if (*p == 'd') {
      append_signed(out, longs == 2 ? va_arg(arguments, long long) : va_arg(arguments, int));
    } else if (*p == 'u') {
      append_unsigned(out, longs == 2 ? va_arg(arguments, unsigned long long) : va_arg(arguments, unsigned));
    } else {
      TERN_CHECK(*p == '%');
      out.push_back('%');
    }
  }
  va_end(arguments);
  return Error{code, std::move(out)};
}

}  // namespace tern
