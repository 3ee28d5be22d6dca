// kernels.cc: what each kernel reaches alone, and what the machine could do at most.
#include "kernels/kernels.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/dispatch.h"
#include "kernels/lab/lab.h"
#include "tools/bench/measure.h"
#if TERN_SIMD >= 1
#include "kernels/simd/simd.h"
#endif

namespace tern {
PackedTernary random_matrix(uint32_t rows, uint32_t cols) {
  constexpr uint32_t kDifferent = 61;  // rows; then they repeat, since random numbers take longer than packing
  uint32_t random = rows ^ cols;
  PackedTernary matrix(rows, cols);
  std::vector<uint8_t> codes(size_t{std::min(rows, kDifferent)} * cols);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(next_random(random) % 3);
  for (uint32_t r = 0; r < rows; ++r) matrix.pack_row(r, std::span(codes).subspan(size_t{r % kDifferent} * cols, cols));
  return matrix;
}

namespace {

struct Shape {
  uint32_t rows, cols;
};

void bench_product(const Meter& meter, const KernelLevel& level, const PackedTernary& matrix, size_t tokens) {
  const Shape shape{matrix.rows(), matrix.cols()};
  uint32_t random = 1;
  std::vector<int8_t> x(tokens * shape.cols);
  for (int8_t& value : x) value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  std::vector<int32_t> y(tokens * shape.rows);
  const std::vector<int32_t> sums(tokens);
  const MatrixView<const int8_t> x_view(x.data(), tokens, shape.cols);
  const MatrixView<int32_t> y_view(y.data(), tokens, shape.rows);
  const double macs = static_cast<double>(shape.rows) * shape.cols * static_cast<double>(tokens);
  const double rate = best_rate(meter.seconds, macs, [&] {
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
  meter.print(line);
}

#if TERN_SIMD >= 1
// A loop of one instruction and its additions to independent sums, with the operands' roles as in the kernels:
// activations that change each round, codes that the compiler does not know.  Each sum has a pair of operands of its
// own: a product that two of them want would be computed once.
template <size_t kXs, size_t kCodes, class DotAdd>
double dot_rate_of(double seconds, double macs_per_dot, DotAdd dot_add) {
  constexpr size_t kChains = kXs * kCodes;
  constexpr int kRounds = 4096;
  static volatile int8_t source[kXs + kCodes];  // all zero, but who knows
  return best_rate(seconds, kRounds * kChains * macs_per_dot, [&] {
    simd::Vec x[kXs], codes[kCodes], sums[kChains];
    for (size_t i = 0; i < kXs; ++i) x[i] = simd::splat_i8(source[i]);
    for (size_t i = 0; i < kCodes; ++i) codes[i] = simd::splat_i8(source[kXs + i]);
    for (simd::Vec& sum : sums) sum = simd::zero();
    const simd::Vec step = simd::splat_i16(1);
    for (int round = 0; round < kRounds; ++round) {
      for (simd::Vec& v : x) v = simd::add_i16(v, step);
      [&]<size_t... i>(std::index_sequence<i...>) {
        ((sums[i] = dot_add(x[i / kCodes], codes[i % kCodes], sums[i])), ...);
      }(std::make_index_sequence<kChains>());
    }
    for (size_t i = 1; i < kChains; ++i) sums[0] = simd::add_i32(sums[0], sums[i]);
    std::array<uint64_t, 2> result;
    simd::store(result.data(), sums[0]);
    g_sink = result[0];
  });
}

// The same with codes from the cache, others in each round, as the kernels have them: almost all registers are free for
// sums, of which a one-instruction dot product wants ten or more to be two a cycle.
template <size_t kChains, class DotAdd>
double dot_rate_from_cache(double seconds, double macs_per_dot, DotAdd dot_add) {
  constexpr int kRounds = 4096, kDifferent = 32;
  static volatile int8_t source = 0;  // but who knows
  alignas(16) static int8_t codes[kDifferent][kChains][16];
  return best_rate(seconds, kRounds * kChains * macs_per_dot, [&] {
    std::memset(codes, source, sizeof codes);
    simd::Vec x = simd::splat_i8(source), sums[kChains];
    for (simd::Vec& sum : sums) sum = simd::zero();
    for (int round = 0; round < kRounds; ++round) {
      x = simd::add_i16(x, simd::splat_i16(1));
      [&]<size_t... i>(std::index_sequence<i...>) {
        ((sums[i] = dot_add(x, simd::load_aligned(codes[round % kDifferent][i]), sums[i])), ...);
      }(std::make_index_sequence<kChains>());
    }
    for (size_t i = 1; i < kChains; ++i) sums[0] = simd::add_i32(sums[0], sums[i]);
    std::array<uint64_t, 2> result;
    simd::store(result.data(), sums[0]);
    g_sink = result[0];
  });
}

// The best of several forms: a sum that waits for itself takes a dot product's latency of 4 or 5 cycles, so four chains
// as in a group of rows are too few for one instruction a cycle or two, and where one is three instructions they want
// registers of their own.
template <class DotAdd>
double dot_rate(double seconds, double macs, DotAdd dot_add) {
  const double each = seconds / 7;
  return std::max({dot_rate_of<1, 4>(each, macs, dot_add), dot_rate_of<3, 2>(each, macs, dot_add),
                   dot_rate_of<2, 4>(each, macs, dot_add), dot_rate_of<3, 3>(each, macs, dot_add),
                   dot_rate_from_cache<8>(each, macs, dot_add), dot_rate_from_cache<10>(each, macs, dot_add),
                   dot_rate_from_cache<12>(each, macs, dot_add)});
}

// Adding entries of a table in the cache, as table_matmul() does: 8 tokens and four columns each.
double table_rate(double seconds) {
  constexpr size_t kEntries = 256, kChains = 8;
  alignas(16) static int16_t table[kEntries][8];
  return best_rate(seconds, kEntries * 32.0, [&] {
    simd::Vec sums[kChains];
    for (simd::Vec& sum : sums) sum = simd::zero();
    for (size_t at = 0; at < kEntries; at += kChains) {
      [&]<size_t... i>(std::index_sequence<i...>) {
        ((sums[i] = simd::add_i16(sums[i], simd::load_aligned(table[at + i]))), ...);
      }(std::make_index_sequence<kChains>());
    }
    for (size_t i = 1; i < kChains; ++i) sums[0] = simd::add_i16(sums[0], sums[i]);
    simd::store(table[0], sums[0]);
    g_sink = static_cast<uint64_t>(table[0][0]);
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
  // One multiplication of 16 bits serves two rows (ternary/simd128.cc).
  add({"limit_dot", "level", "simd128", "gmac_per_s",
       dot_rate(seconds, 16, [](Vec x, Vec w, Vec sum) { return simd::add_i32(sum, simd::dot_i16(x, w)); })});
#if TERN_SIMD >= 2
  add({"limit_dot", "level", "relaxed", "gmac_per_s",
       dot_rate(seconds, 16, [](Vec x, Vec w, Vec sum) { return simd::dot_add_i8_i7(x, w, sum); })});
  add({"limit_dot", "level", "relaxed_pairs", "gmac_per_s",
       dot_rate(seconds, 16, [](Vec x, Vec w, Vec sum) { return simd::add_i16(sum, simd::dot_i8_i7(x, w)); })});
#endif
  add({"limit_dot", "level", "table", "gmac_per_s", table_rate(seconds)});
  add({"limit_read", "memory", "cache", "gb_per_s", read_rate(seconds, size_t{1} << 14)});
  add({"limit_read", "memory", "64 MB", "gb_per_s", read_rate(seconds, size_t{1} << 26)});
  add({"limit_read", "memory", "dram", "gb_per_s", read_rate(seconds, size_t{1} << 28)});
#else
  (void)seconds;
#endif
}

void Limits::print(const Meter& meter) const {
  for (const Limit& limit : limits_) {
    JsonWriter line;
    line.open('{')
        .key("bench")
        .text(limit.bench)
        .key(limit.key)
        .text(limit.name)
        .key(limit.unit)
        .real(limit.rate / 1e9);
    meter.print(line);
  }
}

void bench_products(const Meter& meter) {
  constexpr size_t kTokens = 32;
  for (const Shape shape : {Shape{512, 512}, {2048, 512}, {512, 1536}, {2048, 2048}, {8192, 4096}}) {
    const PackedTernary matrix = random_matrix(shape.rows, shape.cols);
    for (const KernelLevel& level : kernel_levels()) {
      // The definition is slow whatever the shape.
      if (!level.is_exact() || (is_definition(level) && shape.rows > 512)) continue;
      bench_product(meter, level, matrix, 1);
      bench_product(meter, level, matrix, kTokens);
    }
  }
  // The matrices of BitNet b1.58 2B4T: query and output, key and value, gate and up, down.
  for (const Shape shape : {Shape{2560, 2560}, {640, 2560}, {6912, 2560}, {2560, 6912}}) {
    const PackedTernary matrix = random_matrix(shape.rows, shape.cols);
    bench_product(meter, *dispatch().level, matrix, 1);
    bench_product(meter, *dispatch().level, matrix, kTokens);
  }
}

void bench_dram(const Meter& meter) {
  const PackedTernary matrix = random_matrix(16384, 16384);
  for (const KernelLevel& level : kernel_levels()) {
    if (level.is_exact() && !is_definition(level)) bench_product(meter, level, matrix, 1);
  }
}

void bench_activations(const Meter& meter) {
  constexpr uint32_t cols = 512;
  uint32_t random = 1;
  std::vector<Act> x(cols);
  std::vector<NormWeight> w(cols);
  for (Act& a : x) a.raw = static_cast<int32_t>(next_random(random)) - 32768;
  for (NormWeight& a : w) a.raw = static_cast<int32_t>(next_random(random)) + 32768;
  std::vector<int8_t> codes(padded_cols(cols));
  const double rate = best_rate(meter.seconds, cols, [&] {
    const Scale rms = root_mean_square(x, Scale::from_integer(1, -20));
    g_sink = static_cast<uint64_t>(quantize_activations(x, w, rms, codes).sum);
  });
  JsonWriter line;
  line.open('{').key("bench").text("quantize_activations").key("cols").unsigned_integer(cols);
  line.key("million_values_per_s").real(rate / 1e6);
  meter.print(line);
}

namespace {

// One row after the other, as random as those of random_matrix(): `set` gets a row's number and codes.
template <class Set>
void fill_rows(const PackedTernary& from, Set set) {
  std::vector<uint8_t> codes(from.cols());
  for (uint32_t r = 0; r < from.rows(); ++r) {
    from.unpack_row(r, codes);
    set(r, codes);
  }
}

// The same matrix several times over, a product with each in turn: what is read comes from memory although one product
// is over before another program wants the processor.
template <class Matrix>
class Copies {
 public:
  Copies(Matrix matrix, size_t count) : all_(count, std::move(matrix)) {}
  Matrix& next() { return all_[next_++ % all_.size()]; }

 private:
  std::vector<Matrix> all_;
  size_t next_ = 0;
};

template <class Matrix>
Copies<Matrix> copies_of(const PackedTernary& from, size_t count) {
  Matrix matrix(from.rows(), from.cols());
  fill_rows(from, [&](uint32_t r, auto& codes) { matrix.set_row(r, codes); });
  return {std::move(matrix), count};
}

// Ours and all others on one matrix, or on copies of it; each is checked.
void bench_lab_shape(const Meter& meter, const Shape shape, size_t count) {
  const PackedTernary matrix = random_matrix(shape.rows, shape.cols);
  uint32_t random = 1;
  int32_t sum = 0;
  std::vector<int8_t> x(shape.cols);
  for (int8_t& value : x) sum += value = static_cast<int8_t>(static_cast<int>(next_random(random) % 255) - 127);
  std::vector<int32_t> expected(shape.rows), y(shape.rows);
  kernel_levels()[0].matvec(matrix.view(), x.data(), sum, expected.data());

  const auto measure = [&](const char* name, auto matvec) {
    const double rate = best_rate(meter.seconds, static_cast<double>(shape.rows) * shape.cols, [&] {
      matvec();
      g_sink = static_cast<uint64_t>(y[0]);
    });
    TERN_CHECK(y == expected);
    JsonWriter line;
    line.open('{').key("bench").text("lab_matvec").key("kernel").text(name).key("rows").unsigned_integer(shape.rows);
    line.key("cols").unsigned_integer(shape.cols).key("copies").unsigned_integer(count);
    line.key("gmac_per_s").real(rate / 1e9);
    meter.print(line);
  };
  {
    Copies<PackedTernary> packed(matrix, count);
    for (const KernelLevel& level : kernel_levels().subspan(1)) {
      if (level.is_exact()) measure(level.name, [&] { level.matvec(packed.next().view(), x.data(), sum, y.data()); });
    }
#if TERN_SIMD >= 1
    measure("one_row_dots", [&] { lab::one_row_dots(packed.next().view(), x, sum, y); });
#endif
  }
  {
    [[maybe_unused]] auto planes = copies_of<lab::RotorPlanes>(matrix, count);
#if TERN_SIMD >= 1
    measure("planes_simd128", [&] { planes.next().matvec_simd(x, sum, y); });
#endif
#if TERN_SIMD >= 2
    if (relaxed_dot_is_exact()) measure("planes_relaxed", [&] { planes.next().matvec_relaxed(x, sum, y); });
    if (relaxed_dot_takes_unsigned()) measure("planes_nested", [&] { planes.next().matvec_nested(x, sum, y); });
#endif
  }
  {
    [[maybe_unused]] auto digits = copies_of<lab::BaseThree>(matrix, count);
#if TERN_SIMD >= 1
    measure("base3_simd128", [&] { digits.next().matvec_simd(x, sum, y); });
#endif
#if TERN_SIMD >= 2
    if (relaxed_dot_is_exact()) measure("base3_relaxed", [&] { digits.next().matvec_relaxed(x, sum, y); });
#endif
  }
  auto bits = copies_of<lab::BitPlanes>(matrix, count);
  measure("bit_counts_64", [&] { bits.next().matvec(x, y); });
#if TERN_SIMD >= 1
  measure("bit_counts_128", [&] { bits.next().matvec_simd(x, y); });
#endif
}

}  // namespace

void bench_lab(const Meter& meter) {
  for (const uint32_t cols : {512u, 2048u, 8192u}) {
    bench_lab_shape(meter, {(1u << 21) / cols, cols}, 1);  // 0.5 MB of two bits
  }
}

void bench_lab_dram(const Meter& meter) {
  for (const uint32_t cols : {512u, 2048u, 8192u}) {
    bench_lab_shape(meter, {(1u << 24) / cols, cols}, 16);  // 16 times 4 MB
  }
}

}  // namespace tern
