// kernels.cc: what each kernel reaches alone, and what the machine could do at most.
#include "kernels/kernels.h"

#include <array>
#include <string_view>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/lab/lab.h"
#include "tools/bench/measure.h"
#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern {
namespace {

PackedTernary random_matrix(uint32_t rows, uint32_t cols) {
  constexpr uint32_t kDifferent = 61;  // rows; then they repeat, since random numbers take longer than packing
  uint32_t random = rows ^ cols;
  PackedTernary matrix(rows, cols);
  std::vector<uint8_t> codes(size_t{std::min(rows, kDifferent)} * cols);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(next_random(random) % 3);
  for (uint32_t r = 0; r < rows; ++r) matrix.pack_row(r, std::span(codes).subspan(size_t{r % kDifferent} * cols, cols));
  return matrix;
}

struct Shape {
  uint32_t rows, cols;
};

void bench_product(double seconds, const KernelLevel& level, const PackedTernary& matrix, size_t tokens) {
  const Shape shape{matrix.rows(), matrix.cols()};
  uint32_t random = 1;
  std::vector<int8_t> x(tokens * shape.cols);
  for (int8_t& value : x) value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  std::vector<int32_t> y(tokens * shape.rows);
  const std::vector<int32_t> sums(tokens);
  const MatrixView<const int8_t> x_view(x.data(), tokens, shape.cols);
  const MatrixView<int32_t> y_view(y.data(), tokens, shape.rows);
  const double macs = static_cast<double>(shape.rows) * shape.cols * static_cast<double>(tokens);
  const double rate = best_rate(seconds, macs, [&] {
    if (tokens == 1) {
      level.matvec(matrix.view(), x.data(), 0, y.data());
    } else {
      matmul_by(level, matrix.view(), x_view, sums.data(), y_view);
    }
    g_sink = static_cast<uint64_t>(y[0]);
  });
  JsonWriter line;
  line.open('{').key("bench").text(tokens == 1 ? "ternary_matvec" : "ternary_matmul").key("level").text(level.name);
  line.key("rows").unsigned_integer(shape.rows).key("cols").unsigned_integer(shape.cols);
  line.key("tokens").unsigned_integer(tokens).key("gmac_per_s").real(rate / 1e9);
  print(line);
}

#if TERN_SIMD >= 1
// Dot products alone, with four independent sums in registers: no kernel built on this instruction can be faster.
template <class DotAdd>
double dot_rate(double seconds, int macs_per_dot, DotAdd dot_add) {
  constexpr int kRounds = 10000;
  return best_rate(seconds, 4.0 * kRounds * macs_per_dot, [&] {
    const simd::Vec step = simd::splat_i16(1);
    const simd::Vec w0 = simd::splat_i8(0), w1 = simd::splat_i8(1), w2 = simd::splat_i8(2), w3 = simd::splat_i8(3);
    simd::Vec x = simd::zero();
    simd::Vec s0 = x, s1 = x, s2 = x, s3 = x;
    for (int round = 0; round < kRounds; ++round) {
      x = simd::add_i16(x, step);  // another operand each time, so that no product can be kept
      s0 = dot_add(x, w0, s0);
      s1 = dot_add(x, w1, s1);
      s2 = dot_add(x, w2, s2);
      s3 = dot_add(x, w3, s3);
    }
    std::array<uint64_t, 2> result;
    simd::store(result.data(), simd::add_i32(simd::add_i32(s0, s1), simd::add_i32(s2, s3)));
    g_sink = result[0];
  });
}

// Reading memory and nothing else.
double read_rate(double seconds, size_t bytes) {
  const std::vector<uint8_t> memory(bytes, 1);
  return best_rate(seconds, static_cast<double>(bytes), [&] {
    simd::Vec sums[4] = {simd::zero(), simd::zero(), simd::zero(), simd::zero()};
    for (size_t at = 0; at < bytes; at += 64) {
      for (size_t i = 0; i < 4; ++i) sums[i] = simd::add_i32(sums[i], simd::load(memory.data() + at + 16 * i));
    }
    std::array<uint64_t, 2> result;
    simd::store(result.data(), simd::add_i32(simd::add_i32(sums[0], sums[1]), simd::add_i32(sums[2], sums[3])));
    g_sink = result[0];
  });
}
#endif

bool is_definition(const KernelLevel& level) { return &level == kernel_levels().data(); }

}  // namespace

void Limits::add(const Limit& limit) {
  for (Limit& known : limits_) {
    if (std::string_view(known.name) != limit.name) continue;
    known.rate = std::max(known.rate, limit.rate);
    return;
  }
  limits_.push_back(limit);
}

