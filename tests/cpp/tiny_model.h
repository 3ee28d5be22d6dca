// tiny_model.h: random HGRN-bit models, as files for the engine and as real numbers for the reference implementation.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gguf_writer.h"
#include "session/session.h"

namespace tern::test {

inline constexpr uint32_t kVocab = kBytes.size;
inline constexpr auto kBos = static_cast<uint8_t>(kBytes.bos), kEos = static_cast<uint8_t>(kBytes.eos);

struct TinySpec {
  uint32_t layers = 2;
  uint32_t hidden = 64;
  uint32_t recurrent = 64;
  uint32_t feed_forward = 96;
  uint32_t conv_kernel = 4;
  bool lower_bounds = true;
  std::string gate_norm = "gate";
  std::string sigmoid = "table";
  GgmlType ternary = GgmlType::kTQ1_0;
  GgmlType embedding = GgmlType::kI8;
  uint64_t seed = 1;
};

struct TinyWidths {
  uint32_t hidden = 0;
  uint32_t recurrent = 0;
  uint32_t feed_forward = 0;
};

/// SplitMix64: the same numbers with every standard library.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double uniform(double low, double high) {
    return low + (high - low) * static_cast<double>(next() >> 11) / 9007199254740992.0;
  }
  uint64_t below(uint64_t n) { return next() % n; }

 private:
  uint64_t state_;
};

struct TernaryMatrix {
  size_t rows = 0, cols = 0;
  std::vector<int> w;  // [rows][cols]
  double scale = 0;
  uint16_t scale_bits = 0;
  std::vector<double> norm;  // [cols]
};

struct TinyLayer {
  std::vector<double> attn_norm, conv, lower_bound, gate_norm, ffn_norm;  // conv [H][K]
  TernaryMatrix attn_i, attn_f, attn_g, attn_o, ffn_gate_up, ffn_down;
};

inline double f16_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const double fraction = bits & 1023;
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
}

inline uint32_t f32_bits(double value) {
  const auto single = static_cast<float>(value);
  uint32_t bits = 0;
  std::memcpy(&bits, &single, 4);
  return bits;
}

inline void put_f32(std::vector<uint8_t>& out, double value) { GgufWriter::put(out, f32_bits(value), 4); }

/// Rows of codes w in {-1, 0, 1}, padded with 0 to whole blocks.
inline std::vector<uint8_t> encode_ternary(const TernaryMatrix& m, GgmlType type) {
  std::vector<uint8_t> out;
  const size_t blocks = (m.cols + 255) / 256;
  for (size_t r = 0; r < m.rows; ++r) {
    for (size_t b = 0; b < blocks; ++b) {
      unsigned u[256];
      for (size_t e = 0; e < 256; ++e) {
        const size_t c = b * 256 + e;
        u[e] = c < m.cols ? static_cast<unsigned>(m.w[r * m.cols + c] + 1) : 1u;
      }
      if (type == GgmlType::kTQ1_0) {
        const auto put_trits = [&](size_t first, size_t count, size_t trits) {
          for (size_t k = 0; k < count; ++k) {
            unsigned n = 0;
            for (size_t t = 0; t < 5; ++t) n = n * 3 + (t < trits ? u[first + t * count + k] : 0);
            out.push_back(static_cast<uint8_t>((n * 256 + 242) / 243));
          }
        };
        put_trits(0, 32, 5);
        put_trits(160, 16, 5);
        put_trits(240, 4, 4);
      } else {
        for (size_t half = 0; half < 256; half += 128) {
          for (size_t k = 0; k < 32; ++k) {
            unsigned byte = 0;
            for (size_t n = 0; n < 4; ++n) byte |= u[half + n * 32 + k] << (2 * n);
            out.push_back(static_cast<uint8_t>(byte));
          }
        }
      }
      GgufWriter::put(out, m.scale_bits, 2);
    }
  }
  return out;
}

/// Makes random tensors and writes them to a file at once; every parameter is random, norms, convolution and bounds
/// too, so that no factor hides as 1.
class TinyParts {
 public:
  explicit TinyParts(const TinySpec& spec) : spec_(spec), random_(spec.seed) {}

  const TinySpec& spec() const { return spec_; }

  std::vector<double> embedding;  // [256][H]
  TernaryMatrix output;
  GgufWriter writer;
  std::vector<uint8_t> file;

