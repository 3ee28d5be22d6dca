// documents.cc: line ends, the byte order mark and the separator line.
// SPDX-License-Identifier: MIT
#include "text/documents.h"

#include <algorithm>
#include <string_view>

#include "base/vocabulary.h"

namespace tern {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kSeparator = "<|endoftext|>";

}  // namespace

Result<std::vector<uint8_t>> read_documents(std::span<const uint8_t> file) {
  std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  for (const std::string_view mark : {"\xFF\xFE"sv, "\xFE\xFF"sv, "\x00\x00\xFE\xFF"sv}) {
    if (text.starts_with(mark)) {
      return error_f(ErrorCode::kBadFile,
                     "expected UTF-8, found the byte order mark of UTF-16 or UTF-32; convert it first");
    }
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::vector<uint8_t> tokens;
  tokens.reserve(text.size());
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const bool has_end = end < text.size();
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + (has_end ? 1 : 0));
    if (has_end && line.ends_with('\r')) line.remove_suffix(1);
    if (line == kSeparator) {
      tokens.push_back(static_cast<uint8_t>(kBytes.eos));
      continue;
    }
    tokens.insert(tokens.end(), line.begin(), line.end());
    if (has_end) tokens.push_back('\n');
  }
  return tokens;
}

uint64_t raw_bytes(std::span<const uint8_t> tokens) {
  const auto ends = static_cast<uint64_t>(std::ranges::count(tokens, kBytes.eos));
  return tokens.size() + ends * kSeparator.size();  // and its line end instead of the token
}

}  // namespace tern
