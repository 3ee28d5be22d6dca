// Checked reads of metadata values.
// SPDX-License-Identifier: MIT
#include "model/settings.h"

#include <algorithm>

#include "fixed/decimal.h"

namespace tern {

bool Settings::has_tensor(const char* ending) const {
  return std::ranges::any_of(header_->tensors, [&](const GgufTensor& t) { return t.name.ends_with(ending); });
}

void Settings::fail(const Error& error) {
  if (result_.ok()) result_ = error;
}

void Settings::refuse(const std::string& key, const std::string& expected, const std::string& found) {
  fail(error_f(ErrorCode::kBadFile, "metadata \"%s%s\": expected %s, found %s", prefix_.c_str(), key.c_str(),
               expected.c_str(), found.c_str()));
}

const GgufValue* Settings::find(const char* key, GgufType type) {
  const std::string name = prefix_ + key;
  const GgufValue* value = header_->find(name);
  if (value != nullptr && value->type == type) return value;
  fail(error_f(ErrorCode::kBadFile, "metadata \"%s\": expected a value of type %s, found %s", name.c_str(),
               name_of(type), value == nullptr ? "none" : name_of(value->type)));
  return nullptr;
}

uint32_t Settings::integer(const char* key, uint32_t low, uint32_t high) {
  const GgufValue* value = find(key, GgufType::kU32);
  if (value == nullptr) return low;
  texts_.push_back({key, std::to_string(value->bits)});
  if (value->bits >= low && value->bits <= high) return static_cast<uint32_t>(value->bits);
  fail(error_f(ErrorCode::kUnsupported, "metadata \"%s%s\": expected %u to %u, found %llu", prefix_.c_str(), key, low,
               high, static_cast<unsigned long long>(value->bits)));
  return low;
}

uint32_t Settings::vocabulary_size() {
  constexpr uint32_t kMost = uint32_t{1} << 20;
  return integer("vocab_size", 2, kMost);
}

Scale Settings::real(const char* key) {
  const GgufValue* value = find(key, GgufType::kF32);
  if (value == nullptr) return {};
  const std::optional<Scale> scale = Scale::from_f32_bits(static_cast<uint32_t>(value->bits));
  if (scale && !scale->is_zero() && *scale < Scale::from_integer(1)) {
    texts_.push_back({key, f32_text(static_cast<uint32_t>(value->bits))});
    return *scale;
  }
  fail(error_f(ErrorCode::kBadFile, "metadata \"%s%s\": expected a number above 0 and below 1, found %s",
               prefix_.c_str(), key, f32_text(static_cast<uint32_t>(value->bits)).c_str()));
  return {};
}

const GgufValue* Settings::array_in(const GgufValue* value, GgufType type, size_t least, size_t most) {
  if (value == nullptr) return nullptr;
  const bool is_array = value->type == GgufType::kArray;
  if (is_array && value->item_type == type && value->bits >= least && value->bits <= most) return value;
  const std::string count = std::to_string(least) + (most > least ? " to " + std::to_string(most) : "");
  const std::string found = is_array ? std::to_string(value->bits) + " " + name_of(value->item_type)
                                     : std::string("one value of type ") + name_of(value->type);
  fail(error_f(ErrorCode::kBadFile, "metadata \"%s\": expected an array of %s %s, found %s", value->key.c_str(),
               count.c_str(), name_of(type), found.c_str()));
  return nullptr;
}

std::vector<uint32_t> Settings::integers(const char* key, size_t least, size_t most, uint32_t low, uint32_t high) {
  const GgufValue* value = header_->find(prefix_ + key);
  if (value == nullptr) find(key, GgufType::kArray);  // says what is missing
  value = array_in(value, GgufType::kU32, least, most);
  if (value == nullptr) return std::vector(least, low);
  std::vector<uint32_t> numbers;
  std::string text;
  for (const uint64_t item : value->items) {
    text += (text.empty() ? "" : ", ") + std::to_string(item);
    if (item < low || item > high) {
      refuse(key, "numbers from " + std::to_string(low) + " to " + std::to_string(high), std::to_string(item));
    }
    numbers.push_back(std::clamp(static_cast<uint32_t>(item), low, high));
  }
  texts_.push_back({key, text});
  return numbers;
}

void Settings::optional_reals_from_one(const char* key, size_t count) {
  const GgufValue* value = header_->find(prefix_ + key);
  if (value == nullptr) return;
  value = array_in(value, GgufType::kF32, count, count);
  if (value == nullptr) return;
  std::string text;
  for (size_t s = 0; s < count; ++s) {
    const std::optional<Scale> number = Scale::from_f32_bits(static_cast<uint32_t>(value->items[s]));
    if (!number || *number < Scale::from_integer(1)) {
      refuse(key, "numbers of 1 or more",
             f32_text(static_cast<uint32_t>(value->items[s])) + " for stage " + std::to_string(s));
      return;
    }
    text += (text.empty() ? "" : ", ") + f32_text(static_cast<uint32_t>(value->items[s]));
  }
  texts_.push_back({key, text});
}

size_t Settings::choice(const char* key, std::initializer_list<const char*> choices) {
  const GgufValue* value = find(key, GgufType::kString);
  if (value == nullptr) return 0;
  texts_.push_back({key, value->text});
  std::string expected;
  size_t index = 0;
  for (const char* choice : choices) {
    if (value->text == choice) return index;
    expected += std::string(index == 0 ? "\"" : ", \"") + choice + "\"";
    ++index;
  }
  fail(error_f(ErrorCode::kUnsupported, "metadata \"%s%s\": expected one of %s, found \"%s\"", prefix_.c_str(), key,
               expected.c_str(), value->text.substr(0, 40).c_str()));
  return 0;
}

}  // namespace tern
