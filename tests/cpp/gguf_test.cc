// gguf_test.cc: any bytes give a checked model or an error that says what is wrong; never a crash, never half a model.
#include "format/gguf.h"

#include <gtest/gtest.h>

#include <map>

#include "tiny_model.h"

namespace tern {
namespace {

using test::GgufWriter;
using test::HeaderField;
using test::TinyModel;
using test::TinySpec;

TinySpec small_spec() { return {.layers = 1, .hidden = 16, .recurrent = 16, .feed_forward = 24}; }

/// Keeps everything the reader delivers.
class Collector : public GgufSink {
 public:
  Result<void> on_header(const GgufHeader& header) override {
    headers.push_back(header);
    return {};
  }
  Result<void> on_row(size_t tensor, uint64_t row, std::span<const uint8_t> bytes) override {
    const GgufTensor& info = headers.at(0).tensors.at(tensor);
    EXPECT_EQ(bytes.size(), info.row_bytes);
    EXPECT_EQ(row * info.row_bytes, data[info.name].size());
    data[info.name].insert(data[info.name].end(), bytes.begin(), bytes.end());
    return {};
  }
  std::vector<GgufHeader> headers;
  std::map<std::string, std::vector<uint8_t>> data;
};

Result<void> read(std::span<const uint8_t> file, GgufSink& sink, size_t chunk = SIZE_MAX) {
  GgufReader reader(sink);
  while (!file.empty()) {
    const size_t size = std::min(chunk, file.size());
    Result<void> pushed = reader.push(file.first(size));
    if (!pushed.ok()) return pushed;
    file = file.subspan(size);
  }
  return reader.finish();
}

/// The error of a file that must not load, or "" (and a failure) if it does.
std::string error_of(std::span<const uint8_t> file) {
  const Result<std::shared_ptr<const Model>> model = test::load(file);
  EXPECT_FALSE(model.ok());
  return model.ok() ? "" : model.error().message;
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

TEST(GgufReader, DeliversEveryRowWhateverTheChunkSize) {
  TinyModel tiny(small_spec());
  for (const size_t chunk : {size_t{1}, size_t{2}, size_t{7}, size_t{54}, size_t{1000}, SIZE_MAX}) {
    Collector sink;
    const Result<void> result = read(tiny.file, sink, chunk);
    ASSERT_TRUE(result.ok()) << result.error().message;
    ASSERT_EQ(sink.headers.size(), 1u);
    EXPECT_EQ(sink.headers[0].file_bytes, tiny.file.size());
    for (const GgufWriter::Tensor& tensor : tiny.writer.tensors()) EXPECT_EQ(sink.data[tensor.name], tensor.bytes);
  }
}

TEST(GgufReader, KeepsEveryMetadataTypeAndShortArraysOfNumbers) {
  GgufWriter writer;
  writer.scalar("a.u8", GgufType::kU8, 200, 1);
  writer.scalar("a.i8", GgufType::kI8, 0xfe, 1);
  writer.scalar("a.u16", GgufType::kU16, 60000, 2);
  writer.scalar("a.i16", GgufType::kI16, 0xfffe, 2);
  writer.scalar("a.u32", GgufType::kU32, 4000000000, 4);
  writer.scalar("a.i32", GgufType::kI32, 0xfffffffe, 4);
  writer.scalar("a.f32", GgufType::kF32, 0x3f800000, 4);
  writer.scalar("a.bool", GgufType::kBool, 1, 1);
  writer.text("a.text", "hello");
  writer.scalar("a.u64", GgufType::kU64, uint64_t{1} << 63, 8);
  writer.scalar("a.i64", GgufType::kI64, ~uint64_t{1}, 8);
  writer.scalar("a.f64", GgufType::kF64, 0x3ff0000000000000, 8);
  writer.array("a.numbers", GgufType::kU16, 3, {1, 0, 2, 0, 3, 0});
  std::vector<uint8_t> texts;
  for (const std::string text : {"one", "", "three"}) {
    GgufWriter::put(texts, text.size(), 8);
    texts.insert(texts.end(), text.begin(), text.end());
  }
  writer.array("a.texts", GgufType::kString, 3, texts);
  writer.array("a.empty", GgufType::kString, 0, {});
  writer.array("a.signed", GgufType::kI8, 2, {1, 0xff});
  writer.array("a.longest", GgufType::kU32, GgufLimits::kKeptArrayItems,
               std::vector<uint8_t>(4 * GgufLimits::kKeptArrayItems, 1));
  writer.array("a.long", GgufType::kU8, GgufLimits::kKeptArrayItems + 1,
               std::vector<uint8_t>(GgufLimits::kKeptArrayItems + 1, 1));
  writer.text("a.last", "z");
  for (const size_t chunk : {size_t{1}, SIZE_MAX}) {
    Collector sink;
    std::vector<uint8_t> file = writer.build();
    file.resize((file.size() + 31) / 32 * 32);
    const Result<void> result = read(file, sink, chunk);
    ASSERT_TRUE(result.ok()) << result.error().message;
    const GgufHeader& header = sink.headers.at(0);
    const auto bits = [&](const char* key) { return header.find(key)->bits; };
    EXPECT_EQ(bits("a.u8"), 200u);
    EXPECT_EQ(bits("a.i8"), ~uint64_t{1});
    EXPECT_EQ(bits("a.u16"), 60000u);
    EXPECT_EQ(bits("a.i16"), ~uint64_t{1});
    EXPECT_EQ(bits("a.u32"), 4000000000u);
    EXPECT_EQ(bits("a.i32"), ~uint64_t{1});
    EXPECT_EQ(bits("a.f32"), 0x3f800000u);
    EXPECT_EQ(bits("a.bool"), 1u);
    EXPECT_EQ(header.find("a.text")->text, "hello");
    EXPECT_EQ(bits("a.u64"), uint64_t{1} << 63);
    EXPECT_EQ(bits("a.i64"), ~uint64_t{1});
    EXPECT_EQ(bits("a.f64"), 0x3ff0000000000000u);
    EXPECT_EQ(bits("a.numbers"), 3u);
    const auto items = [&](const char* key) { return header.find(key)->items; };
    EXPECT_EQ(header.find("a.numbers")->item_type, GgufType::kU16);
    EXPECT_EQ(items("a.numbers"), (std::vector<uint64_t>{1, 2, 3}));
    EXPECT_EQ(items("a.signed"), (std::vector<uint64_t>{1, ~uint64_t{0}}));
    EXPECT_EQ(items("a.longest"), std::vector<uint64_t>(GgufLimits::kKeptArrayItems, 0x01010101));
    EXPECT_EQ(bits("a.long"), GgufLimits::kKeptArrayItems + 1);
    EXPECT_EQ(items("a.long"), std::vector<uint64_t>());
    EXPECT_EQ(bits("a.texts"), 3u);
    EXPECT_EQ(header.find("a.texts")->item_type, GgufType::kString);
    EXPECT_EQ(header.find("a.last")->text, "z");
    EXPECT_EQ(header.find("a.missing"), nullptr);
  }
}

TEST(GgufReader, RefusesAFileThatEndsAnywhereInsideTheHeader) {
  TinyModel tiny(small_spec());
  for (size_t size = 1; size < tiny.writer.header_bytes(); ++size) {
    EXPECT_CONTAINS(error_of(std::span(tiny.file).first(size)), "truncated");
  }
}

TEST(GgufReader, RefusesAFileThatEndsAnywhereInsideTheData) {
  TinyModel tiny(small_spec());
  for (size_t size = tiny.writer.header_bytes(); size < tiny.file.size(); size += 101) {
    const std::string message = error_of(std::span(tiny.file).first(size));
    EXPECT_CONTAINS(message, "truncated");
  }
  EXPECT_CONTAINS(error_of(std::span(tiny.file).first(tiny.file.size() - 1)), "output.in_norm.weight");
}

TEST(GgufReader, RefusesEveryHeaderFieldWhenItIsCorrupted) {
  const TinyModel tiny(small_spec());
  size_t broken = 0;
  for (const HeaderField& field : tiny.writer.fields()) {
    if (field.free) continue;
    for (const int change : {0, 1, 2, 3}) {
      std::vector<uint8_t> file = tiny.file;
      for (size_t b = 0; b < field.size; ++b) {
        uint8_t& byte = file[field.at + b];
        if (change == 0) byte = 0xff;
        if (change == 1) byte = 0;
        if (change == 2 && b == 0) byte = static_cast<uint8_t>(byte + 1);
        if (change == 3 && b == field.size - 1) byte ^= 0x80;
      }
      if (file == tiny.file) continue;
      // Two settings have other valid values: an epsilon, and an alignment that gives the same layout.
      if (field.what.starts_with("hgrnbit.norm_rms_epsilon value") && change == 2) continue;
      const Result<std::shared_ptr<const Model>> model = test::load(file);
      EXPECT_FALSE(model.ok()) << field.what << ", change " << change;
      if (model.ok()) continue;
      EXPECT_CONTAINS(model.error().message, "expected");
      ++broken;
    }
  }
  EXPECT_GT(broken, 500u);
}

TEST(GgufReader, SurvivesRandomDamage) {
  const TinyModel tiny(small_spec());
  test::Random random(7);
  size_t refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint8_t> file = tiny.file;
    for (uint64_t n = 1 + random.below(4); n > 0; --n) {
      file[random.below(round % 2 == 0 ? tiny.writer.header_bytes() : file.size())] =
          static_cast<uint8_t>(random.next());
    }
    refused += !test::load(file).ok();
  }
  EXPECT_GT(refused, 1000u);
}

TEST(GgufReader, SaysWhichLimitAHugeCountBreaks) {
  const auto with_start = [](uint64_t tensors, uint64_t metadata) {
    std::vector<uint8_t> file;
    GgufWriter::put(file, 0x46554747, 4);
    GgufWriter::put(file, 3, 4);
    GgufWriter::put(file, tensors, 8);
    GgufWriter::put(file, metadata, 8);
    return file;
  };
  EXPECT_CONTAINS(error_of(with_start(UINT64_MAX, 1)), "tensor count");
  EXPECT_CONTAINS(error_of(with_start(1, UINT64_MAX)), "metadata count");
  std::vector<uint8_t> file = with_start(0, 1);
  GgufWriter::put(file, uint64_t{1} << 62, 8);
  EXPECT_CONTAINS(error_of(file), "key length");
}

TEST(GgufReader, SaysWhatAFileIsThatIsSomethingElse) {
  using namespace std::string_literals;
  const std::pair<std::string, const char*> files[] = {
      {"<!DOCTYPE html><html><head></head></html>", "a web page"},
      {"\xEF\xBB\xBF\n <HTML>\n<body>not found</body></HTML>", "a web page"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", "a web page"},
      {"{\"error\":\"Repository not found\"}", "JSON"},
      {"{}", "JSON"},
      {" [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]", "JSON"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 872064\n", "run `git lfs pull`"},
      {"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03GGUF and more of it"s, "unpack it first"},
      {"\x1f\x8b\x08"s, "unpack it first"},
      {"\x28\xb5\x2f\xfd and something that was packed by zstd", "unpack it first"},
      {"PK\x03\x04 and something in it that PyTorch wrote", "a PyTorch checkpoint"},
      {"\x10\x02\x00\x00\x00\x00\x00\x00{\"__metadata__\":{}}      "s, "a safetensors file"},
      {"tjgg\x03\x00\x00\x00 and a model from 2023, as long as it takes"s, "older than GGUF"},
      {"", "the file is empty"},
      {"MZ\x90\x00 a program, of which nothing is known here"s, "the bytes 4d 5a 90 00"},
      {"\x01", "the bytes 01"},
  };
  for (const auto& [file, part] : files) {
    for (const size_t chunk : {size_t{1}, SIZE_MAX}) {
      Collector sink;
      const Result<void> refused = read(test::bytes_of(file), sink, chunk);
      ASSERT_FALSE(refused.ok());
      EXPECT_CONTAINS(refused.error().message, "expected a GGUF file, which begins with the bytes \"GGUF\", found ");
      EXPECT_CONTAINS(refused.error().message, part);
    }
  }
}

TEST(GgufReader, NamesAnotherByteOrderAnotherVersionAndASplitModel) {
  TinyModel tiny(small_spec());
  std::reverse(tiny.file.begin() + 4, tiny.file.begin() + 8);
  EXPECT_CONTAINS(error_of(tiny.file), "big-endian");
  TinyModel old(small_spec());
  old.file[4] = 2;
  EXPECT_CONTAINS(error_of(old.file), "found version 2");
  TinyModel part(small_spec());
  part.writer.scalar("split.no", GgufType::kU16, 1, 2);
  part.writer.scalar("split.count", GgufType::kU16, 3, 2);
  part.writer.tensors().pop_back();
  EXPECT_CONTAINS(error_of(part.writer.build()), "part 2 of 3 of a split one");
  TinyModel whole(small_spec());
  whole.writer.scalar("split.count", GgufType::kU16, 1, 2);
  EXPECT_TRUE(test::load(whole.writer.build()).ok());
}

TEST(GgufReader, SkipsArraysInArraysOfKeysItDoesNotKnow) {
  const auto put_array = [](std::vector<uint8_t>& out, GgufType type, uint64_t items) {
    GgufWriter::put(out, static_cast<uint32_t>(type), 4);
    GgufWriter::put(out, items, 8);
  };
  std::vector<uint8_t> nested;  // [[1, 2], [], ["ab", ""], [[3.0]], [[]]]
  put_array(nested, GgufType::kU16, 2);
  GgufWriter::put(nested, 0x20001, 4);
  put_array(nested, GgufType::kU8, 0);
  put_array(nested, GgufType::kString, 2);
  GgufWriter::put(nested, 2, 8);
  GgufWriter::put(nested, 0x6261, 2);
  GgufWriter::put(nested, 0, 8);
  put_array(nested, GgufType::kArray, 1);
  put_array(nested, GgufType::kF64, 1);
  GgufWriter::put(nested, 3, 8);
  put_array(nested, GgufType::kArray, 1);
  put_array(nested, GgufType::kArray, 0);
  TinyModel tiny(small_spec());
  tiny.writer.array("custom.nested", GgufType::kArray, 5, nested);
  tiny.writer.array("custom.none", GgufType::kArray, 0, {});
  tiny.writer.u32("custom.after", 7);
  tiny.writer.checksum();
  const std::vector<uint8_t> file = tiny.writer.build();
  for (const size_t chunk : {size_t{1}, size_t{5}, SIZE_MAX}) {
    Collector sink;
    const Result<void> result = read(file, sink, chunk);
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(sink.headers[0].find("custom.nested")->bits, 5u);
    EXPECT_EQ(sink.headers[0].find("custom.after")->bits, 7u);
  }

  std::vector<uint8_t> deep;
  for (int n = 0; n < 100; ++n) put_array(deep, GgufType::kArray, 1);
  TinyModel too_deep(small_spec());
  too_deep.writer.array("custom.deep", GgufType::kArray, 1, deep);
  EXPECT_CONTAINS(error_of(too_deep.writer.build()), "a depth of at most 8");
  TinyModel unknown(small_spec());
  std::vector<uint8_t> bytes;
  put_array(bytes, static_cast<GgufType>(13), 1);
  unknown.writer.array("custom.unknown", GgufType::kArray, 1, bytes);
  EXPECT_CONTAINS(error_of(unknown.writer.build()), "expected an item type from 0 to 12, found 13");
}

// ---- checksum -------------------------------------------------------------------------------------------------------

TEST(Checksum, OfAFileThatIsWholeIsRightHoweverItComes) {
  TinyModel tiny(small_spec());
  EXPECT_FALSE(test::load_or_fail(tiny.file)->info().checked);
  tiny.writer.checksum();
  tiny.writer.text("general.after", "keys may follow");
  const std::vector<uint8_t> file = tiny.writer.build();
  for (const size_t chunk : {size_t{1}, size_t{64}, size_t{1000}, SIZE_MAX}) {
    Collector sink;
    const Result<void> result = read(file, sink, chunk);
    EXPECT_TRUE(result.ok()) << result.error().message;
  }
  EXPECT_TRUE(test::load_or_fail(file)->info().checked);
}

TEST(Checksum, RefusesEveryFlippedBitAndTrailingBytes) {
  TinyModel tiny(small_spec());
  tiny.writer.checksum();
  const std::vector<uint8_t> file = tiny.writer.build();
  const std::string key = "tern.sha256";  // a file whose key has another name has no checksum
  const auto named = static_cast<size_t>(std::search(file.begin(), file.end(), key.begin(), key.end()) - file.begin());
  for (size_t at = 0; at < file.size(); at += at < tiny.writer.header_bytes() ? 1u : 17u) {
    if (at >= named && at < named + key.size()) continue;
    std::vector<uint8_t> damaged = file;
    damaged[at] ^= static_cast<uint8_t>(1 << at % 8);
    EXPECT_FALSE(test::load(damaged).ok()) << "byte " << at;
  }
  std::vector<uint8_t> damaged = file;
  damaged[file.size() - 1] ^= 1;
  damaged[tiny.writer.header_bytes() + 300] ^= 1;
  EXPECT_CONTAINS(error_of(damaged), "damaged");
  for (const size_t more : {1u, 31u, 32u, 5000u}) {
    std::vector<uint8_t> longer = file;
    longer.insert(longer.end(), more, 0);
    EXPECT_FALSE(test::load(longer).ok()) << more;
  }
}

TEST(Checksum, MustBe64LowerCaseDigits) {
  for (const std::string& value : {std::string(63, '0'), std::string(65, '0'), std::string(64, 'A'), std::string()}) {
    TinyModel tiny(small_spec());
    tiny.writer.text("tern.sha256", value);
    EXPECT_CONTAINS(error_of(tiny.writer.build()), "expected 64 digits");
  }
  TinyModel number(small_spec());
  number.writer.u32("tern.sha256", 5);
  EXPECT_CONTAINS(error_of(number.writer.build()), "expected 64 digits");
}

TEST(GgufReader, RefusesDuplicatesGapsAndOverlaps) {
  {
    TinyModel tiny(small_spec());
    tiny.writer.u32("general.alignment", 32);
    EXPECT_CONTAINS(error_of(tiny.writer.build()), "general.alignment");
  }
  {
    TinyModel tiny(small_spec());
    tiny.writer.tensors()[1].name = tiny.writer.tensors()[0].name;
    EXPECT_CONTAINS(error_of(tiny.writer.build()), "expected each name once");
  }
  for (const uint8_t change :
       {uint8_t{32}, uint8_t{224}}) {  // a gap before the second tensor, an overlap with the first
    TinyModel tiny(small_spec());
    for (const HeaderField& field : tiny.writer.fields()) {
      if (field.what == "token_embd.scale offset")
        tiny.file[field.at] = static_cast<uint8_t>(tiny.file[field.at] + change);
    }
    EXPECT_CONTAINS(error_of(tiny.file), "expected its data at offset");
  }
}

TEST(GgufReader, AcceptsTensorsInAnyOrder) {
  TinyModel tiny(small_spec());
  const std::shared_ptr<const Model> model = test::load_or_fail(tiny.file);
  std::reverse(tiny.writer.tensors().begin(), tiny.writer.tensors().end());
  const std::shared_ptr<const Model> reversed = test::load_or_fail(tiny.writer.build());
  Session a(model);
  Session b(reversed);
  EXPECT_TRUE(std::ranges::equal(a.logits(), b.logits()));
  EXPECT_NE(model->info().fingerprint, reversed->info().fingerprint);
}

TEST(GgufReader, AcceptsPaddingAtTheEndButNotMore) {
  TinyModel tiny(small_spec());
  std::vector<uint8_t> file = tiny.file;
  file.resize(file.size() + 31);
  EXPECT_TRUE(test::load(file).ok());
  EXPECT_EQ(test::load_or_fail(file)->info().fingerprint, test::load_or_fail(tiny.file)->info().fingerprint);
  file.resize(file.size() + 1);
  EXPECT_CONTAINS(error_of(file), "end of file");
  file.resize(tiny.file.size());
  file.push_back(1);
  EXPECT_CONTAINS(error_of(file), "found other bytes");
}

// ---- tensor contents ------------------------------------------------------------------------------------------------

GgufWriter::Tensor& tensor_of(TinyModel& tiny, const std::string& name) {
  for (GgufWriter::Tensor& tensor : tiny.writer.tensors()) {
    if (tensor.name == name) return tensor;
  }
  ADD_FAILURE() << name;
  return tiny.writer.tensors()[0];
}

TEST(TernaryTensor, Tq1ReadsBackEveryByteValueAndRefusesTheRest) {
  size_t valid = 0;
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::vector<uint8_t> block(54, 0x80);  // 0x80 = 1,1,1,1,1 (five zero weights), also for the four-trit bytes below
    std::fill(block.begin() + 48, block.begin() + 52, static_cast<uint8_t>((120u * 256 + 242) / 243));
    block[52] = 0;
    block[53] = 0x3c;
    block[5] = static_cast<uint8_t>(byte);
    std::vector<uint8_t> codes(256);
    std::optional<uint16_t> scale;
    const Result<void> result = decode_ternary(GgmlType::kTQ1_0, block, codes, scale);
    if (!result.ok()) continue;
    ++valid;
    EXPECT_EQ(scale, 0x3c00);
    unsigned expected = byte;
    for (size_t k = 0; k < 5; ++k) {  // ggml's own decoding: multiply by 3^k mod 256, then the trit is the carry
      EXPECT_EQ(codes[k * 32 + 5], expected * 3 >> 8);
      expected = expected * 3 & 0xff;
    }
  }
  EXPECT_EQ(valid, 243u);
}

TEST(TernaryTensor, RefusesACodeThatIsNotTernary) {
  for (const GgmlType type : {GgmlType::kTQ1_0, GgmlType::kTQ2_0}) {
    TinySpec spec = small_spec();
    spec.ternary = type;
    TinyModel tiny(spec);
    tensor_of(tiny, "blk.0.attn_f.weight").bytes[3] = type == GgmlType::kTQ1_0 ? 0x14 : 0x03;
    const std::string message = error_of(tiny.writer.build());
    EXPECT_CONTAINS(message, "blk.0.attn_f.weight");
    EXPECT_CONTAINS(message, "not -1, 0 or 1");
  }
}

TEST(TernaryTensor, RefusesScalesThatDifferOrAreNotFinite) {
  const auto message_with = [](size_t row, uint16_t bits) {
    TinyModel tiny(small_spec());
    std::vector<uint8_t>& bytes = tensor_of(tiny, "blk.0.attn_o.weight").bytes;
    bytes[row * 54 + 52] = static_cast<uint8_t>(bits);
    bytes[row * 54 + 53] = static_cast<uint8_t>(bits >> 8);
    return error_of(tiny.writer.build());
  };
  EXPECT_CONTAINS(message_with(7, 0x3c00), "blk.0.attn_o.weight");
  EXPECT_CONTAINS(message_with(7, 0x3c00), "row 7");
  EXPECT_CONTAINS(message_with(7, 0x3c00), "one scale for the whole matrix");
  for (const uint16_t bits : {uint16_t{0x7c00}, uint16_t{0x7e00}, uint16_t{0xbc00}, uint16_t{0xffff}}) {
    EXPECT_CONTAINS(message_with(0, bits), "finite scale");
  }
}

TEST(TernaryTensor, RefusesWeightsInThePadding) {
  TinySpec spec = small_spec();
  spec.ternary = GgmlType::kTQ2_0;
  TinyModel tiny(spec);
  tensor_of(tiny, "output.weight").bytes[20] = 0x56;  // column 20 of the 16: code 2 instead of 1
  EXPECT_CONTAINS(error_of(tiny.writer.build()), "padding after column 16");
}

TEST(FloatTensor, RefusesNumbersThatDoNotFit) {
  for (const uint32_t bits : {0x7f800000u, 0xff800000u, 0x7fc00000u, 0x47000000u, 0xc7800000u}) {
    TinyModel tiny(small_spec());
    std::vector<uint8_t>& bytes = tensor_of(tiny, "blk.0.ffn_norm.weight").bytes;
    for (size_t b = 0; b < 4; ++b) bytes[8 + b] = static_cast<uint8_t>(bits >> (8 * b));
    const std::string message = error_of(tiny.writer.build());
    EXPECT_CONTAINS(message, "blk.0.ffn_norm.weight");
    EXPECT_CONTAINS(message, "column 2");
  }
}

TEST(FloatTensor, RefusesBoundsOutsideZeroToOne) {
  for (const uint32_t bits : {0x3f800000u, 0xbdcccccdu}) {  // 1, -0.1
    TinyModel tiny(small_spec());
    std::vector<uint8_t>& bytes = tensor_of(tiny, "blk.0.lower_bound").bytes;
    for (size_t b = 0; b < 4; ++b) bytes[b] = static_cast<uint8_t>(bits >> (8 * b));
    EXPECT_CONTAINS(error_of(tiny.writer.build()), "blk.0.lower_bound");
  }
}

// ---- directory ------------------------------------------------------------------------------------------------------

TEST(SuperFloat, ReadsEveryNumberOfEveryWidth) {
  for (uint32_t bits = 3; bits <= 16; ++bits) {
    const auto type = static_cast<GgmlType>(1000 + bits);
    ASSERT_EQ(superfloat_bits(type), bits);
    EXPECT_EQ(traits_of(type).bytes, bits);
    EXPECT_EQ(traits_of(type).name, "SF" + std::to_string(bits));
    const uint32_t sign = 1u << (bits - 1), count = 2 * sign;
    std::vector<uint8_t> row(size_t{count} / 8 * bits);
    for (uint32_t word = 0; word < count; ++word) {  // bit by bit, the lowest first
      for (uint32_t b = 0; b < bits; ++b) {
        const size_t at = size_t{word} * bits + b;
        row[at / 8] = static_cast<uint8_t>(row[at / 8] | (word >> b & 1) << (at % 8));
      }
    }
    std::vector<int32_t> numbers(count);
    decode_superfloat(type, row, numbers);
    for (uint32_t word = 0; word < count; ++word) {
      const auto magnitude = static_cast<int32_t>(word % sign);
      ASSERT_EQ(numbers[word], word < sign ? magnitude : -magnitude) << "SF" << bits << " word " << word;
    }
  }
  EXPECT_EQ(superfloat_bits(GgmlType::kI8), 0u);
  EXPECT_EQ(traits_of(1002u), nullptr);
  EXPECT_EQ(traits_of(1017u), nullptr);
}

TEST(TensorDirectory, MustHoldExactlyTheArchitecturesTensors) {
  TinySpec spec = small_spec();
  spec.layers = 2;  // one layer without its lower bound would be a model without lower bounds
  const size_t count = TinyModel(spec).writer.tensors().size();
  for (size_t t = 0; t < count; ++t) {
    TinyModel tiny(spec);
    const std::string name = tiny.writer.tensors()[t].name;
    tiny.writer.tensors().erase(tiny.writer.tensors().begin() + static_cast<std::ptrdiff_t>(t));
    const std::string message = error_of(tiny.writer.build());
    EXPECT_CONTAINS(message, name);
    EXPECT_CONTAINS(message, "found none");
  }
  TinyModel tiny(small_spec());
  tiny.writer.tensor("surprise.weight", GgmlType::kF32, {1}, {0, 0, 0, 0});
  EXPECT_CONTAINS(error_of(tiny.writer.build()), "surprise.weight");
}

TEST(TensorDirectory, SaysWhichShapeAndTypeWereExpected) {
  {
    TinyModel tiny(small_spec());
    GgufWriter::Tensor& tensor = tensor_of(tiny, "output_norm.weight");
    tensor.shape = {17};
    tensor.bytes.resize(17 * 4);
    EXPECT_CONTAINS(error_of(tiny.writer.build()),
                    "\"output_norm.weight\": expected 16 columns and 1 rows, found 17 and 1");
  }
  {
    TinyModel tiny(small_spec());
    tensor_of(tiny, "blk.0.attn_i.in_norm.weight").type = GgmlType::kI8;
    tensor_of(tiny, "blk.0.attn_i.in_norm.weight").bytes.resize(16);
    EXPECT_CONTAINS(error_of(tiny.writer.build()), "expected type SF3 to SF16, F32 or F16, found I8");
  }
}

TEST(Settings, MustBeInRange) {
  for (const auto& [key, value] : std::map<std::string, uint32_t>{{"hgrnbit.block_count", 0},
                                                                  {"hgrnbit.embedding_length", 1 << 20},
                                                                  {"hgrnbit.vocab_size", 32000},
                                                                  {"hgrnbit.conv_kernel", 1},
                                                                  {"hgrnbit.conv_kernel", 9},
                                                                  {"tokenizer.ggml.bos_token_id", 1}}) {
    TinyModel tiny(small_spec());
    for (const HeaderField& field : tiny.writer.fields()) {
      if (field.what != key + " value") continue;
      for (size_t b = 0; b < 4; ++b) tiny.file[field.at + b] = static_cast<uint8_t>(value >> (8 * b));
    }
    EXPECT_CONTAINS(error_of(tiny.file), key);
  }
}

TEST(Settings, ShowsNumbersAsNumbers) {
  for (const auto& [bits, text] : std::map<uint32_t, std::string>{{0x3f800000, "found 1"},
                                                                  {0x7fc00000, "found not a number"},
                                                                  {0xff800000, "found -infinity"},
                                                                  {0xbdcccccd, "found -0.1"},
                                                                  {0x80000000, "found 0"},
                                                                  {0x7f7fffff, "found 340282e33"}}) {
    TinyModel tiny(small_spec());
    for (const HeaderField& field : tiny.writer.fields()) {
      if (field.what != "hgrnbit.norm_rms_epsilon value") continue;
      for (size_t b = 0; b < 4; ++b) tiny.file[field.at + b] = static_cast<uint8_t>(bits >> (8 * b));
    }
    const std::string message = error_of(tiny.file);
    EXPECT_TRUE(message.ends_with(text)) << message;
  }
}

TEST(ModelLoader, StaysFailedAndDeliversOnce) {
  ModelLoader broken;
  EXPECT_FALSE(broken.push(test::bytes_of("this is not a model file")).ok());
  EXPECT_FALSE(broken.push(test::bytes_of("GGUF")).ok());
  EXPECT_FALSE(broken.finish().ok());

  const TinyModel tiny(small_spec());
  ModelLoader loader;
  EXPECT_EQ(loader.bytes_expected(), 0u);
  ASSERT_TRUE(loader.push(tiny.file).ok());
  EXPECT_EQ(loader.bytes_expected(), tiny.file.size());
  EXPECT_TRUE(loader.finish().ok());
  const Result<std::shared_ptr<const Model>> again = loader.finish();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::kBadState);
}

}  // namespace
}  // namespace tern
