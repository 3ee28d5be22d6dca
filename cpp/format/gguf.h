// GGUF v3 reader: pushes of any size in, a checked header and then tensor rows out.
// SPDX-License-Identifier: MIT
//
// Total: whatever the bytes are, the answer is a Result; nothing is read outside a chunk, and memory is bounded by
// the limits below plus one tensor row, and by a small multiple of the bytes that have arrived.  Format:
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md Narrower than the format allows, on purpose: version 3,
// little endian, tensors must not overlap and are delivered in the order of their offsets, whatever the order of the
// directory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "format/ggml_types.h"

namespace tern {

struct GgufLimits {
  static constexpr uint64_t kMetadata = 4096;  // key/value pairs
  static constexpr uint64_t kTensors = 16384;
  static constexpr uint64_t kNameBytes = 64;  // of a tensor, as in ggml
  static constexpr uint64_t kKeyBytes = 256;
  static constexpr uint64_t kStringBytes = 16 << 20;  // of one text: a whole tokenizer.json
  static constexpr uint64_t kArrayItems = 1 << 20;
  static constexpr uint64_t kArrayDepth = 8;       // arrays in arrays
  static constexpr uint64_t kKeptArrayItems = 64;  // of numbers; longer arrays, and those of texts, only when asked for
  static constexpr uint64_t kHeaderBytes = 64 << 20;
  static constexpr uint64_t kFileBytes = uint64_t{1} << 32;
  static constexpr uint64_t kKeptStringBytes = 4096;  // longer texts are cut when kept
};

/// The 13 value types of the format, with its numbers.
enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64,
};
const char* name_of(GgufType type);

struct GgufValue {
  std::string key;
  GgufType type = GgufType::kU8;
  uint64_t bits =
      0;             // integers sign- or zero-extended to 64 bits; bool 0 or 1; floats as IEEE bits; arrays: item count
  std::string text;  // strings
  GgufType item_type = GgufType::kU8;  // arrays
  std::vector<uint64_t> items;         // arrays of at most kKeptArrayItems numbers, or kept ones: as `bits`
  std::vector<std::string> texts;      // kept arrays of texts
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  std::vector<uint64_t> shape;  // 1 to 4 dimensions, ne[0] = columns, fastest
  uint64_t offset = 0;          // from the start of the data section
  uint64_t row_bytes = 0;       // of one row of shape[0] elements
  uint64_t rows = 0;            // product of the other dimensions

  uint64_t bytes() const { return row_bytes * rows; }
};

struct GgufHeader {
  std::vector<GgufValue> metadata;  // file order
  std::vector<GgufTensor> tensors;  // offset order
  uint64_t data_start = 0;          // position of the data section in the file
  uint64_t file_bytes = 0;          // size of the whole file: end of the last tensor

  /// Null if there is no such key.
  const GgufValue* find(std::string_view key) const;
};

/// Receives what the reader finds.  An error returned here stops the reader with that error.
class GgufSink {
 public:
  virtual ~GgufSink() = default;
  /// Whether the header is to have the whole text, or all items of the array, under this key, however long.
  virtual bool keeps(std::string_view /*key*/) const { return false; }
  /// Once, when the header is complete and consistent in itself.
  virtual Result<void> on_header(const GgufHeader& header) = 0;
  /// Every row of every tensor, in order: tensor 0 row 0, 1, ...; bytes.size() == tensors[tensor].row_bytes.
  virtual Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) = 0;
};

class GgufReader {
 public:
  explicit GgufReader(GgufSink& sink) : sink_(&sink) {}

  /// The next bytes of the file.  After an error every later call returns the same error.
  /// Less than general.alignment zeros may follow the last tensor.
  Result<void> push(std::span<const uint8_t> chunk);

  /// Error unless every row of every tensor has been delivered and the file's own checksum, if it has one, is right.
  Result<void> finish();

  /// 0 until the header is complete.
  uint64_t bytes_expected() const { return stage_ >= Stage::kData ? header_.file_bytes : 0; }

  /// FNV-1a 64 over the file's bytes from the first to the end of the last tensor.
  uint64_t fingerprint() const { return fingerprint_; }

  /// The file carries its checksum (key tern.sha256 of models/FORMAT.md), which finish() compares.
  bool has_checksum() const { return !checksum_.empty(); }

 private:
  /// What the next bytes are.  Every stage up to kPadding is read in units that are parsed only when complete.
  enum class Stage { kStart, kMetadata, kArrayItems, kTensors, kPadding, kData, kEnd };
  class Cursor;

  static constexpr uint64_t kStartBytes = 24;  // magic, version, tensor count, metadata count

  Result<void> push_some(std::span<const uint8_t>& chunk);
  Result<void> parse_unit();
  Result<void> parse_start(Cursor& cursor);
  Result<void> parse_metadata(Cursor& cursor);
  Result<void> parse_array(Cursor& cursor, GgufValue& value);
  Result<void> parse_array_item(Cursor& cursor);
  Result<void> enter_array(GgufType type, uint64_t items);
  Result<void> check_not_split() const;
  Result<void> parse_tensor(Cursor& cursor);
  Result<void> finish_directory();
  Result<void> check_padding();
  Result<void> deliver_rows(std::span<const uint8_t>& chunk);
  std::span<const uint8_t> take(std::span<const uint8_t>& chunk, uint64_t most);
  void hash_unit();
  void enter(Stage stage);
  std::string where() const;

  GgufSink* sink_;
  Stage stage_ = Stage::kStart;
  GgufHeader header_;
  Result<void> failed_;
  std::vector<uint8_t> pending_;   // the unit or row so far
  uint64_t needed_ = kStartBytes;  // size of pending_ at which the unit is worth parsing
  uint64_t skip_ = 0;              // bytes of texts and array items that are not kept, to drop first
  uint64_t position_ = 0;          // in the file
  uint64_t fingerprint_ = 0xcbf29ce484222325;
  Sha256 sha256_;         // of the header; of the data only if there is a checksum
  std::string checksum_;  // what the file says it is; empty if it says nothing
  uint64_t metadata_count_ = 0;
  uint64_t tensor_count_ = 0;
  struct ArrayLevel {
    GgufType type;  // of its items: texts or arrays, which carry their own lengths
    uint64_t left;  // items
  };
  std::vector<ArrayLevel> arrays_;  // those the reader is in, the outermost first
  uint64_t alignment_ = 32;
  size_t tensor_ = 0;  // next row to deliver
  uint64_t row_ = 0;
};

}  // namespace tern
