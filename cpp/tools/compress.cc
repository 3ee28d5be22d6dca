// compress.cc: tern compress and decompress: files as the choices of a model, in the container of models/FORMAT.md.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/codec.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/threads.h"

namespace tern {
namespace {

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF: it takes the same one to get the data back"},
    {"--in", "FILE", "what to read"},
    {"--out", "FILE", "where to write; else standard output"},
    kThreadsOption,
};

constexpr std::string_view kMagic = "TNC\x01";
constexpr size_t kBlock = 1 << 15;            // bytes of data that are coded together
constexpr size_t kMostCode = 4 * kBlock + 8;  // of a block: a token takes 32 bits at most

using Bytes = std::vector<uint8_t>;

/// CRC-32 as gzip has it.
class Checksum {
 public:
  void push(std::span<const uint8_t> data) {
    for (const uint8_t byte : data) {
      crc_ ^= byte;
      for (int bit = 0; bit < 8; ++bit) crc_ = (crc_ >> 1) ^ ((crc_ & 1) != 0 ? 0xedb88320 : 0);
    }
    length_ += data.size();
  }
  uint64_t length() const { return length_; }
  uint32_t value() const { return ~crc_; }

 private:
  uint32_t crc_ = 0xffffffff;
  uint64_t length_ = 0;
};

void put(Output& out, uint64_t value, size_t bytes) {
  for (size_t n = 0; n < bytes; ++n) {
    const char byte = static_cast<char>(value >> (8 * n));
    out.write({&byte, 1});
  }
}

/// Seven bits a byte, the lowest first; all but the last have the eighth.
void put_varint(Output& out, uint64_t value) {
  for (; value >= 128; value >>= 7) put(out, (value & 127) | 128, 1);
  put(out, value, 1);
}

Bytes bytes_of(const Codec& codec, std::span<const Token> tokens) {
  Bytes bytes;
  for (const Token token : tokens) {
    const std::string_view piece = codec.bytes(token);
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  }
  return bytes;
}

/// Tokens that stand for exactly the bytes that they were made of.
class Lossless {
 public:
  Lossless(const Codec& codec, uint32_t vocabulary) : codec_(&codec), single_(256) {
    for (Token token = vocabulary; token-- > 0;) {
      const std::string_view bytes = codec.bytes(token);
      if (bytes.size() == 1) single_[static_cast<uint8_t>(bytes[0])] = token;
    }
  }

  Result<void> append(std::span<const uint8_t> data, std::vector<Token>& out) const {
    const Result<std::vector<Token>> tokens = codec_->encode(data);
    if (tokens.ok() && append_if_equal(tokens.value(), data, out)) return {};
    if (data.size() <= 8) return append_bytes(data, out);
    const size_t half = data.size() / 2;  // what is no text, or text in another form, may be in one of them only
    const Result<void> first = append(data.first(half), out);
    return first.ok() ? append(data.subspan(half), out) : first;
  }

 private:
  bool append_if_equal(std::span<const Token> tokens, std::span<const uint8_t> data, std::vector<Token>& out) const {
    const Bytes back = bytes_of(*codec_, tokens);
    if (std::ranges::equal(back, data)) {
      out.insert(out.end(), tokens.begin(), tokens.end());
      return true;
    }
    // A space that was put before the text: its word begins without one.
    if (back.size() != data.size() + 1 || !std::equal(data.begin(), data.end(), back.begin() + 1)) return false;
    const std::string_view word = codec_->bytes(tokens[0]).substr(1);
    std::vector<Token> letters;
    if (!append_bytes({reinterpret_cast<const uint8_t*>(word.data()), word.size()}, letters).ok()) return false;
    out.insert(out.end(), letters.begin(), letters.end());
    out.insert(out.end(), tokens.begin() + 1, tokens.end());
    return true;
  }

  Result<void> append_bytes(std::span<const uint8_t> data, std::vector<Token>& out) const {
    for (const uint8_t byte : data) {
      if (!single_[byte]) {
        return error_f(ErrorCode::kUnsupported,
                       "no piece of this model stands for the byte %d: it can compress text only", byte);
      }
      out.push_back(*single_[byte]);
    }
    return {};
  }

