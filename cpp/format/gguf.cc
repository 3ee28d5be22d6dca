// The GGUF reader's state machine: header units first, then tensor rows.
// SPDX-License-Identifier: MIT
#include "format/gguf.h"

#include <algorithm>

#include "format/other_files.h"

namespace tern {
namespace {

using ull = unsigned long long;

constexpr uint32_t kMagic = 0x46554747;  // "GGUF", little endian
constexpr std::string_view kChecksumKey = "tern.sha256";
constexpr size_t kChecksumDigits = 64;

/// Size of one array item or value; 0 for strings and arrays, which carry their own length.
uint64_t size_of(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

uint64_t load_value(GgufType type, const uint8_t* p) {
  switch (type) {
    case GgufType::kI8:
      return static_cast<uint64_t>(int64_t{static_cast<int8_t>(*p)});
    case GgufType::kI16:
      return static_cast<uint64_t>(int64_t{static_cast<int16_t>(load_u16(p))});
    case GgufType::kI32:
      return static_cast<uint64_t>(int64_t{static_cast<int32_t>(load_u32(p))});
    default:
      break;
  }
  switch (size_of(type)) {
    case 1:
      return *p;
    case 2:
      return load_u16(p);
    case 4:
      return load_u32(p);
    default:
      return load_u64(p);
  }
}

Result<void> check_limit(const char* what, const std::string& where, uint64_t found, uint64_t limit) {
  if (found <= limit) return {};
  return error_f(ErrorCode::kBadFile, "GGUF %s: expected %s of at most %llu, found %llu", where.c_str(), what,
                 static_cast<ull>(limit), static_cast<ull>(found));
}

bool is_checksum(std::string_view text) {
  return text.size() == kChecksumDigits &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// Names end up in messages and JSON: printable ASCII only.
bool is_plain(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

/// Also of a file that ends inside the magic.
bool begins_like_gguf(std::span<const uint8_t> start) {
  return !start.empty() && std::string_view("GGUF").starts_with(std::string_view(
                               reinterpret_cast<const char*>(start.data()), std::min<size_t>(start.size(), 4)));
}

Error not_gguf(std::span<const uint8_t> start) {
  return error_f(ErrorCode::kBadFile, "expected a GGUF file, which begins with the bytes \"GGUF\", found %s",
                 describe_other_file(start).c_str());
}

uint64_t round_up(uint64_t x, uint64_t alignment) { return (x + alignment - 1) / alignment * alignment; }

}  // namespace

/// Reads a unit's fields from pending_.  When the unit is not complete yet, every read answers 0 or nothing and
/// short_of() says how many bytes are worth waiting for.
class GgufReader::Cursor {
 public:
  explicit Cursor(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  const uint8_t* read(uint64_t count) {
    if (count > bytes_.size() - at_) {
      if (short_of_ == 0) short_of_ = at_ + count;
      return nullptr;
    }
    const uint8_t* p = bytes_.data() + at_;
    at_ += count;
    return p;
  }
  uint32_t u32() {
    const uint8_t* p = read(4);
    return p ? load_u32(p) : 0;
  }
  uint64_t u64() {
    const uint8_t* p = read(8);
    return p ? load_u64(p) : 0;
  }
  std::string_view text(uint64_t length) {
    const uint8_t* p = read(length);
    return p ? std::string_view(reinterpret_cast<const char*>(p), static_cast<size_t>(length)) : std::string_view();
  }
  bool complete() const { return short_of_ == 0; }
  uint64_t short_of() const { return short_of_; }

 private:
  std::span<const uint8_t> bytes_;
  uint64_t at_ = 0;
  uint64_t short_of_ = 0;
};

const char* name_of(GgufType type) {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

const GgufValue* GgufHeader::find(std::string_view key) const {
  const auto it = std::find_if(metadata.begin(), metadata.end(), [&](const GgufValue& v) { return v.key == key; });
  return it == metadata.end() ? nullptr : &*it;
}

// ---- driving ----------------------------------------------------------------------------------------------------

Result<void> GgufReader::push(std::span<const uint8_t> chunk) {
  while (failed_.ok() && !chunk.empty()) failed_ = push_some(chunk);
  return failed_;
}

Result<void> GgufReader::finish() {
  if (!failed_.ok()) return failed_;
  if (stage_ == Stage::kStart && !begins_like_gguf(pending_)) return failed_ = not_gguf(pending_);
  if (stage_ == Stage::kEnd && has_checksum()) {
    if (const std::string found = sha256_.hex(); found != checksum_) {
      failed_ = error_f(ErrorCode::kBadFile,
                        "the file is damaged: its SHA-256 is %s, its key %s says %s; download or copy it again",
                        found.c_str(), std::string(kChecksumKey).c_str(), checksum_.c_str());
    }
  }
  if (stage_ != Stage::kEnd) {
    const uint64_t expected = stage_ == Stage::kData ? header_.file_bytes : 0;
    failed_ = expected > 0
                  ? error_f(ErrorCode::kBadFile, "GGUF %s: expected a file of %llu bytes, found %llu: it is truncated",
                            where().c_str(), static_cast<ull>(expected), static_cast<ull>(position_))
                  : error_f(ErrorCode::kBadFile, "GGUF %s: the file ends here, after %llu bytes: it is truncated",
                            where().c_str(), static_cast<ull>(position_));
  }
  return failed_;
}

/// Consumes at least one byte of the chunk.
Result<void> GgufReader::push_some(std::span<const uint8_t>& chunk) {
  if (stage_ == Stage::kEnd) {
    if (has_checksum()) sha256_.push(chunk);
    position_ += chunk.size();
    if (std::any_of(chunk.begin(), chunk.end(), [](uint8_t byte) { return byte != 0; })) {
      return error_f(ErrorCode::kBadFile, "GGUF end of file: expected %llu bytes and zeros at most, found other bytes",
                     static_cast<ull>(header_.file_bytes));
    }
    chunk = {};
    if (position_ - header_.file_bytes < alignment_) return {};
    return error_f(ErrorCode::kBadFile,
                   "GGUF end of file: expected %llu bytes and less than %llu of padding, found %llu",
                   static_cast<ull>(header_.file_bytes), static_cast<ull>(alignment_), static_cast<ull>(position_));
  }
  if (skip_ > 0) {
    const std::span<const uint8_t> bytes = take(chunk, skip_);
    if (stage_ != Stage::kData || has_checksum()) sha256_.push(bytes);
    skip_ -= bytes.size();
    return {};
  }
  if (stage_ == Stage::kData) return deliver_rows(chunk);

  const std::span<const uint8_t> bytes = take(chunk, needed_ - pending_.size());
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  if (pending_.size() < needed_) return {};
  if (position_ > GgufLimits::kHeaderBytes) {
    return check_limit("a header", where(), position_, GgufLimits::kHeaderBytes);
  }
  return parse_unit();
}

std::span<const uint8_t> GgufReader::take(std::span<const uint8_t>& chunk, uint64_t most) {
  const std::span<const uint8_t> bytes = chunk.first(static_cast<size_t>(std::min<uint64_t>(most, chunk.size())));
  chunk = chunk.subspan(bytes.size());
  position_ += bytes.size();
  uint64_t hash = fingerprint_;
  for (const uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  fingerprint_ = hash;
  return bytes;
}

/// A checksum cannot cover its own digits: they count as zeros.
void GgufReader::hash_unit() {
  const bool is_own = stage_ == Stage::kMetadata && header_.metadata.back().key == kChecksumKey;
  const size_t digits = is_own ? kChecksumDigits : 0;
  sha256_.push(std::span(pending_).first(pending_.size() - digits));
  sha256_.push(std::vector<uint8_t>(digits, '0'));
}

void GgufReader::enter(Stage stage) {
  stage_ = stage;
  pending_.clear();
  needed_ = 8;  // every unit begins with a length
}

/// The field being read, for messages.
std::string GgufReader::where() const {
  const auto numbered = [](const char* what, uint64_t index, uint64_t count) {
    return std::string(what) + " " + std::to_string(index) + " of " + std::to_string(count);
  };
  switch (stage_) {
    case Stage::kStart:
      return "start";
    case Stage::kMetadata:
      return numbered("metadata entry", header_.metadata.size() + 1, metadata_count_);
    case Stage::kArrayItems:
      return "metadata array \"" + header_.metadata.back().key + "\"";
    case Stage::kTensors:
      return numbered("tensor entry", header_.tensors.size() + 1, tensor_count_);
    case Stage::kPadding:
      return "padding before the tensor data";
    case Stage::kData:
      return "tensor \"" + header_.tensors[tensor_].name + "\"";
    case Stage::kEnd:
      break;
  }
  return "end of file";
}

// ---- header -----------------------------------------------------------------------------------------------------

Result<void> GgufReader::parse_unit() {
  Cursor cursor(pending_);
  Result<void> result;
  switch (stage_) {
    case Stage::kStart:
      result = parse_start(cursor);
      break;
    case Stage::kMetadata:
      result = parse_metadata(cursor);
      break;
    case Stage::kArrayItems:
      result = parse_array_item(cursor);
      break;
    case Stage::kTensors:
      result = parse_tensor(cursor);
      break;
    default:
      return check_padding();
  }
  if (!result.ok()) return result;
  if (!cursor.complete()) {
    needed_ = cursor.short_of();
    return {};
  }
  hash_unit();
  // The unit is done: which one follows?
  while (!arrays_.empty() && arrays_.back().left == 0) arrays_.pop_back();
  if (!arrays_.empty()) {
    enter(Stage::kArrayItems);
  } else if (header_.metadata.size() < metadata_count_) {
    enter(Stage::kMetadata);
  } else if (header_.tensors.size() < tensor_count_) {
    enter(Stage::kTensors);
  } else {
    return finish_directory();
  }
  return {};
}

Result<void> GgufReader::parse_start(Cursor& cursor) {
  const uint32_t magic = cursor.u32();
  const uint32_t version = cursor.u32();
  tensor_count_ = cursor.u64();
  metadata_count_ = cursor.u64();
  if (magic != kMagic) return not_gguf(pending_);
  if (version != 0 && version % 0x10000 == 0) {
    return error_f(ErrorCode::kUnsupported,
                   "expected a little-endian GGUF file, found a big-endian one; convert it with gguf-convert-endian of "
                   "the Python package gguf");
  }
  if (version != 3) return error_f(ErrorCode::kUnsupported, "expected GGUF version 3, found version %u", version);
  const Result<void> tensors = check_limit("a tensor count", where(), tensor_count_, GgufLimits::kTensors);
  return tensors.ok() ? check_limit("a metadata count", where(), metadata_count_, GgufLimits::kMetadata) : tensors;
}

Result<void> GgufReader::parse_metadata(Cursor& cursor) {
  const uint64_t key_length = cursor.u64();
  Result<void> checked = check_limit("a key length", where(), key_length, GgufLimits::kKeyBytes);
  if (!checked.ok()) return checked;
  const std::string_view key = cursor.text(key_length);
  const uint32_t type_number = cursor.u32();
  if (!cursor.complete()) return {};

  if (!is_plain(key)) {
    return error_f(ErrorCode::kBadFile, "GGUF %s: expected a key of printable ASCII", where().c_str());
  }
  GgufValue value;
  value.key = key;
  value.type = static_cast<GgufType>(type_number);
  if (type_number > static_cast<uint32_t>(GgufType::kF64)) {
    return error_f(ErrorCode::kBadFile, "GGUF metadata \"%s\": expected a value type from 0 to 12, found %u",
                   value.key.c_str(), type_number);
  }
  if (header_.find(value.key) != nullptr) {
    return error_f(ErrorCode::kBadFile, "GGUF metadata \"%s\": expected each key once, found it twice",
                   value.key.c_str());
  }

  if (value.type == GgufType::kArray) {
    checked = parse_array(cursor, value);
  } else if (value.type == GgufType::kString) {
    const uint64_t length = cursor.u64();
    checked = check_limit("a text length", where(), length, GgufLimits::kStringBytes);
    if (!checked.ok()) return checked;
    const uint64_t kept = sink_->keeps(value.key) ? length : std::min(length, GgufLimits::kKeptStringBytes);
    value.text = cursor.text(kept);
    if (cursor.complete()) skip_ = length - kept;
  } else {
    const uint8_t* bytes = cursor.read(size_of(value.type));
    value.bits = bytes ? load_value(value.type, bytes) : 0;
    if (value.type == GgufType::kBool && value.bits > 1) {
      return error_f(ErrorCode::kBadFile, "GGUF metadata \"%s\": expected a bool of 0 or 1, found %llu",
                     value.key.c_str(), static_cast<ull>(value.bits));
    }
  }
  if (!checked.ok() || !cursor.complete()) return checked;
  if (value.key == kChecksumKey) {
    if (!is_checksum(value.text)) {
      return error_f(ErrorCode::kBadFile, "GGUF metadata \"%s\": expected 64 digits from 0-9 and a-f",
                     value.key.c_str());
    }
    checksum_ = value.text;
  }
  header_.metadata.push_back(std::move(value));
  return {};
}

/// Items that are not kept are only counted: skip_ or arrays_ takes the reader past them.
Result<void> GgufReader::parse_array(Cursor& cursor, GgufValue& value) {
  const uint32_t type_number = cursor.u32();
  const uint64_t items = cursor.u64();
  if (!cursor.complete()) return {};
  const auto type = static_cast<GgufType>(type_number);
  const uint64_t item_bytes = size_of(type);
  value.bits = items;
  value.item_type = type;
  if (item_bytes == 0 || (items > GgufLimits::kKeptArrayItems && !sink_->keeps(value.key))) {
    return enter_array(type, items);
  }
  if (const uint8_t* bytes = cursor.read(items * item_bytes); bytes != nullptr) {
    for (uint64_t i = 0; i < items; ++i) value.items.push_back(load_value(type, bytes + i * item_bytes));
  }
  return {};
}

Result<void> GgufReader::enter_array(GgufType type, uint64_t items) {
  if (type > GgufType::kF64) {
    return error_f(ErrorCode::kBadFile, "GGUF %s: expected an item type from 0 to 12, found %u", where().c_str(),
                   static_cast<uint32_t>(type));
  }
  const Result<void> checked = check_limit("an array length", where(), items, GgufLimits::kArrayItems);
  if (!checked.ok()) return checked;
  if (const uint64_t item_bytes = size_of(type); item_bytes > 0) {
    skip_ = items * item_bytes;
    return {};
  }
  arrays_.push_back({type, items});
  return check_limit("arrays in arrays, a depth", where(), arrays_.size(), GgufLimits::kArrayDepth);
}

Result<void> GgufReader::parse_array_item(Cursor& cursor) {
  ArrayLevel& level = arrays_.back();
  if (level.type == GgufType::kString) {
    const uint64_t length = cursor.u64();
    const Result<void> checked = check_limit("a text length", where(), length, GgufLimits::kStringBytes);
    if (!checked.ok() || !cursor.complete()) return checked;
    if (GgufValue& array = header_.metadata.back(); arrays_.size() == 1 && sink_->keeps(array.key)) {
      const std::string_view text = cursor.text(length);
      if (!cursor.complete()) return {};
      array.texts.emplace_back(text);
    } else {
      skip_ = length;
    }
    --level.left;
    return {};
  }
  const auto type = static_cast<GgufType>(cursor.u32());
  const uint64_t items = cursor.u64();
  if (!cursor.complete()) return {};
  --level.left;
  return enter_array(type, items);
}

Result<void> GgufReader::parse_tensor(Cursor& cursor) {
  const uint64_t name_length = cursor.u64();
  const Result<void> checked = check_limit("a name length", where(), name_length, GgufLimits::kNameBytes);
  if (!checked.ok()) return checked;
  GgufTensor tensor;
  tensor.name = cursor.text(name_length);
  const uint32_t dimensions = cursor.u32();
  if (cursor.complete() && !is_plain(tensor.name)) {
    return error_f(ErrorCode::kBadFile, "GGUF %s: expected a name of printable ASCII", where().c_str());
  }
  if (cursor.complete() && (dimensions < 1 || dimensions > 4)) {
    return error_f(ErrorCode::kBadFile, "GGUF tensor \"%s\": expected 1 to 4 dimensions, found %u", tensor.name.c_str(),
                   dimensions);
  }
  for (uint32_t d = 0; d < dimensions && cursor.complete(); ++d) tensor.shape.push_back(cursor.u64());
  const uint32_t type_number = cursor.u32();
  tensor.offset = cursor.u64();
  if (!cursor.complete()) return {};

  const GgmlTypeTraits* traits = traits_of(type_number);
  if (traits == nullptr) {
    return error_f(ErrorCode::kUnsupported,
                   "GGUF tensor \"%s\": expected type F32 (0), F16 (1), I8 (24), TQ1_0 (34), TQ2_0 (35) or SF3 to SF16 "
                   "(1003 to 1016), found %u",
                   tensor.name.c_str(), type_number);
  }
  tensor.type = static_cast<GgmlType>(type_number);
  if (tensor.shape[0] == 0 || tensor.shape[0] % traits->block != 0) {
    return error_f(ErrorCode::kBadFile, "GGUF tensor \"%s\": expected columns in blocks of %llu for %s, found %llu",
                   tensor.name.c_str(), static_cast<ull>(traits->block), traits->name,
                   static_cast<ull>(tensor.shape[0]));
  }
  uint64_t elements = 1;  // at most kFileBytes at 4 elements a byte or fewer, so the products stay far below 2^64
  for (const uint64_t extent : tensor.shape) {
    if (extent == 0 || extent > GgufLimits::kFileBytes || elements > GgufLimits::kFileBytes * 8 / extent) {
      return error_f(ErrorCode::kBadFile,
                     "GGUF tensor \"%s\": expected a shape of 1 to %llu elements, found extent %llu",
                     tensor.name.c_str(), static_cast<ull>(GgufLimits::kFileBytes * 8), static_cast<ull>(extent));
    }
    elements *= extent;
  }
  tensor.row_bytes = tensor.shape[0] / traits->block * traits->bytes;
  tensor.rows = elements / tensor.shape[0];
  header_.tensors.push_back(std::move(tensor));
  return {};
}

/// Tools of llama.cpp cut large models into several files, of which only the first has all the keys.
Result<void> GgufReader::check_not_split() const {
  const GgufValue* count = header_.find("split.count");
  if (count == nullptr || size_of(count->type) == 0 || count->bits <= 1) return {};
  const GgufValue* number = header_.find("split.no");
  return error_f(
      ErrorCode::kUnsupported,
      "expected a whole model, found part %llu of %llu of a split one; join them with llama-gguf-split --merge",
      static_cast<ull>(number == nullptr ? 1 : number->bits + 1), static_cast<ull>(count->bits));
}

/// All entries are read: check them against each other and find out where the data lies.
Result<void> GgufReader::finish_directory() {
  if (const Result<void> whole = check_not_split(); !whole.ok()) return whole;
  if (const GgufValue* alignment = header_.find("general.alignment"); alignment != nullptr) {
    const uint64_t a = alignment->bits;
    if (alignment->type != GgufType::kU32 || a < 8 || a > 65536 || (a & (a - 1)) != 0) {
      return error_f(ErrorCode::kBadFile,
                     "GGUF metadata \"general.alignment\": expected a u32 power of two from 8 to 65536, found %s %llu",
                     name_of(alignment->type), static_cast<ull>(a));
    }
    alignment_ = a;
  }

  std::vector<std::string_view> names;
  for (const GgufTensor& tensor : header_.tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    return error_f(ErrorCode::kBadFile, "GGUF tensor \"%s\": expected each name once, found it twice",
                   std::string(*twice).c_str());
  }

  header_.data_start = round_up(position_, alignment_);
  std::sort(header_.tensors.begin(), header_.tensors.end(),
            [](const GgufTensor& a, const GgufTensor& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  for (const GgufTensor& tensor : header_.tensors) {
    const uint64_t expected = round_up(end, alignment_);
    if (tensor.offset != expected) {
      return error_f(
          ErrorCode::kBadFile,
          "GGUF tensor \"%s\": expected its data at offset %llu, right after the tensor before it, found %llu",
          tensor.name.c_str(), static_cast<ull>(expected), static_cast<ull>(tensor.offset));
    }
    end = tensor.offset + tensor.bytes();
    if (end > GgufLimits::kFileBytes) {
      return error_f(ErrorCode::kUnsupported, "GGUF tensor \"%s\": expected a file of at most %llu bytes, found %llu",
                     tensor.name.c_str(), static_cast<ull>(GgufLimits::kFileBytes), static_cast<ull>(end));
    }
  }
  header_.file_bytes = header_.data_start + end;
  enter(Stage::kPadding);
  needed_ = header_.data_start - position_;
  return needed_ == 0 ? check_padding() : Result<void>();
}

Result<void> GgufReader::check_padding() {
  if (std::any_of(pending_.begin(), pending_.end(), [](uint8_t byte) { return byte != 0; })) {
    return error_f(ErrorCode::kBadFile, "GGUF %s: expected zeros", where().c_str());
  }
  hash_unit();
  enter(header_.tensors.empty() ? Stage::kEnd : Stage::kData);
  return sink_->on_header(header_);
}

// ---- data -------------------------------------------------------------------------------------------------------

Result<void> GgufReader::deliver_rows(std::span<const uint8_t>& chunk) {
  const GgufTensor& tensor = header_.tensors[tensor_];
  std::span<const uint8_t> row = take(chunk, tensor.row_bytes - pending_.size());
  if (has_checksum()) sha256_.push(row);
  if (!pending_.empty() || row.size() < tensor.row_bytes) {  // the row is spread over chunks
    pending_.insert(pending_.end(), row.begin(), row.end());
    if (pending_.size() < tensor.row_bytes) return {};
    row = pending_;
  }
  const Result<void> result = sink_->on_row(tensor_, row_, row);
  pending_.clear();
  if (!result.ok() || ++row_ < tensor.rows) return result;

  row_ = 0;
  if (++tensor_ == header_.tensors.size()) {
    enter(Stage::kEnd);
  } else {
    skip_ = header_.data_start + header_.tensors[tensor_].offset - position_;
  }
  return {};
}

}  // namespace tern
