// Checking and storing of tensors as their rows arrive.
// SPDX-License-Identifier: MIT
#include "model/tensor_plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/grow.h"

namespace tern {
namespace {

using ull = unsigned long long;

constexpr uint64_t round_up(uint64_t cols, uint64_t block) { return (cols + block - 1) / block * block; }
constexpr uint64_t round_up_to_block(uint64_t cols) { return round_up(cols, kTernaryBlock); }

bool is_ternary(GgmlType type) { return type == GgmlType::kTQ1_0 || type == GgmlType::kTQ2_0; }
bool is_float(GgmlType type) { return type == GgmlType::kF32 || type == GgmlType::kF16; }
bool is_wide(GgmlType type) { return superfloat_bits(type) > 8; }

uint32_t bits_of_float(GgmlType type, const uint8_t* item) {
  return type == GgmlType::kF32 ? load_u32(item) : f32_bits_from_f16(static_cast<uint16_t>(load_u16(item)));
}

Error named(const std::string& tensor, uint64_t row, const Error& error) {
  return error_f(error.code, "tensor \"%s\" row %llu: %s", tensor.c_str(), static_cast<ull>(row),
                 error.message.c_str());
}

/// How many fraction bits leave 31 bits for the largest of these numbers, 0 to 46.
int bits_that_fit(GgmlType type, std::span<const uint8_t> row) {
  uint32_t largest = 0;  // magnitudes are ordered as their bits are
  for (size_t at = 0; at < row.size(); at += static_cast<size_t>(traits_of(type).bytes)) {
    largest = std::max(largest, bits_of_float(type, row.data() + at) & 0x7FFFFFFF);
  }
  const std::optional<Scale> size = Scale::from_f32_bits(largest);  // nothing, where a number is refused later
  return size && !size->is_zero() ? std::clamp(-1 - size->exponent, 0, 46) : 46;
}

Error out_of_memory() {
  return error_f(ErrorCode::kOutOfMemory, "there is no memory for the rest of the model: expected a smaller one");
}

}  // namespace

// ---- the list ---------------------------------------------------------------------------------------------------

void TensorPlan::ternary(const std::string& name, uint32_t rows, uint32_t cols, PackedTernary* weight, Scale* scale) {
  Item item{Kind::kTernary, name, rows, cols};
  item.ternary = weight;
  item.scale = scale;
  items_.push_back(std::move(item));
}

void TensorPlan::dense(const std::string& name, uint32_t rows, uint32_t cols, DenseMatrix* weight,
                       std::vector<Scale>* scales, uint32_t most_bits) {
  Item codes{Kind::kDense, name + ".weight", rows, cols};
  codes.dense = weight;
  codes.scales = scales;
  codes.most_bits = most_bits;
  items_.push_back(std::move(codes));
  add_scale(name, rows);
}

void TensorPlan::add_scale(const std::string& name, uint32_t rows) {
  items_.push_back({Kind::kScale, name + ".scale", 1, rows});
}

void TensorPlan::vector(const std::string& name, uint32_t cols, std::vector<NormWeight>* out) {
  Item item{Kind::kVector, name, 1, cols};
  item.numbers = out;
  items_.push_back(std::move(item));
  if (superfloat_bits_of(name) > 0) add_scale(name.substr(0, name.rfind('.')), 1);
}

void TensorPlan::norm(const std::string& name, uint32_t cols, std::vector<NormWeight>* out, int* fraction_bits) {
  Item item{Kind::kNorm, name, 1, cols};
  item.numbers = out;
  item.fraction_bits = fraction_bits;
  items_.push_back(std::move(item));
}

void TensorPlan::taps(const std::string& name, uint32_t taps, uint32_t channels, std::vector<NormWeight>* out) {
  Item item{Kind::kTaps, name, channels, taps};
  item.numbers = out;
  items_.push_back(std::move(item));
}

void TensorPlan::lower_bound(const std::string& name, uint32_t cols, std::vector<Gate>* keep) {
  Item item{Kind::kLowerBound, name, 1, cols};
  item.keep = keep;
  items_.push_back(std::move(item));
}

void TensorPlan::rates(const std::string& name, uint32_t cols, std::vector<Scale>* out) {
  Item item{Kind::kRates, name, 1, cols};
  item.scales = out;
  items_.push_back(std::move(item));
}

void TensorPlan::embedding(const std::string& name, uint32_t rows, uint32_t cols, std::vector<Act>* out,
                           std::vector<int8_t>* codes, std::vector<Scale>* scales) {
  Item weight{Kind::kEmbedding, name + ".weight", rows, cols};
  weight.numbers = out;
  weight.codes = codes;
  weight.scales = scales;
  items_.push_back(std::move(weight));
  add_scale(name, rows);
}

const GgufTensor* TensorPlan::find(const std::string& name) const {
  const auto found = std::ranges::find(header_->tensors, name, &GgufTensor::name);
  return found == header_->tensors.end() ? nullptr : &*found;
}

uint32_t TensorPlan::superfloat_bits_of(const std::string& name) const {
  const GgufTensor* tensor = find(name);
  return tensor == nullptr ? 0 : superfloat_bits(tensor->type);
}

size_t TensorPlan::state(size_t words) {
  layout_.fixed += words;
  return layout_.fixed - words;
}

size_t TensorPlan::state_per_position(size_t words) {
  if (layout_.per_position == 0) layout_.per_position = 1;  // for the token, see StateLayout
  layout_.per_position += words;
  return layout_.per_position - words - 1;
}

// ---- against the directory --------------------------------------------------------------------------------------

Result<void> TensorPlan::match() {
  const GgufHeader& header = *header_;
  item_of_.assign(header.tensors.size(), items_.size());
  for (size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    const GgufTensor* tensor = find(item.name);
    if (tensor == nullptr) {
      // Only I8 needs one.  What has a scale directly precedes it in the list.
      if (item.kind == Kind::kScale && items_[i - 1].type != GgmlType::kI8) continue;
      return error_f(ErrorCode::kBadFile, "expected a tensor \"%s\", found none", item.name.c_str());
    }
    const Result<void> checked = check(item, *tensor);
    if (!checked.ok()) return checked;
    item_of_[static_cast<size_t>(tensor - header.tensors.data())] = i;
  }
  for (size_t t = 0; t < header.tensors.size(); ++t) {
    const GgufTensor& tensor = header.tensors[t];
    if (item_of_[t] == items_.size() ||
        (items_[item_of_[t]].kind == Kind::kScale && is_float(items_[item_of_[t] - 1].type))) {
      return error_f(ErrorCode::kUnsupported, "tensor \"%s\": expected only tensors that the architecture has",
                     tensor.name.c_str());
    }
    tensors_.push_back({tensor.name, traits_of(tensor.type).name, tensor.shape, tensor.bytes()});
  }
  return {};
}

Result<void> TensorPlan::check(Item& item, const GgufTensor& tensor) const {
  const uint32_t bits = superfloat_bits(tensor.type);
  bool known = false;
  const char* types = nullptr;
  switch (item.kind) {
    case Kind::kTernary:
      types = "TQ1_0 or TQ2_0";
      known = is_ternary(tensor.type);
      break;
    case Kind::kEmbedding:
      types = "SF3 to SF16, I8, F16 or F32";
      known = !is_ternary(tensor.type);
      break;
    case Kind::kDense:
      types = "I8 or SF3 to SF8";
      known = tensor.type == GgmlType::kI8 || (bits > 0 && bits <= item.most_bits);
      break;
    case Kind::kLowerBound:
    case Kind::kRates:
      types = "F32";
      known = tensor.type == GgmlType::kF32;
      break;
    case Kind::kVector:
      if (item.name.ends_with("norm.weight")) {
        types = "SF3 to SF16, F32 or F16";
        known = bits > 0 || is_float(tensor.type);
        break;
      }
      [[fallthrough]];
    case Kind::kScale:
    case Kind::kNorm:
    case Kind::kTaps:
      types = "F32 or F16";
      known = is_float(tensor.type);
      break;
  }
  if (!known) {
    return error_f(ErrorCode::kUnsupported, "tensor \"%s\": expected type %s, found %s", item.name.c_str(), types,
                   traits_of(tensor.type).name);
  }
  const uint64_t cols = round_up(item.cols, traits_of(tensor.type).block);
  if (tensor.shape[0] != cols || tensor.rows != item.rows) {
    return error_f(ErrorCode::kBadFile, "tensor \"%s\": expected %llu columns and %u rows, found %llu and %llu",
                   item.name.c_str(), static_cast<ull>(cols), item.rows, static_cast<ull>(tensor.shape[0]),
                   static_cast<ull>(tensor.rows));
  }
  item.type = tensor.type;
  return {};
}

uint64_t TensorPlan::memory_bytes() const {
  uint64_t bytes = 0;
  for (const Item& item : items_) {
    const uint64_t elements = uint64_t{item.rows} * item.cols;
    switch (item.kind) {
      case Kind::kTernary:
        bytes += uint64_t{padded_rows(item.rows)} * padded_cols(item.cols) / 4;
        break;
      case Kind::kDense:
        bytes += (is_wide(item.type) ? 2 : 1) * uint64_t{item.rows} * padded_cols(item.cols);
        break;
      case Kind::kEmbedding:
        bytes += elements * (is_float(item.type) || is_wide(item.type) ? sizeof(Act) : sizeof(int8_t));
        break;
      case Kind::kScale:
      case Kind::kRates:
        bytes += elements * sizeof(Scale);
        break;
      default:
        bytes += elements * sizeof(Act);
    }
  }
  return bytes;
}

// ---- rows -------------------------------------------------------------------------------------------------------

Result<void> TensorPlan::on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) {
  TERN_CHECK(tensor < item_of_.size());
  Item& item = items_[item_of_[tensor]];
  const auto r = static_cast<uint32_t>(row);
  item.has_numbers = item.has_numbers || std::ranges::any_of(bytes, [](uint8_t byte) { return byte != 0; });
  const bool scales = item.kind == Kind::kScale || item.kind == Kind::kRates;
  const Result<void> stored = is_ternary(item.type) ? store_ternary(item, r, bytes)
                              : scales              ? store_scales(item, bytes)
                              : is_float(item.type) ? store_numbers(item, r, bytes)
                                                    : store_codes(item, r, bytes);
  return stored.ok() ? stored : named(item.name, row, stored.error());
}

