// Which tensors an architecture expects, and where their rows go while the file streams in.
// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "fixed/fixed.h"
#include "format/gguf.h"
#include "model/blocks.h"
#include "model/chunking.h"
#include "model/info.h"

namespace tern {

/// An architecture lists its tensors with their logical shapes; match() then checks the whole directory before any data
/// arrives: every tensor present once, none unknown, shapes and types as expected.  Destinations must stay where they
/// are until the last row; they are allocated when their first row arrives.
class TensorPlan {
 public:
  /// Ternary matrix X.weight, stored with columns padded to whole blocks by zero weights, and its norm
  /// X.in_norm.weight.
  void bit_linear(const std::string& name, uint32_t rows, uint32_t cols, BitLinear* layer);

  /// name.weight [rows][cols] of I8, and name.scale: one F32 scale per row.
  void dense(const std::string& name, uint32_t rows, uint32_t cols, DenseLinear* layer);

  /// One row of F32 or F16 numbers.
  void vector(const std::string& name, uint32_t cols, std::vector<NormWeight>* out);

  /// Convolution taps [channels][taps] of F32 or F16, stored transposed: [taps][channels].
  void taps(const std::string& name, uint32_t taps, uint32_t channels, std::vector<NormWeight>* out);

  /// Lower bounds of the forget gate, F32 in [0, 1), stored as 1 - bound.
  void lower_bound(const std::string& name, uint32_t cols, std::vector<Gate>* keep);

  /// name.weight [rows][cols] of F32 or F16, or of I8 with one F32 scale per row in name.scale.
  void embedding(const std::string& name, uint32_t rows, uint32_t cols, std::vector<Act>* out);

  Result<void> match(const GgufHeader& header);
  /// Memory that the tensors will take once they are here, scratch not counted; 0 before match().
  uint64_t memory_bytes() const;

  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes);

  /// After the last row: what is left to do once everything is here, and the tensors' part of `info`.
  void finish(ModelInfo& info);

 private:
  enum class Kind { kTernary, kVector, kTaps, kLowerBound, kEmbedding, kEmbeddingScale, kDense, kDenseScale };

  struct Item {
    Kind kind;
    std::string name;
    uint32_t rows;
    uint32_t cols;
    BitLinear* layer = nullptr;
    std::vector<NormWeight>* numbers = nullptr;  // NormWeight and Act are the same type, Q16.16
    std::vector<Gate>* keep = nullptr;
    DenseLinear* dense = nullptr;
    GgmlType type{};
    std::optional<uint16_t> scale_bits = std::nullopt;  // of a ternary matrix
    uint64_t counts[3] = {};                            // how often each ternary code occurs
  };

  Result<void> check(Item& item, const GgufTensor& tensor) const;
  Result<void> store_ternary(Item& item, uint32_t row, std::span<const uint8_t> bytes);
  Result<void> store_dense(Item& item, uint32_t row, std::span<const uint8_t> bytes);
  Result<void> store_numbers(Item& item, uint32_t row, std::span<const uint8_t> bytes);

  std::vector<Item> items_;
  std::vector<size_t> item_of_;  // per tensor of the file
  std::vector<TensorInfo> tensors_;
  std::vector<uint8_t> codes_;  // one row
  std::vector<int32_t> row_;    // one row
  std::vector<Scale> embedding_scales_;
};

}  // namespace tern
