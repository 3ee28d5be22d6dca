// files.cc: reading files for the command line programs.
#include "tools/files.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "session/session.h"

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