Result<void> TensorPlan::store_ternary(Item& item, uint32_t row, std::span<const uint8_t> bytes) {
  PackedTernary& weight = *item.ternary;
  if (row == 0) weight = PackedTernary::empty(item.rows, item.cols);
  if (!weight.make_room(row)) return out_of_memory();
  codes_.resize(static_cast<size_t>(round_up_to_block(item.cols)));
  const Result<void> decoded = decode_ternary(item.type, bytes, codes_, item.scale_bits);
  if (!decoded.ok()) return decoded;
  const auto padding = codes_.begin() + static_cast<ptrdiff_t>(item.cols);
  if (std::any_of(padding, codes_.end(), [](uint8_t code) { return code != 1; })) {
    return error_f(ErrorCode::kBadFile, "expected zero weights in the padding after column %u", item.cols);
  }
  for (uint32_t c = 0; c < item.cols; ++c) ++item.counts[codes_[c]];
  weight.pack_row(row, std::span(codes_).first(item.cols));
  if (row == 0) *item.scale = *Scale::from_f16_bits(*item.scale_bits);  // decode_ternary refused what has none
  return {};
}

/// I8 or SFx.
Result<void> TensorPlan::store_codes(Item& item, uint32_t row, std::span<const uint8_t> bytes) {
  const bool wide = is_wide(item.type);
  if (superfloat_bits(item.type) > 0) {
    row_.resize(static_cast<size_t>(round_up(item.cols, 8)));
    decode_superfloat(item.type, bytes, row_);
    if (std::any_of(row_.begin() + static_cast<ptrdiff_t>(item.cols), row_.end(), [](int32_t n) { return n != 0; })) {
      return error_f(ErrorCode::kBadFile, "expected zeros in the padding after column %u", item.cols);
    }
    if (item.kind == Kind::kVector || (wide && item.kind == Kind::kEmbedding)) return keep_row(item, row);
    codes_.resize(size_t{2} * item.cols);
    for (size_t c = 0; c < item.cols; ++c) {  // low bits first; they count from -128 where there are high ones
      codes_[c] = static_cast<uint8_t>(wide ? row_[c] ^ 128 : row_[c]);
      codes_[item.cols + c] = static_cast<uint8_t>(row_[c] >> 8);
    }
    bytes = codes_;
  }
  const auto* codes = reinterpret_cast<const int8_t*>(bytes.data());
  if (item.kind == Kind::kEmbedding) {
    if (!grow(*item.codes, (row + size_t{1}) * item.cols, size_t{item.rows} * item.cols)) return out_of_memory();
    std::copy_n(codes, item.cols, item.codes->data() + size_t{row} * item.cols);
    return {};
  }
  const uint32_t parts = wide ? 2 : 1;
  if (row == 0) *item.dense = DenseMatrix::empty(parts * item.rows, item.cols);
  if (!item.dense->make_room(parts * row + parts - 1)) return out_of_memory();
  if (wide) item.dense->set_row(2 * row, {codes + item.cols, item.cols});
  item.dense->set_row(parts * row + parts - 1, {codes, item.cols});
  return {};
}

