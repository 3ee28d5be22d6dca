// What can be asked about a loaded model.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/vocabulary.h"

namespace tern {

/// One tensor as the file stores it.
struct TensorInfo {
  std::string name;
  std::string type;             // "TQ1_0", "F32", ...
  std::vector<uint64_t> shape;  // ne[0] (columns, fastest) first
  uint64_t file_bytes = 0;
};

/// One ternary matrix: how often each weight value occurs (padding not counted).
struct MatrixInfo {
  std::string name;
  std::string type;
  uint32_t rows = 0;
  uint32_t cols = 0;
  uint64_t minus = 0;
  uint64_t zero = 0;
  uint64_t plus = 0;
  uint64_t packed_bytes = 0;  // in memory, kernel layout
};

/// A named setting or text of the file, printed as text.
struct KeyValue {
  std::string key;
  std::string value;
};

struct ModelInfo {
  std::string architecture;
  std::string name;  // general.name, or the architecture
  Vocabulary vocabulary{};
  uint64_t context = 0;     // most tokens of a conversation, the one that begins it among them; 0: any number
  uint32_t stages = 0;      // of chunking: 0 for a flat model
  uint64_t parameters = 0;  // weights, embedding, norms, convolution; padding and scales not counted
  uint64_t file_bytes = 0;
  uint64_t packed_bytes = 0;           // all weights in memory
  uint64_t state_bytes = 0;            // state of one conversation, as long as it can be
  uint64_t state_bytes_per_token = 0;  // what a token adds to it; taken State::kPage tokens at a time
  uint64_t fingerprint = 0;            // FNV-1a 64 over all bytes of the file
  bool checked = false;                // the file carries a checksum, which was right
  std::vector<KeyValue> warnings;      // a tensor, and why it may make the model worse than it was trained
  std::vector<KeyValue> config;        // the architecture's settings, in a fixed order
  std::vector<KeyValue> metadata;      // general.* and tokenizer.* texts and numbers, in file order
  std::vector<MatrixInfo> matrices;
  std::vector<TensorInfo> tensors;
};

}  // namespace tern