 protected:
  /// The settings that every architecture has.
  void write_common(const std::string& architecture) {
    writer.text("general.architecture", architecture);
    writer.text("general.name", "tiny");
    writer.u32("general.alignment", 32);
    writer.u32(architecture + ".vocab_size", 256);
    writer.f32_bits(architecture + ".norm_rms_epsilon", f32_bits(1e-6));
    writer.u32(architecture + ".conv_kernel", spec_.conv_kernel);
    writer.text(architecture + ".gate_norm", spec_.gate_norm);
    writer.text(architecture + ".sigmoid", spec_.sigmoid);
    writer.text("tokenizer.ggml.model", "byte");
    writer.u32("tokenizer.ggml.bos_token_id", 254);
    writer.u32("tokenizer.ggml.eos_token_id", 255);
  }

  void make_embedding(uint64_t hidden) {
    const size_t count = size_t{256} * hidden;
    std::vector<uint8_t> bytes;
    if (spec_.embedding == GgmlType::kI8) {
      std::vector<uint8_t> scales;
      for (size_t i = 0; i < count; ++i) {
        const int code = static_cast<int>(random_.below(255)) - 127;
        bytes.push_back(static_cast<uint8_t>(code));
        embedding.push_back(code);
      }
      for (size_t r = 0; r < 256; ++r) {
        const double scale = static_cast<float>(random_.uniform(0.005, 0.03));
        put_f32(scales, scale);
        for (size_t c = 0; c < hidden; ++c) embedding[r * hidden + c] *= scale;
      }
      writer.tensor("token_embd.weight", GgmlType::kI8, {hidden, 256}, bytes);
      writer.tensor("token_embd.scale", GgmlType::kF32, {256}, scales);
      return;
    }
    for (size_t i = 0; i < count; ++i) {
      if (spec_.embedding == GgmlType::kF16) {
        const auto bits = static_cast<uint16_t>(0x3000 + random_.below(0x0c00));  // 0.125 .. 1
        GgufWriter::put(bytes, bits, 2);
        embedding.push_back(f16_value(bits));
      } else {
        embedding.push_back(static_cast<float>(random_.uniform(-2, 2)));
        put_f32(bytes, embedding.back());
      }
    }
    writer.tensor("token_embd.weight", spec_.embedding, {hidden, 256}, bytes);
  }

  std::vector<double> make_vector(const std::string& name, size_t count, double low, double high,
                                  std::vector<uint64_t> shape = {}) {
    std::vector<double> values;
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < count; ++i) {
      values.push_back(static_cast<float>(random_.uniform(low, high)));
      put_f32(bytes, values.back());
    }
    if (shape.empty()) shape = {count};
    writer.tensor(name, GgmlType::kF32, shape, bytes);
    return values;
  }

  TernaryMatrix make_matrix(const std::string& name, size_t rows, size_t cols) {
    TernaryMatrix m;
    m.rows = rows;
    m.cols = cols;
    for (size_t i = 0; i < rows * cols; ++i) m.w.push_back(static_cast<int>(random_.below(3)) - 1);
    m.scale_bits = static_cast<uint16_t>(0x2c00 + random_.below(0x400));  // 1/16 .. 1/8
    m.scale = f16_value(m.scale_bits);
    writer.tensor(name + ".weight", spec_.ternary, {(cols + 255) / 256 * 256, rows}, encode_ternary(m, spec_.ternary));
    m.norm = make_vector(name + ".in_norm.weight", cols, 0.5, 1.5);
    return m;
  }

  TinyLayer make_layer(const std::string& blk, const TinyWidths& w) {
    TinyLayer layer;
    layer.attn_norm = make_vector(blk + "attn_norm.weight", w.hidden, 0.5, 1.5);
    if (spec_.conv_kernel > 0) {
      layer.conv =
          make_vector(blk + "conv.weight", size_t{w.hidden} * spec_.conv_kernel, -1, 1, {spec_.conv_kernel, w.hidden});
    }
    if (spec_.lower_bounds) layer.lower_bound = make_vector(blk + "lower_bound", w.recurrent, 0, 0.999);
    layer.attn_i = make_matrix(blk + "attn_i", w.recurrent, w.hidden);
    layer.attn_f = make_matrix(blk + "attn_f", w.recurrent, w.hidden);
    layer.attn_g = make_matrix(blk + "attn_g", w.recurrent, w.hidden);
    layer.gate_norm = make_vector(blk + "gate_norm.weight", w.recurrent, 0.5, 1.5);
    layer.attn_o = make_matrix(blk + "attn_o", w.hidden, w.recurrent);
    layer.ffn_norm = make_vector(blk + "ffn_norm.weight", w.hidden, 0.5, 1.5);
    layer.ffn_gate_up = make_matrix(blk + "ffn_gate_up", size_t{2} * w.feed_forward, w.hidden);
    layer.ffn_down = make_matrix(blk + "ffn_down", w.hidden, w.feed_forward);
    return layer;
  }

  std::vector<TinyLayer> make_stack(const std::string& prefix, uint32_t blocks, const TinyWidths& widths) {
    std::vector<TinyLayer> stack;
    for (uint32_t n = 0; n < blocks; ++n) stack.push_back(make_layer(prefix + std::to_string(n) + ".", widths));
    return stack;
  }

  TinySpec spec_;
  Random random_;
};

