// tensor_plan.h: which tensors an architecture expects, where their rows go while the file streams in, and its state.
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
#include "kernels/dense/dense.h"
#include "kernels/kernels.h"
#include "model/info.h"
#include "model/state.h"

namespace tern {

inline constexpr int kTapBits = 12;  ///< taps of a convolution are below 2^12 in magnitude

/// An architecture lists its tensors with their logical shapes; match() then checks the whole directory before any data
/// arrives: every tensor present once, none unknown, shapes and types as expected.  Destinations must stay where they
/// are until the last row; their memory grows with the rows that have arrived.
class TensorPlan {
 public:
  /// Until match(): asks what is in this file.
  explicit TensorPlan(const GgufHeader& header) : header_(&header) {}

  /// Ternary matrix, stored with columns padded to whole blocks by zero weights, all with one scale.
  void ternary(const std::string& name, uint32_t rows, uint32_t cols, PackedTernary* weight, Scale* scale);

  /// name.weight [rows][cols] of I8 or of SFx with at most `most_bits`, and name.scale: one scale per row, which SFx
  /// may lack.  From SF9 on a row is two in memory: row = 256 first + (second + 128).
  void dense(const std::string& name, uint32_t rows, uint32_t cols, DenseMatrix* weight, std::vector<Scale>* scales,
             uint32_t most_bits = 8);

  /// One row of F32 or F16 numbers; of a norm also of SFx, with one scale or none.
  void vector(const std::string& name, uint32_t cols, std::vector<NormWeight>* out);

  /// The same with as many fraction bits as its largest number leaves room for, 46 at most: what then rounds to 0 gives
  /// codes of 0, too, since an activation counts for at least 1e-5 where it is quantised (see quantize_activations).
  void norm(const std::string& name, uint32_t cols, std::vector<NormWeight>* out, int* fraction_bits);

  /// Convolution taps [channels][taps] of F32 or F16, stored transposed: [taps][channels].
  void taps(const std::string& name, uint32_t taps, uint32_t channels, std::vector<NormWeight>* out);

  /// Lower bounds of the forget gate, F32 in [0, 1), stored as 1 - bound.
  void lower_bound(const std::string& name, uint32_t cols, std::vector<Gate>* keep);

  /// One row of F32 numbers, 0 and above, of any size.
  void rates(const std::string& name, uint32_t cols, std::vector<Scale>* out);

  /// name.weight [rows][cols] of F32 or F16, or of I8 or SFx with one scale per row in name.scale, which SFx may lack.
  /// What has scales are integers: those of 8 bits in `codes`, longer ones in `out`.
  void embedding(const std::string& name, uint32_t rows, uint32_t cols, std::vector<Act>* out,
                 std::vector<int8_t>* codes, std::vector<Scale>* scales);

  /// For what a file may leave out.
  bool is_in_file(const std::string& name) const { return find(name) != nullptr; }
  /// x where this tensor of the file is SFx, else 0.
  uint32_t superfloat_bits_of(const std::string& name) const;

  /// The next words of the fixed part of a conversation's state: answers where they begin.
  size_t state(size_t words);
  /// The same for the words of every position.
  size_t state_per_position(size_t words);
  const StateLayout& layout() const { return layout_; }

  Result<void> match();
  /// Memory that the tensors will take once they are here, scratch not counted; 0 before match().
  uint64_t memory_bytes() const;

  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes);

  /// After the last row: what is left to do once everything is here, and the tensors' part of `info`.
  void finish(ModelInfo& info);

 private:
  enum class Kind {
    kTernary,
    kVector,
    kNorm,
    kTaps,
    kLowerBound,
    kEmbedding,
    kDense,
    kScale,  // of the item before it
    kRates
  };

  struct Item {
    Kind kind;
    std::string name;
    uint32_t rows;
    uint32_t cols;
    PackedTernary* ternary = nullptr;
    Scale* scale = nullptr;
    std::vector<NormWeight>* numbers = nullptr;  // NormWeight and Act are the same type, Q16.16
    std::vector<Gate>* keep = nullptr;
    DenseMatrix* dense = nullptr;
    std::vector<Scale>* scales = nullptr;
    std::vector<Scale> own_scales = {};  // of a norm, whose numbers take it in
    uint32_t most_bits = 16;             // of SFx
    std::vector<int8_t>* codes = nullptr;
    int* fraction_bits = nullptr;
    GgmlType type{};
    std::optional<uint16_t> scale_bits = std::nullopt;  // of a ternary matrix
    bool has_numbers = false;                           // not all are 0 in the file
    uint64_t counts[3] = {};                            // how often each ternary code occurs
  };

  const GgufTensor* find(const std::string& name) const;
  void add_scale(const std::string& name, uint32_t rows);
  Result<void> check(Item& item, const GgufTensor& tensor) const;
  static bool is_small(const Item& item);
  static void apply_scales(Item& item);
  Result<void> store_ternary(Item& item, uint32_t row, std::span<const uint8_t> bytes);
  Result<void> store_codes(Item& item, uint32_t row, std::span<const uint8_t> bytes);
  Result<void> store_scales(Item& item, std::span<const uint8_t> bytes);
  Result<void> store_numbers(Item& item, uint32_t row, std::span<const uint8_t> bytes);
  Result<void> keep_row(Item& item, uint32_t row) const;

  const GgufHeader* header_;
  StateLayout layout_;
  std::vector<Item> items_;
  std::vector<size_t> item_of_;  // per tensor of the file
  std::vector<TensorInfo> tensors_;
  std::vector<uint8_t> codes_;  // one row, or two
  std::vector<int32_t> row_;    // one row
};

}  // namespace tern
