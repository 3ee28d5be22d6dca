// other_files.cc: the files that people have in place of a model, by their magic numbers.
// SPDX-License-Identifier: MIT
#include "format/other_files.h"

#include <algorithm>
#include <string_view>

namespace tern {
namespace {

struct Known {
  std::string_view start;
  const char* text;
};

using namespace std::string_view_literals;

constexpr const char* kUnpack = "a compressed file; unpack it first, or serve it with a Content-Encoding header";
constexpr const char* kOldModel = "a model in a format older than GGUF; convert it with llama.cpp";

constexpr Known kKnown[] = {
    {"version https://git-lfs"sv, "a Git LFS pointer, not the model itself; run `git lfs pull` where it came from"},
    {"\x1f\x8b"sv, kUnpack},          // gzip
    {"\x28\xb5\x2f\xfd"sv, kUnpack},  // zstd
    {"\xfd\x37zXZ\x00"sv, kUnpack},   // xz
    {"BZh"sv, kUnpack},               // bzip2
    {"PK\x03\x04"sv, "a ZIP archive or a PyTorch checkpoint; unpack it, or make a model of it with scripts/export.py"},
    {"\x80\x02"sv, "a Python pickle, such as an old PyTorch checkpoint; make a model of it with scripts/export.py"},
    {"lmgg"sv, kOldModel},  // "ggml" and its successors, as little-endian numbers
    {"fmgg"sv, kOldModel},
    {"tjgg"sv, kOldModel},
    {"FUGG"sv, "a GGUF file whose bytes were swapped; download it again"},
    {"%PDF"sv, "a PDF document"},
};

bool begins_with_any_case(std::string_view text, std::string_view lower) {
  return text.size() >= lower.size() && std::equal(lower.begin(), lower.end(), text.begin(), [](char want, char c) {
           return want == (c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
         });
}

std::string hex_of(std::span<const uint8_t> bytes) {
  std::string digits;
  for (const uint8_t byte : bytes) {
    if (!digits.empty()) digits += ' ';
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  return digits;
}

}  // namespace

std::string describe_other_file(std::span<const uint8_t> start) {
  const std::string_view bytes(reinterpret_cast<const char*>(start.data()), start.size());
  for (const Known& known : kKnown) {
    if (bytes.starts_with(known.start)) return known.text;
  }
  if (bytes.size() > 8 && bytes[8] == '{' && bytes.substr(4, 4) == "\0\0\0\0"sv) {
    return "a safetensors file; make a model of it with scripts/export.py or a converter of its project";
  }
  std::string_view text = bytes;
  if (text.starts_with("\xEF\xBB\xBF"sv)) text.remove_prefix(3);
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  for (const std::string_view tag : {"<!doctype"sv, "<html"sv, "<head"sv, "<?xml"sv, "<!--"sv}) {
    if (begins_with_any_case(text, tag)) {
      return "a web page, perhaps an error page or a preview; look at what the address answers, and use the address of "
             "the file itself";
    }
  }
  if (text.starts_with('{') || text.starts_with('[')) {
    return "JSON, perhaps an error message or a model's settings; look at what is in it, and use the address of the "
           "file "
           "itself";
  }
  if (bytes.empty()) return "nothing: the file is empty";
  return "the bytes " + hex_of(start.first(std::min<size_t>(start.size(), 8)));
}

}  // namespace tern