  const Codec* codec_;
  std::vector<std::optional<Token>> single_;  // the token of a byte alone
};

/// What both commands begin with.
struct Job {
  std::shared_ptr<const Model> model;
  std::optional<Codec> codec;
  Bytes data;
  std::optional<Output> file;  // else standard output
};

Result<Job> open_job(const Arguments& arguments) {
  const Result<std::string> model_path = arguments.required("--model");
  if (!model_path.ok()) return model_path.error();
  const Result<std::string> in = arguments.required("--in");
  if (!in.ok()) return in.error();
  Job job;
  if (arguments.has("--out")) {
    Result<Output> file = Output::file(arguments.text("--out"), std::array{model_path.value(), in.value()});
    if (!file.ok()) return file.error();
    job.file.emplace(std::move(file).value());
  }
  Result<std::shared_ptr<const Model>> model = load_model(model_path.value());
  if (!model.ok()) return model.error();
  job.model = model.value();
  const Result<void> threads = use_threads(arguments, job.model);
  if (!threads.ok()) return threads.error();
  Result<Codec> codec = Codec::of(*job.model, model_path.value());
  if (!codec.ok()) return codec.error();
  job.codec.emplace(std::move(codec).value());
  Result<Bytes> data = read_file(in.value());
  if (!data.ok()) return data.error();
  job.data = std::move(data).value();
  return job;
}

Result<void> run_compress(const Arguments& arguments, Output& standard) {
  Result<Job> opened = open_job(arguments);
  if (!opened.ok()) return opened.error();
  Job& job = opened.value();
  Output& out = job.file ? *job.file : standard;
  Session session(job.model);
  const Lossless lossless(*job.codec, job.model->info().vocabulary.size);
  Checksum checksum;
  out.write(kMagic);
  put(out, job.model->info().fingerprint, 8);
  for (std::span<const uint8_t> rest(job.data); !rest.empty();) {
    const std::span<const uint8_t> block = rest.first(std::min(rest.size(), kBlock));
    rest = rest.subspan(block.size());
    checksum.push(block);
    std::vector<Token> tokens;
    const Result<void> read = lossless.append(block, tokens);
    if (!read.ok()) return read;
    Encoder encoder;
    if (session.encode(tokens, encoder) < tokens.size()) {
      return error_f(ErrorCode::kOutOfMemory, "there is no memory for the text of a block");
    }
    const Bytes code = encoder.finish();
    put_varint(out, tokens.size());
    put_varint(out, code.size());
    out.write({reinterpret_cast<const char*>(code.data()), code.size()});
  }
  put(out, 0, 1);
  put_varint(out, checksum.length());
  put(out, checksum.value(), 4);
  return job.file ? out.finish() : Result<void>();
}

/// The bytes of a container.  What is missing is zero, and remembered.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : rest_(bytes) {}

  std::span<const uint8_t> take(uint64_t size) {
    is_short_ |= size > rest_.size();
    const std::span<const uint8_t> taken = rest_.first(static_cast<size_t>(std::min<uint64_t>(size, rest_.size())));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  uint64_t number(size_t bytes) {
    uint64_t value = 0;
    int shift = 0;
    for (const uint8_t byte : take(bytes)) {
      value |= uint64_t{byte} << shift;
      shift += 8;
    }
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 56; shift += 7) {
      const uint64_t byte = number(1);
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    return ~uint64_t{0};
  }
  bool is_short() const { return is_short_; }
  bool goes_on() const { return !rest_.empty(); }

 private:
  std::span<const uint8_t> rest_;
  bool is_short_ = false;
};

std::string digits(uint64_t fingerprint) {
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[fingerprint >> shift & 15];
  return text;
}

Error damaged() {
  return error_f(ErrorCode::kBadFile, "the compressed data is damaged: its parts do not fit together");
}
Error incomplete() { return error_f(ErrorCode::kBadFile, "the compressed data ends before it should"); }

Result<void> run_decompress(const Arguments& arguments, Output& standard) {
  Result<Job> opened = open_job(arguments);
  if (!opened.ok()) return opened.error();
  Job& job = opened.value();
  Output& out = job.file ? *job.file : standard;
  Session session(job.model);
  Checksum checksum;
  Input input(job.data);
  const std::span<const uint8_t> head = input.take(kMagic.size());
  if (!std::equal(head.begin(), head.end(), kMagic.begin(), kMagic.end())) {
    return error_f(ErrorCode::kBadFile, "expected compressed data, which begins with \"TNC\" and version 1");
  }
  const uint64_t fingerprint = input.number(8);
  if (input.is_short()) return incomplete();
  if (fingerprint != job.model->info().fingerprint) {
    return error_f(ErrorCode::kBadFile, "expected data compressed by the model %s, found that of %s",
                   digits(job.model->info().fingerprint).c_str(), digits(fingerprint).c_str());
  }
  while (const uint64_t count = input.varint()) {
    const uint64_t size = input.varint();
    if (input.is_short()) return incomplete();
    if (count > kBlock || size > kMostCode) return damaged();
    const std::span<const uint8_t> code = input.take(size);
    if (input.is_short()) return incomplete();
    Decoder decoder({code.begin(), code.end()});
    std::vector<Token> tokens(static_cast<size_t>(count));
    bool is_damaged = false;
    if (session.decode(tokens, decoder, is_damaged) < tokens.size()) return damaged();
    const Bytes block = bytes_of(*job.codec, tokens);
    if (block.size() > kBlock) return damaged();
    checksum.push(block);
    out.write({reinterpret_cast<const char*>(block.data()), block.size()});
  }
  const uint64_t length = input.varint();
  const uint64_t crc = input.number(4);
  if (input.is_short()) return incomplete();
  if (length != checksum.length() || crc != checksum.value()) return damaged();
  if (input.goes_on()) return error_f(ErrorCode::kBadFile, "expected the end of the compressed data, found more");
  return job.file ? out.finish() : Result<void>();
}

}  // namespace

const Command kCompressCommand = {"compress", "tern compress --model FILE --in FILE [--out FILE]", kOptions,
                                  &run_compress};
const Command kDecompressCommand = {"decompress", "tern decompress --model FILE --in FILE [--out FILE]", kOptions,
                                    &run_decompress};

}  // namespace tern
