// An architecture's settings, read from the metadata of its file and checked one by one.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/result.h"
#include "fixed/fixed.h"
#include "format/gguf.h"
#include "model/info.h"

namespace tern {

/// Reads keys of one prefix.  The first fault is kept and every later read answers the smallest valid value, so a list
/// of reads needs one check at its end.
class Settings {
 public:
  Settings(const GgufHeader& header, std::string prefix) : header_(&header), prefix_(std::move(prefix)) {}

  /// A u32 from low to high.
  uint32_t integer(const char* key, uint32_t low, uint32_t high);
  /// vocab_size, at least 2.
  uint32_t vocabulary_size();
  /// A positive f32 below 1.
  Scale real(const char* key);
  /// An array of u32 from low to high: `least` to `most` of them.
  std::vector<uint32_t> integers(const char* key, size_t least, size_t most, uint32_t low, uint32_t high);
  /// An array of `count` f32 of 1 or more that a file may leave out; they only describe the model.
  void optional_reals_from_one(const char* key, size_t count);
  /// A text; answers its position in `choices`.
  size_t choice(const char* key, std::initializer_list<const char*> choices);

  /// Whether the file has a tensor whose name ends like this.
  bool has_tensor(const char* ending) const;

  /// For rules that one read cannot check: a fault in `key`.
  void refuse(const std::string& key, const std::string& expected, const std::string& found);
  /// A setting that is not a metadata value itself.
  void note(std::string key, std::string value) { texts_.push_back({std::move(key), std::move(value)}); }

  const Result<void>& result() const { return result_; }

  /// What was read, as key and printable value, in the order of reading.
  const std::vector<KeyValue>& texts() const { return texts_; }

 private:
  /// Null (and a failure) unless the key is there with this type.
  const GgufValue* find(const char* key, GgufType type);
  /// Null (and a failure) unless the value is an array of `least` to `most` numbers of this type.
  const GgufValue* array_in(const GgufValue* value, GgufType type, size_t least, size_t most);
  void fail(const Error& error);

  const GgufHeader* header_;
  std::string prefix_;
  Result<void> result_;
  std::vector<KeyValue> texts_;
};

}  // namespace tern
