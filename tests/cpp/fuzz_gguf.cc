// fuzz_gguf.cc: libFuzzer target: any bytes, in chunks of any size, give a model that runs or an error, never a crash.
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "session/session.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t chunk = size_t{1} + data[0] * data[0];  // 1 byte to 64 KiB at a time
  std::span<const uint8_t> file(data + 1, size - 1);
  tern::ModelLoader loader;
  while (!file.empty()) {
    const std::span<const uint8_t> piece = file.first(file.size() < chunk ? file.size() : chunk);
    if (!loader.push(piece).ok()) return 0;
    file = file.subspan(piece.size());
  }
  const auto model = loader.finish();
  if (!model.ok()) return 0;
  tern::Session session(model.value());
  std::vector<tern::Token> text;
  for (size_t i = 0; i < size && i < 40; ++i) text.push_back(data[i] % model.value()->info().vocabulary.size);
  if (!session.feed(text).ok()) __builtin_trap();
  tern::Token out[8];
  if (session.start({}, std::size(out)).ok()) session.generate(out);
  if (!session.restore(session.save()).ok()) __builtin_trap();
  return 0;
}