Result<void> TensorPlan::store_scales(Item& item, std::span<const uint8_t> bytes) {
  Item& of = item.kind == Kind::kScale ? (&item)[-1] : item;
  std::vector<Scale>& scales = of.scales == nullptr ? of.own_scales : *of.scales;
  const size_t size = bytes.size() / item.cols;
  for (uint32_t r = 0; r < item.cols; ++r) {
    const std::optional<Scale> scale = Scale::from_f32_bits(bits_of_float(item.type, bytes.data() + size * r));
    if (!scale) return error_f(ErrorCode::kBadFile, "expected finite scales >= 0, found another at column %u", r);
    scales.push_back(*scale);
  }
  return {};
}

Result<void> TensorPlan::keep_row(Item& item, uint32_t row) const {
  if (!grow(*item.numbers, (row + size_t{1}) * item.cols, size_t{item.rows} * item.cols)) return out_of_memory();
  for (uint32_t c = 0; c < item.cols; ++c) (*item.numbers)[size_t{row} * item.cols + c].raw = row_[c];
  return {};
}

Result<void> TensorPlan::store_numbers(Item& item, uint32_t row, std::span<const uint8_t> bytes) {
  row_.resize(item.cols);
  int fraction_bits = item.kind == Kind::kLowerBound ? Gate::kFractionBits : Act::kFractionBits;
  if (item.kind == Kind::kNorm) fraction_bits = *item.fraction_bits = bits_that_fit(item.type, bytes);
  const Result<void> decoded = decode_fixed(item.type, bytes, fraction_bits, row_);
  if (!decoded.ok()) return decoded;

  if (item.kind == Kind::kLowerBound) {
    for (const int32_t bound : row_) {
      if (bound < 0) return error_f(ErrorCode::kBadFile, "expected bounds in [0, 1), found a negative one");
      item.keep->push_back({(uint32_t{1} << Gate::kFractionBits) - static_cast<uint32_t>(bound)});
    }
    return {};
  }
  if (item.kind != Kind::kTaps) return keep_row(item, row);
  const size_t all = size_t{item.rows} * item.cols;  // 2 MB at most
  if (!grow(*item.numbers, all, all)) return out_of_memory();
  for (uint32_t c = 0; c < item.cols; ++c) {
    constexpr int32_t kLimit = int32_t{1} << (kTapBits + NormWeight::kFractionBits);
    if (row_[c] <= -kLimit || row_[c] >= kLimit) {
      return error_f(ErrorCode::kBadFile, "expected taps below 2^%d in magnitude, found a larger one", kTapBits);
    }
    (*item.numbers)[size_t{c} * item.rows + row].raw = row_[c];
  }
  return {};
}

