// files.cc: reading files, and models and texts in them, for the command line programs.
#include "tools/files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "base/vocabulary.h"
#include "session/session.h"
#include "text/utf8.h"

namespace tern {
namespace {

constexpr std::string_view kSeparator = "<|endoftext|>";

/// As the model saw texts in training: a separator line is one end-of-text byte, its line end belongs to it.
std::vector<uint8_t> with_document_ends(std::string_view text) {
  std::vector<uint8_t> bytes;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const size_t used = std::min(end + 1, text.size());
    if (text.substr(0, end) == kSeparator) {
      bytes.push_back(static_cast<uint8_t>(kBytes.eos));
    } else {
      bytes.insert(bytes.end(), text.begin(), text.begin() + static_cast<std::ptrdiff_t>(used));
    }
    text.remove_prefix(used);
  }
  return bytes;
}

}  // namespace

Result<void> for_each_piece(const std::string& path, const std::function<Result<void>(std::span<const uint8_t>)>& use) {
  const auto failed = [&] { return error_f(ErrorCode::kBadFile, "%s: %s", path.c_str(), std::strerror(errno)); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (file == nullptr) return failed();
  std::vector<uint8_t> piece(size_t{1} << 16);
  while (true) {
    const size_t size = std::fread(piece.data(), 1, piece.size(), file.get());
    if (std::ferror(file.get()) != 0) return failed();
    if (size == 0) return {};
    Result<void> used = use(std::span(piece).first(size));
    if (!used.ok()) return used;
  }
}

Result<std::vector<uint8_t>> read_file(const std::string& path) {
  std::vector<uint8_t> bytes;
  const Result<void> read = for_each_piece(path, [&](std::span<const uint8_t> piece) -> Result<void> {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
    return {};
  });
  if (!read.ok()) return read.error();
  return bytes;
}

Result<std::vector<uint8_t>> read_tokens(const std::string& path) {
  const Result<std::vector<uint8_t>> file = read_file(path);
  if (!file.ok()) return file.error();
  if (file.value().empty()) return error_f(ErrorCode::kBadFile, "%s: the file is empty", path.c_str());
  return with_document_ends({reinterpret_cast<const char*>(file.value().data()), file.value().size()});
}

Result<std::vector<uint8_t>> read_text_file(const std::string& path) {
  Result<std::vector<uint8_t>> file = read_file(path);
  if (!file.ok()) return file.error();
  const bool prepared = std::string_view(path).ends_with(".bin");
  std::span<const uint8_t> rest = file.value();
  while (!rest.empty()) {  // a prepared text is UTF-8 between its document ends
    const auto end = prepared ? std::ranges::find(rest, kBytes.eos) : rest.end();
    const auto document = rest.first(static_cast<size_t>(end - rest.begin()));
    if (const size_t valid = valid_utf8_prefix(document); valid < document.size()) {
      return error_f(ErrorCode::kBadFile, "%s: not UTF-8 at byte %llu; convert it first", path.c_str(),
                     static_cast<unsigned long long>(file.value().size() - rest.size() + valid));
    }
    rest = rest.subspan(std::min(document.size() + 1, rest.size()));
  }
  if (!prepared) return read_tokens(path);
  if (file.value().empty()) return error_f(ErrorCode::kBadFile, "%s: the file is empty", path.c_str());
  return file;
}

Result<std::shared_ptr<const Model>> load_model(const std::string& path) {
  ModelLoader loader;
  bool opened = false;
  const Result<void> read = for_each_piece(path, [&](std::span<const uint8_t> piece) {
    opened = true;
    return loader.push(piece);
  });
  if (!read.ok() && !opened) return read.error();
  Result<std::shared_ptr<const Model>> model = loader.finish();
  if (model.ok()) return model;
  return error_f(model.error().code, "%s: %s", path.c_str(), model.error().message.c_str());
}

}  // namespace tern
