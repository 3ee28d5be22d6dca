// conformance_wasm.cc: the operations of conformance.h as a WebAssembly module without a script, one for every level.
// SPDX-License-Identifier: MIT
//
// JavaScript fills name(size) and inputs(count), calls evaluate() and reads outputs(): web/src/entries/operations.ts.
// Those for relaxed SIMD and for SIMD128 are part of ternlm/conformance.

#include <emscripten.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/sha256.h"
#include "kernels/dispatch.h"
#include "tools/conformance.h"

namespace tern {
namespace {

std::vector<int64_t> numbers;  // of a call: first what goes in, then what comes out
std::string text;              // the name of the operation, or what was asked for last
Sha256 digest;                 // of all that came out since digest() was asked

}  // namespace
}  // namespace tern

extern "C" {

/// Where the name of the operation goes.
EMSCRIPTEN_KEEPALIVE char* name(uint32_t size) {
  tern::text.resize(size);
  return tern::text.data();
}

/// Where the numbers go that the operation is given.
EMSCRIPTEN_KEEPALIVE int64_t* inputs(uint32_t count) {
  tern::numbers.resize(count);
  return tern::numbers.data();
}

/// How many numbers came out; -1 for an unknown name.
EMSCRIPTEN_KEEPALIVE int32_t evaluate() {
  std::optional<std::vector<int64_t>> answer = tern::evaluate_operation(tern::text, tern::numbers);
  if (!answer) return -1;
  tern::numbers = std::move(*answer);
  tern::digest.push({reinterpret_cast<const uint8_t*>(tern::numbers.data()), sizeof(int64_t) * tern::numbers.size()});
  return static_cast<int32_t>(tern::numbers.size());
}

/// Where they are, until the next call.
EMSCRIPTEN_KEEPALIVE const int64_t* outputs() { return tern::numbers.data(); }

/// SHA-256 of all that came out since the last call, 64 hexadecimal digits and a zero byte.
EMSCRIPTEN_KEEPALIVE const char* digest() {
  tern::text = std::exchange(tern::digest, {}).hex();
  return tern::text.c_str();
}

/// The same of the first `size` bytes at inputs(), where something other than numbers was put.
EMSCRIPTEN_KEEPALIVE const char* sha256(uint32_t size) {
  TERN_CHECK(size <= sizeof(int64_t) * tern::numbers.size());
  tern::Sha256 sum;
  sum.push({reinterpret_cast<const uint8_t*>(tern::numbers.data()), size});
  tern::text = sum.hex();
  return tern::text.c_str();
}

/// The kernel that computes matrix products, as in `info.runtime.kernel` of a model.
EMSCRIPTEN_KEEPALIVE const char* kernel() { return tern::dispatch().level->name; }
}