/// Whether rounding costs predictions: SPEC.md, section 5.
bool TensorPlan::is_small(const Item& item) {
  const bool is_other = item.kind == Kind::kVector && !item.name.ends_with("norm.weight");
  const bool is_dense = item.kind == Kind::kDense;
  if (is_other || !item.has_numbers || (is_dense && item.name != "token_embd.weight")) return false;
  const size_t count = size_t{item.rows} * item.cols;
  constexpr uint64_t kLeast = uint64_t{1} << (Act::kFractionBits - 10);
  uint64_t missing = kLeast * kLeast * count;
  for (size_t n = 0; n < count; ++n) {
    const size_t row = n / item.cols;
    const int32_t number = is_dense ? item.dense->view().codes[row * padded_cols(item.cols) + n % item.cols]
                           : item.numbers->empty() ? (*item.codes)[n]
                                                   : (*item.numbers)[n].raw;
    const bool has_scale = item.scales != nullptr && !item.scales->empty();
    const int64_t raw = has_scale ? Rescale((*item.scales)[row], Act::kFractionBits)(number) : int64_t{number};
    const auto square = static_cast<uint64_t>(raw * raw);
    if (square >= missing) return false;
    missing -= square;
  }
  return true;
}

/// SFx has no scale or one per row; its integers are 2^-(x - 1) of that.
void TensorPlan::apply_scales(Item& item) {
  const uint32_t bits = superfloat_bits(item.type);
  if (bits == 0) return;
  std::vector<Scale>& scales = item.scales == nullptr ? item.own_scales : *item.scales;
  if (scales.empty()) scales.assign(item.rows, Scale::from_integer(1));
  for (Scale& scale : scales) {
    if (!scale.is_zero()) scale.exponent -= static_cast<int32_t>(bits) - 1;
  }
  if (item.kind != Kind::kVector) return;
  const Rescale to_number(scales[0], NormWeight::kFractionBits);
  for (NormWeight& number : *item.numbers) number.raw = to_number(number.raw);
}

