// wasm.cc: the bench as a WebAssembly module: a page pushes a model, names the parts and reads the printed lines.
#include <emscripten.h>

#include <cstdio>
#include <vector>

#include "session/session.h"
#include "tools/bench/bench.h"

namespace tern {
namespace {

std::vector<uint8_t> g_buffer;
ModelLoader g_loader;
std::shared_ptr<const Model> g_model;

template <class T>
int status_of(const Result<T>& result) {
  if (result.ok()) return 0;
  std::fprintf(stderr, "tern_bench: %s\n", result.error().message.c_str());
  return 1;
}

}  // namespace
}  // namespace tern

extern "C" {

/// Where the page puts the next `size` bytes of a model, or words.
EMSCRIPTEN_KEEPALIVE uint8_t* bench_buffer(uint32_t size) {
  tern::g_buffer.resize(size);
  return tern::g_buffer.data();
}

/// Takes the first `size` bytes of the buffer as the next of the model.  0, or 1 after a message on stderr.
EMSCRIPTEN_KEEPALIVE int bench_push(uint32_t size) {
  return tern::status_of(tern::g_loader.push(std::span(tern::g_buffer).first(size)));
}

EMSCRIPTEN_KEEPALIVE int bench_finish() {
  const auto model = tern::g_loader.finish();
  if (model.ok()) tern::g_model = model.value();
  return tern::status_of(model);
}

/// Runs with the options in the first `size` bytes of the buffer, each ended by a zero byte; see bench.h.  0, or 1.
EMSCRIPTEN_KEEPALIVE int bench_run(uint32_t size) {
  char* const text = reinterpret_cast<char*>(tern::g_buffer.data());
  std::vector<char*> words;
  for (char* at = text; at < text + size; ++at) {
    if (at == text || at[-1] == 0) words.push_back(at);
  }
  tern::Output out;
  const tern::Result<void> done = tern::run_bench(words, tern::g_model, out);
  return tern::status_of(done.ok() ? out.flush() : done);
}
}
