// gguf_writer.h: writes GGUF files for tests and remembers where each header field is, so that tests can break it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "format/gguf.h"

namespace tern::test {

struct HeaderField {
  std::string what;
  size_t at;
  size_t size;
  bool free;  // any value makes a valid, different file
};

class GgufWriter {
 public:
  uint32_t version = 3;
  uint64_t alignment = 32;  // used for the layout; written only by an explicit u32("general.alignment", ...)

  void u32(const std::string& key, uint32_t value) { scalar(key, GgufType::kU32, value, 4); }
  void f32_bits(const std::string& key, uint32_t bits) { scalar(key, GgufType::kF32, bits, 4); }
  void text(const std::string& key, const std::string& value) {
    begin(key, GgufType::kString);
    field(key + " text length", 8, false);
    put(metadata_, value.size(), 8);
    field(key + " text", value.size(), key.starts_with("general.") && key != "general.architecture");
    metadata_.insert(metadata_.end(), value.begin(), value.end());
  }
  /// Any value type, of a size that the test knows.
  void scalar(const std::string& key, GgufType type, uint64_t bits, size_t size) {
    begin(key, type);
    field(key + " value", size, false);
    put(metadata_, bits, size);
  }
  /// An array of `items` items whose bytes the caller has laid out.
  void array(const std::string& key, GgufType item_type, uint64_t items, const std::vector<uint8_t>& bytes) {
    begin(key, GgufType::kArray);
    field(key + " item type", 4, false);
    put(metadata_, static_cast<uint32_t>(item_type), 4);
    field(key + " item count", 8, false);
    put(metadata_, items, 8);
    metadata_.insert(metadata_.end(), bytes.begin(), bytes.end());
  }
  void u32s(const std::string& key, const std::vector<uint32_t>& values) {
    std::vector<uint8_t> bytes;
    for (const uint32_t value : values) put(bytes, value, 4);
    array(key, GgufType::kU32, values.size(), bytes);
  }
  void tensor(const std::string& name, GgmlType type, const std::vector<uint64_t>& shape, std::vector<uint8_t> bytes) {
    tensors_.push_back({name, type, shape, std::move(bytes)});
  }

  struct Tensor {
    std::string name;
    GgmlType type;
    std::vector<uint64_t> shape;
    std::vector<uint8_t> bytes;
  };
  std::vector<Tensor>& tensors() { return tensors_; }

  std::vector<uint8_t> build() {
    fields_.resize(metadata_fields_);
    std::vector<uint8_t> file;
    put(file, 0x46554747, 4);
    put(file, version, 4);
    put(file, tensors_.size(), 8);
    put(file, metadata_count_, 8);
    file.insert(file.end(), metadata_.begin(), metadata_.end());
    uint64_t offset = 0;
    for (const Tensor& tensor : tensors_) {
      directory_field(file, tensor.name + " name length", tensor.name.size(), 8);
      fields_.push_back({tensor.name + " name", file.size(), tensor.name.size(), false});
      file.insert(file.end(), tensor.name.begin(), tensor.name.end());
      directory_field(file, tensor.name + " dimensions", tensor.shape.size(), 4);
      for (const uint64_t extent : tensor.shape) directory_field(file, tensor.name + " extent", extent, 8);
      directory_field(file, tensor.name + " type", static_cast<uint32_t>(tensor.type), 4);
      directory_field(file, tensor.name + " offset", offset, 8);
      offset = round_up(offset + tensor.bytes.size());
    }
    header_bytes_ = file.size();
    for (const Tensor& tensor : tensors_) {
      file.resize(round_up(file.size()));
      file.insert(file.end(), tensor.bytes.begin(), tensor.bytes.end());
    }
    if (const std::string digits(64, '0'); has_checksum_) {
      Sha256 hash;
      hash.push(file);
      const auto at = std::search(file.begin(), file.end(), digits.begin(), digits.end());
      std::ranges::copy(hash.hex(), at);
    }
    return file;
  }

  /// The key tern.sha256, which build() fills in.
  void checksum() {
    text("tern.sha256", std::string(64, '0'));
    has_checksum_ = true;
  }

  /// Of the file build() made last.
  const std::vector<HeaderField>& fields() const { return fields_; }
  size_t header_bytes() const { return header_bytes_; }

  static void put(std::vector<uint8_t>& out, uint64_t value, size_t size) {
    for (size_t b = 0; b < size; ++b) out.push_back(static_cast<uint8_t>(value >> (8 * b)));
  }

 private:
  uint64_t round_up(uint64_t n) const { return (n + alignment - 1) / alignment * alignment; }

  void field(const std::string& what, size_t size, bool free) {
    fields_.push_back({what, 24 + metadata_.size(), size, free});
    metadata_fields_ = fields_.size();
  }
  void directory_field(std::vector<uint8_t>& file, const std::string& what, uint64_t value, size_t size) {
    fields_.push_back({what, file.size(), size, false});
    put(file, value, size);
  }
  void begin(const std::string& key, GgufType type) {
    ++metadata_count_;
    field(key + " key length", 8, false);
    put(metadata_, key.size(), 8);
    field(key + " key", key.size(), key.starts_with("general.") && key != "general.architecture");
    metadata_.insert(metadata_.end(), key.begin(), key.end());
    field(key + " value type", 4, false);
    put(metadata_, static_cast<uint32_t>(type), 4);
  }

  std::vector<uint8_t> metadata_;
  std::vector<Tensor> tensors_;
  std::vector<HeaderField> fields_{{"magic", 0, 4, false},
                                   {"version", 4, 4, false},
                                   {"tensor count", 8, 8, false},
                                   {"metadata count", 16, 8, false}};
  size_t metadata_fields_ = 4;
  uint64_t metadata_count_ = 0;
  size_t header_bytes_ = 0;
  bool has_checksum_ = false;
};

}  // namespace tern::test