void TensorPlan::finish(ModelInfo& info) {
  for (Item& item : items_) {
    apply_scales(item);
    const bool may_be_small = item.kind == Kind::kEmbedding || item.kind == Kind::kVector || item.kind == Kind::kTaps ||
                              item.kind == Kind::kDense;
    if (may_be_small && is_small(item)) {
      info.warnings.push_back({item.name,
                               "expected numbers of 2^-10 or more in root mean square, found smaller ones, which are "
                               "rounded coarsely"});
    }
    switch (item.kind) {
      case Kind::kTernary:
        info.matrices.push_back({item.name, traits_of(item.type).name, item.rows, item.cols, item.counts[0],
                                 item.counts[1], item.counts[2], item.ternary->bytes()});
        info.packed_bytes += item.ternary->bytes();
        break;
      case Kind::kEmbedding:
        info.packed_bytes += item.codes->size();
        [[fallthrough]];
      case Kind::kVector:
      case Kind::kTaps:
      case Kind::kNorm:
        info.packed_bytes += item.numbers->size() * sizeof(Act);
        break;
      case Kind::kLowerBound:
        info.packed_bytes += item.keep->size() * sizeof(Gate);
        break;
      case Kind::kDense:
        info.packed_bytes += item.dense->bytes();
        break;
      case Kind::kRates:
        info.packed_bytes += item.scales->size() * sizeof(Scale);
        break;
      case Kind::kScale:
        continue;  // not a parameter of its own
    }
    if (item.kind != Kind::kLowerBound) info.parameters += uint64_t{item.rows} * item.cols;
  }
  info.tensors = std::move(tensors_);
}

}  // namespace tern
