// tiny_toy.h: random models of the architecture toy, whose texts have an end.
#pragma once

#include "reference_model.h"
#include "tiny_model.h"

namespace tern::test {

struct ToySpec {
  uint32_t blocks = 2;
  uint32_t width = 40;
  uint32_t context = 50;
};

struct ToyLayer {
  Vector norm;
  TernaryMatrix in, forget, out;
};

/// A random model, and its file.
class ToyModel : public TinyParts {
 public:
  explicit ToyModel(const ToySpec& toy) : TinyParts({}) {
    writer.text("general.architecture", "toy");
    writer.text("general.name", "toy");
    writer.u32("toy.block_count", toy.blocks);
    writer.u32("toy.embedding_length", toy.width);
    writer.u32("toy.context_length", toy.context);
    writer.u32("toy.vocab_size", kVocab);
    writer.f32_bits("toy.norm_rms_epsilon", f32_bits(1e-6));
    writer.text("tokenizer.ggml.model", "byte");
    writer.u32("tokenizer.ggml.bos_token_id", kBytes.bos);
    writer.u32("tokenizer.ggml.eos_token_id", kBytes.eos);
    make_embedding(toy.width);
    for (uint32_t n = 0; n < toy.blocks; ++n) {
      const std::string blk = "blk." + std::to_string(n) + ".";
      layers.push_back(
          {make_vector(blk + "norm.weight", toy.width, 0.5, 1.5), make_matrix(blk + "in", toy.width, toy.width),
           make_matrix(blk + "forget", toy.width, toy.width), make_matrix(blk + "out", toy.width, toy.width)});
    }
    output_norm = make_vector("output_norm.weight", toy.width, 0.5, 1.5);
    output = make_matrix("output", kVocab, toy.width);
    file = writer.build();
  }

  std::vector<ToyLayer> layers;
  Vector output_norm;
};

}  // namespace tern::test