void Limits::measure(double seconds) {
#if TERN_SIMD >= 1
  using simd::Vec;
  add({"limit_dot", "level", "simd128", "gmac_per_s",
       dot_rate(seconds, 8, [](Vec x, Vec w, Vec sum) { return simd::add_i32(sum, simd::dot_i16(x, w)); })});
#if TERN_SIMD >= 2
  add({"limit_dot", "level", "relaxed", "gmac_per_s",
       dot_rate(seconds, 16, [](Vec x, Vec w, Vec sum) { return simd::dot_add_i8_i7(x, w, sum); })});
  add({"limit_dot", "level", "relaxed_pairs", "gmac_per_s",
       dot_rate(seconds, 16, [](Vec x, Vec w, Vec sum) { return simd::add_i16(sum, simd::dot_i8_i7(x, w)); })});
#endif
  add({"limit_read", "memory", "cache", "gb_per_s", read_rate(seconds, size_t{1} << 14)});
  add({"limit_read", "memory", "dram", "gb_per_s", read_rate(seconds, size_t{1} << 28)});
#else
  (void)seconds;
#endif
}

void Limits::print() const {
  for (const Limit& limit : limits_) {
    JsonWriter line;
    line.open('{')
        .key("bench")
        .text(limit.bench)
        .key(limit.key)
        .text(limit.name)
        .key(limit.unit)
        .real(limit.rate / 1e9);
    tern::print(line);
  }
}

void bench_products(double seconds) {
  constexpr size_t kTokens = 32;
  for (const Shape shape : {Shape{512, 512}, {2048, 512}, {512, 1536}, {2048, 2048}, {8192, 4096}}) {
    const PackedTernary matrix = random_matrix(shape.rows, shape.cols);
    for (const KernelLevel& level : kernel_levels()) {
      // The definition is slow whatever the shape.
      if (!level.is_exact() || (is_definition(level) && shape.rows > 512)) continue;
      bench_product(seconds, level, matrix, 1);
      bench_product(seconds, level, matrix, kTokens);
    }
  }
  // The matrices of BitNet b1.58 2B4T: query and output, key and value, gate and up, down.
  for (const Shape shape : {Shape{2560, 2560}, {640, 2560}, {6912, 2560}, {2560, 6912}}) {
    const PackedTernary matrix = random_matrix(shape.rows, shape.cols);
    bench_product(seconds, *dispatch().level, matrix, 1);
    bench_product(seconds, *dispatch().level, matrix, kTokens);
  }
}

void bench_dram(double seconds) {
  const PackedTernary matrix = random_matrix(16384, 16384);
  for (const KernelLevel& level : kernel_levels()) {
    if (level.is_exact() && !is_definition(level)) bench_product(seconds, level, matrix, 1);
  }
}

void bench_activations(double seconds) {
  constexpr uint32_t cols = 512;
  uint32_t random = 1;
  std::vector<Act> x(cols);
  std::vector<NormWeight> w(cols);
  for (Act& a : x) a.raw = static_cast<int32_t>(next_random(random)) - 32768;
  for (NormWeight& a : w) a.raw = static_cast<int32_t>(next_random(random)) + 32768;
  std::vector<int8_t> codes(padded_cols(cols));
  const double rate = best_rate(seconds, cols, [&] {
    const Scale rms = root_mean_square(x, Scale::from_integer(1, -20));
    g_sink = static_cast<uint64_t>(quantize_activations(x, w, rms, codes).sum);
  });
  JsonWriter line;
  line.open('{').key("bench").text("quantize_activations").key("cols").unsigned_integer(cols);
  line.key("million_values_per_s").real(rate / 1e6);
  print(line);
}

// Kernels that lost, measured on a matrix as wide as both of their layouts allow, and checked.
void bench_lab(double seconds) {
  constexpr uint32_t kRows = 2048, kCols = 1920;
  const PackedTernary matrix = random_matrix(kRows, kCols);
  std::vector<uint8_t> codes(size_t{kRows} * kCols);
  for (uint32_t r = 0; r < kRows; ++r) matrix.unpack_row(r, std::span(codes).subspan(size_t{r} * kCols, kCols));
  uint32_t random = 1;
  int32_t sum = 0;
  std::vector<int8_t> x(kCols);
  for (int8_t& value : x) sum += value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  std::vector<int32_t> expected(kRows), y(kRows);
  ternary_matvec(matrix.view(), x, sum, expected);

  const auto measure = [&](const char* name, auto matvec) {
    const double rate = best_rate(seconds, static_cast<double>(kRows) * kCols, [&] {
      matvec();
      g_sink = static_cast<uint64_t>(y[0]);
    });
    TERN_CHECK(y == expected);
    JsonWriter line;
    line.open('{').key("bench").text("lab_matvec").key("kernel").text(name);
    line.key("rows").unsigned_integer(kRows).key("cols").unsigned_integer(kCols).key("gmac_per_s").real(rate / 1e9);
    print(line);
  };
  lab::BitPlanes planes(kRows, kCols, codes);
  measure("bit_planes", [&] { planes.matvec(x, y); });
  const lab::BaseThree digits(kRows, kCols, codes);
  measure("base_three", [&] { digits.matvec(x, sum, y); });
#if TERN_SIMD >= 1
  measure("one_row_dots", [&] { lab::one_row_dots(matrix.view(), x, sum, y); });
#endif
}

}  // namespace tern
