// files.cc: reading files, and models and texts in them, for the command line programs.
#include "tools/files.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "base/vocabulary.h"
#include "text/documents.h"
#include "text/utf8.h"

namespace tern {

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

namespace {

Result<std::vector<uint8_t>> read_what_is_not_empty(const std::string& path) {
  Result<std::vector<uint8_t>> file = read_file(path);
  if (file.ok() && file.value().empty()) return error_f(ErrorCode::kBadFile, "%s: the file is empty", path.c_str());
  return file;
}

Result<std::vector<uint8_t>> documents_in(const std::string& path, std::span<const uint8_t> file) {
  Result<std::vector<uint8_t>> tokens = read_documents(file);
  if (tokens.ok()) return tokens;
  return error_f(tokens.error().code, "%s: %s", path.c_str(), tokens.error().message.c_str());
}

}  // namespace

Result<std::vector<uint8_t>> read_text(const std::string& path) {
  const Result<std::vector<uint8_t>> file = read_what_is_not_empty(path);
  return file.ok() ? documents_in(path, file.value()) : file;
}

Result<std::vector<uint8_t>> read_text_file(const std::string& path) {
  const Result<std::vector<uint8_t>> file = read_what_is_not_empty(path);
  if (!file.ok()) return file;
  const bool prepared = std::string_view(path).ends_with(".bin");
  Result<std::vector<uint8_t>> tokens = prepared ? file : documents_in(path, file.value());
  if (!tokens.ok()) return tokens;
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
  return tokens;
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
  if (!model.ok()) return error_f(model.error().code, "%s: %s", path.c_str(), model.error().message.c_str());
  for (const KeyValue& warning : model.value()->info().warnings) {
    std::fprintf(stderr, "%s: warning: tensor \"%s\": %s\n", path.c_str(), warning.key.c_str(), warning.value.c_str());
  }
  return model;
}

Error context_full(uint64_t taken, uint64_t tokens) {
  return error_f(ErrorCode::kBadState, "context full after %llu of %llu tokens: expected a shorter text",
                 static_cast<unsigned long long>(taken), static_cast<unsigned long long>(tokens));
}

Error cut_short(const Session& session, uint64_t taken, uint64_t tokens) {
  if (!session.lacks_memory()) return context_full(taken, tokens);
  return error_f(ErrorCode::kOutOfMemory, "there is no memory for more than %llu of %llu: expected a shorter text",
                 static_cast<unsigned long long>(taken), static_cast<unsigned long long>(tokens));
}

Result<void> feed_whole(Session& session, std::span<const uint8_t> text, Observer* observer) {
  const size_t taken = session.feed(text, {.observer = observer});
  if (taken < text.size()) return cut_short(session, taken, text.size());
  return {};
}

Result<void> feed_whole(Session& session, std::span<const Token> tokens) {
  const Result<size_t> taken = session.feed(tokens);
  if (!taken.ok()) return taken.error();
  if (taken.value() < tokens.size()) return cut_short(session, taken.value(), tokens.size());
  return {};
}

}  // namespace tern