/// A random HGRN-bit model.
class TinyModel : public TinyParts {
 public:
  explicit TinyModel(const TinySpec& spec) : TinyParts(spec) {
    write_common("hgrnbit");
    writer.u32("hgrnbit.block_count", spec.layers);
    writer.u32("hgrnbit.embedding_length", spec.hidden);
    writer.u32("hgrnbit.recurrent_length", spec.recurrent);
    writer.u32("hgrnbit.feed_forward_length", spec.feed_forward);
    make_embedding(spec.hidden);
    layers = make_stack("blk.", spec.layers, {spec.hidden, spec.recurrent, spec.feed_forward});
    output_norm = make_vector("output_norm.weight", spec.hidden, 0.5, 1.5);
    output = make_matrix("output", kVocab, spec.hidden);
    file = writer.build();
  }

  std::vector<TinyLayer> layers;
  std::vector<double> output_norm;
};

/// Loads a whole file in chunks of the given size.
inline Result<std::shared_ptr<const Model>> load(std::span<const uint8_t> file, size_t chunk = SIZE_MAX) {
  ModelLoader loader;
  while (!file.empty()) {
    const size_t size = std::min(chunk, file.size());
    const Result<void> pushed = loader.push(file.first(size));
    if (!pushed.ok()) return pushed.error();
    file = file.subspan(size);
  }
  return loader.finish();
}

inline std::shared_ptr<const Model> load_or_fail(std::span<const uint8_t> file) {
  Result<std::shared_ptr<const Model>> model = load(file);
  if (!model.ok()) {
    ADD_FAILURE() << model.error().message;
    std::abort();
  }
  return std::move(model).value();
}

/// All words of a state, as they are saved.
inline std::vector<int32_t> words_of(State& state) {
  std::vector<int32_t> words;
  for (const std::span<int32_t> piece : state.pieces()) words.insert(words.end(), piece.begin(), piece.end());
  return words;
}

/// One text and a model, batch by batch; remembers what was seen of the last one.
class Text : public Observer {
 public:
  explicit Text(const Model& model)
      : model_(model),
        state_(std::move(model.new_state(kNoLimit)).value()),
        workspace_(std::move(model.new_workspace()).value()) {}

  /// logits: none, of the last token, or of every token.
  void read(std::span<const uint8_t> bytes, std::span<int32_t> logits) {
    const std::vector<Token> tokens(bytes.begin(), bytes.end());
    State* const states[] = {state_.get()};
    const Want want = logits.empty() ? Want::kNone : logits.size() == kVocab ? Want::kLast : Want::kAll;
    masks_.assign(bytes.size(), 0);
    first_ = state_->length();
    for (auto& [part, row] : out_) std::ranges::fill(row, 0);
    model_.run({.tokens = tokens, .states = states, .want = want, .logits = logits, .observer = this}, *workspace_);
  }
  void step(uint8_t byte, std::span<int32_t> logits) { read({&byte, 1}, logits); }

  std::vector<int32_t> state() { return words_of(*state_); }
  void fill_state(int32_t word) {
    for (const std::span<int32_t> piece : state_->pieces()) std::ranges::fill(piece, word);
  }
  const std::vector<uint8_t>& boundaries() const { return masks_; }
  /// The residual stream after each block, of the last token; zeros of blocks that did not run.
  std::vector<std::vector<int32_t>> blocks() const {
    std::vector<std::vector<int32_t>> rows;
    for (const auto& [part, row] : out_) rows.push_back(row);
    return rows;
  }

 private:
  void on_row(const Place& place, std::span<const int32_t> raw, int) override {
    if (place.operation != "out") return;
    auto block = std::ranges::find(out_, place.part, &std::pair<std::string, std::vector<int32_t>>::first);
    if (block == out_.end()) block = out_.insert(block, {std::string(place.part), {}});
    block->second.assign(raw.begin(), raw.end());
  }
  void on_chunk(size_t, uint64_t position, uint32_t stage) override {
    uint8_t& mask = masks_[static_cast<size_t>(position - first_)];
    mask = static_cast<uint8_t>(mask | 1u << stage);
  }

  const Model& model_;
  std::unique_ptr<State> state_;
  std::unique_ptr<Workspace> workspace_;
  uint64_t first_ = 0;
  std::vector<uint8_t> masks_;
  std::vector<std::pair<std::string, std::vector<int32_t>>> out_;
};

inline std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace tern::test
