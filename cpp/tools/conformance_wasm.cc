// conformance_wasm.cc: the operations of conformance.h for the tests of the page and of Node: a module of every level.
// SPDX-License-Identifier: MIT
//
// JavaScript fills inputs(count), calls evaluate(name) and reads what it answers; tests/web/conformance.ts does.

#include <emscripten/bind.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/sha256.h"
#include "kernels/dispatch.h"
#include "tools/conformance.h"

namespace tern {
namespace {

std::vector<int64_t> numbers;  // of a call: first what goes in, then what comes out
Sha256 digest;                 // of all that came out since digest() was asked

emscripten::val view() { return emscripten::val(emscripten::typed_memory_view(numbers.size(), numbers.data())); }

emscripten::val inputs(uint32_t count) {
  numbers.resize(count);
  return view();
}

/// Valid until the next call; undefined for an unknown name.
emscripten::val evaluate(const std::string& name) {
  std::optional<std::vector<int64_t>> outputs = evaluate_operation(name, numbers);
  if (!outputs) return emscripten::val::undefined();
  numbers = std::move(*outputs);
  digest.push({reinterpret_cast<const uint8_t*>(numbers.data()), sizeof(int64_t) * numbers.size()});
  return view();
}

std::string take_digest() { return std::exchange(digest, {}).hex(); }

}  // namespace

EMSCRIPTEN_BINDINGS(conformance) {
  emscripten::function("inputs", &inputs);
  emscripten::function("evaluate", &evaluate);
  emscripten::function("digest", &take_digest);
  emscripten::function("kernel", +[] { return std::string(dispatch().level->name); });
}

}  // namespace tern
