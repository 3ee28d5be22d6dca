// attention.cc: what happens between the two products of attention; those are in kernels/dense/positions.h.
// SPDX-License-Identifier: MIT
#include "model/layers/attention.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "base/parallel.h"
#include "fixed/functions.h"
#include "kernels/dense/positions.h"
#include "kernels/dispatch.h"
#include "kernels/rows/norm.h"

namespace tern {
namespace {

constexpr int kTurnBits = 30, kFiner = 8;  // of a turned row
constexpr int16_t kQueryCodes = 32767;     // |query . key| <= 32767 * 127 * 256 < 2^31
constexpr int kOctaveBits = 16;            // of q k / sqrt(W) as a power of two
constexpr int kShareBits = 24;             // of a position's share times its value's scale
const Scale kLog2E{3098164009u, -31};

/// The scales of a head at a position.
struct Head {
  Scale key_scale, value_scale;

  Head(const int32_t* words, size_t width)
      : key_scale(scale_at(words + width / 2)), value_scale(scale_at(words + width / 2 + 2)) {}

 private:
  /// A state that came from elsewhere may have any exponent.
  static Scale scale_at(const int32_t* words) {
    return {static_cast<uint32_t>(words[0]), std::clamp(words[1], -(1 << 20), 1 << 20)};
  }
};

/// What a turned integer is worth.
Scale finer(Scale scale) { return {scale.mantissa, scale.exponent - kFiner}; }

void put_scale(int32_t* words, Scale scale) {
  words[0] = static_cast<int32_t>(scale.mantissa);
  words[1] = scale.exponent;
}

uint64_t largest_magnitude(std::span<const int64_t> x) {
  uint64_t largest = 0;
  for (const int64_t v : x) largest = std::max(largest, static_cast<uint64_t>(v < 0 ? -v : v));
  return largest;
}

}  // namespace

// ---- Rotation -------------------------------------------------------------------------------------------------------

Turn turn_of(uint32_t position, uint32_t frequency) {
  constexpr uint32_t kQuarter = uint32_t{1} << 30;
  const uint32_t phase = position * frequency;
  return {sine(phase + kQuarter), sine(phase)};
}

void find_turns(Workspace& w, AttentionRoom& room, size_t tokens, std::span<const uint32_t> frequencies) {
  const MatrixView<Turn> out = room.turns.shape(tokens, frequencies.size());
  if (!w.turn(out)) return;
  for (size_t t = 0; t < tokens; ++t) {
    const auto position = static_cast<uint32_t>(w.position(t));
    for (size_t c = 0; c < frequencies.size(); ++c) out.row(t)[c] = turn_of(position, frequencies[c]);
  }
}

void rotate(std::span<const int32_t> x, std::span<const Turn> turns, std::span<int32_t> y) {
  const size_t half = turns.size();
  for (size_t c = 0; c < half; ++c) {
    const int64_t low = x[c], high = x[c + half];
    y[c] = static_cast<int32_t>(round_shift(low * turns[c].cos - high * turns[c].sin, kTurnBits - kFiner));
    y[c + half] = static_cast<int32_t>(round_shift(high * turns[c].cos + low * turns[c].sin, kTurnBits - kFiner));
  }
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

void remember(Workspace& w, const AttentionRoom& room, const ScaledRows& keys, const ScaledRows& values,
              const Attention& attention) {
  const MatrixView<int32_t> k = keys.integers, v = values.integers;
  if (!w.turn(k)) return;
  const size_t width = attention.width, head_words = Attention::words(1, attention.width);
  std::array<int32_t, kMaxHeadWidth> turned;
  const std::span<int32_t> key(turned.data(), width);
  for (size_t t = 0; t < k.rows; ++t) {
    const std::span<int32_t> words = w.texts[t].at(w.position(t)).subspan(attention.memory);
    for (size_t g = 0; g < attention.kv_heads; ++g) {
      int32_t* head = words.data() + g * head_words;
      auto* codes = reinterpret_cast<int8_t*>(head);
      rotate(k.row(t).subspan(g * width, width), room.turns.view().row(t), key);
      const Scale of_key = codes_of<int8_t>(key, 127, {codes, width}) * finer(keys.scales[t]);
      const Scale of_value = codes_of<int8_t>(v.row(t).subspan(g * width, width), 127, {codes + width, width});
      put_scale(head + width / 2, of_key);
      put_scale(head + width / 2 + 2, of_value * values.scales[t]);
    }
  }
}

// ---- Attention ------------------------------------------------------------------------------------------------------

namespace {

/// Calls work(what is remembered of its first position, its weights) for each page.
template <class Work>
void for_pages(const Remembered& remembered, std::span<int32_t> weights, const Work& work) {
  for (size_t first = 0; first < remembered.count; first += State::kPage) {
    const size_t count = std::min(State::kPage, remembered.count - first);
    work(remembered.pages[first / State::kPage] + remembered.memory, weights.subspan(first, count));
  }
}

}  // namespace

Scale attend_to(std::span<const int16_t> query, Scale scale, const Remembered& remembered, std::span<int32_t> weights,
                std::span<int64_t> sums) {
  const size_t width = query.size(), stride = remembered.stride;
  const auto rows = [&](const int32_t* words, size_t count, size_t first) {
    return PositionsView{reinterpret_cast<const int8_t*>(words) + first, count, width, stride * sizeof(int32_t)};
  };
  // The scores, as octaves, and the exponent of the largest scale.
  const Scale octaves = scale * kLog2E / Scale::from_integer(width).sqrt();
  int32_t largest = std::numeric_limits<int32_t>::min(), exponent = std::numeric_limits<int32_t>::min();
  for_pages(remembered, weights, [&](const int32_t* words, std::span<int32_t> scores) {
    dots(rows(words, scores.size(), 0), query, scores);
    for (size_t p = 0; p < scores.size(); ++p) {
      const Head head(words + p * stride, width);
      scores[p] = Rescale(head.key_scale * octaves, kOctaveBits)(scores[p]);
      largest = std::max(largest, scores[p]);
      if (!head.value_scale.is_zero()) exponent = std::max(exponent, head.value_scale.exponent);
    }
  });
  // A share is at most 2^31, a scale below 2^32: the product and half of what is dropped fit 64 bits.
  uint64_t total = 0;
  std::ranges::fill(sums, 0);
  for_pages(remembered, weights, [&](const int32_t* words, std::span<int32_t> shares) {
    for (size_t p = 0; p < shares.size(); ++p) {
      const int64_t below = int64_t{largest} - shares[p];
      const uint64_t share = exp2_negative(static_cast<uint32_t>(std::min<int64_t>(below, 0xFFFFFF)) << 8);
      total += share;
      const Scale value = Head(words + p * stride, width).value_scale;
      const int64_t behind = value.is_zero() ? 32 : int64_t{exponent} - value.exponent;
      const uint64_t aligned = behind > 31 ? 0 : value.mantissa >> behind;
      constexpr int kDropped = 63 - kShareBits;
      shares[p] = static_cast<int32_t>((share * aligned + (uint64_t{1} << (kDropped - 1))) >> kDropped);
    }
    add_weighted_sum(rows(words, shares.size(), width), shares, sums);
  });
  if (exponent == std::numeric_limits<int32_t>::min()) return {};
  return Scale::from_integer(1, exponent + 63 - kShareBits) / Scale::from_integer(total);
}

namespace {

/// Of one query head, out [W]; the query is turned here.
HeadMean attend_with(std::span<const int32_t> head, Scale scale, std::span<const Turn> turns,
                     const Remembered& remembered, std::span<int32_t> weights, std::span<int32_t> out) {
  std::array<int32_t, kMaxHeadWidth> turned;
  std::array<int16_t, kMaxHeadWidth> codes;
  std::array<int64_t, kMaxHeadWidth> room;
  const std::span<int32_t> query(turned.data(), head.size());
  const std::span<int64_t> sums(room.data(), head.size());
  rotate(head, turns, query);
  const Scale one = codes_of<int16_t>(query, kQueryCodes, {codes.data(), head.size()}) * finer(scale);
  Scale factor = attend_to({codes.data(), head.size()}, one, remembered, weights, sums);
  const uint64_t size = largest_magnitude(sums);
  const int drop = std::max(0, 64 - std::countl_zero(size) - 31);
  for (size_t c = 0; c < sums.size(); ++c) {
    const int64_t magnitude = (sums[c] < 0 ? -sums[c] : sums[c]) >> drop;
    out[c] = static_cast<int32_t>(sums[c] < 0 ? -magnitude : magnitude);
  }
  if (!factor.is_zero()) factor.exponent += drop;
  return {factor, factor * Scale::from_integer(size >> drop)};
}

}  // namespace

void attend(Workspace& w, AttentionRoom& room, ScaledRows& y, const ScaledRows& queries, const Attention& attention,
            uint32_t context) {
  const MatrixView<int32_t> q = queries.integers, out = y.integers.shape(q.rows, q.cols);
  const size_t width = attention.width, group = attention.heads / attention.kv_heads;
  const uint32_t most = std::clamp((uint32_t{1} << 20) / context, 1u, std::min(attention.heads, kMaxThreads));
  const MatrixView<int32_t> weights = room.weights.shape(most, context);
  const std::span<HeadMean> means = room.means.shape(1, attention.heads).row(0);
  const bool has_texts = w.texts.states.front() != nullptr;  // else only shapes are asked for
  for (size_t t = 0; t < q.rows; ++t) {
    const size_t count = has_texts ? static_cast<size_t>(w.position(t)) + 1 : 1;
    const uint64_t cost = uint64_t{2} * q.cols * count;
    if (!w.turn(cost)) continue;
    const State& text = w.texts[t];
    const size_t stride = text.layout().per_position;
    const uint32_t parts = std::min(parts_for(2 * cost, dispatch().products_per_thread), most);
    parallel(parts, [&](uint32_t part) {
      for (uint32_t n = part_begin(attention.heads, part, parts); n < part_begin(attention.heads, part + 1, parts);
           ++n) {
        const size_t memory = attention.memory + n / group * Attention::words(1, attention.width);
        means[n] =
            attend_with(q.row(t).subspan(n * width, width), queries.scales[t], room.turns.view().row(t),
                        {text.pages(), memory, stride, count}, weights.row(part), out.row(t).subspan(n * width, width));
      }
    });
    Scale largest;
    for (const HeadMean& mean : means) largest = largest < mean.largest ? mean.largest : largest;
    // All heads in units of one power of two, in which the largest number has 31 bits.
    const int unit = largest.exponent + 1;
    y.scales[t] = largest.is_zero() ? Scale{} : Scale::from_integer(1, unit);
    for (size_t n = 0; n < attention.heads; ++n) {
      const Rescale to_unit(means[n].factor, -unit);
      for (int32_t& v : out.row(t).subspan(n * width, width)) v = to_unit(v);
    }
  }
}

}  // namespace tern
