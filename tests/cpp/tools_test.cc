// tools_test.cc: the command line: what the options mean, what the programs print, and how they fail.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "text/utf8.h"
#include "tiny_hnet.h"
#include "tiny_toy.h"
#include "tools/json.h"
#include "tools/options.h"
#include "tools/sample_metrics.h"

namespace tern {
namespace {

// For a shell: the checkout may be in a folder whose name has a space.
const std::string kTern = "'" TERN_CLI "'", kGolden = "'" TERN_GOLDEN "'", kTrace = "'" TERN_TRACE "'";

// ---- numbers and options --------------------------------------------------------------------------------------------

TEST(ParseQ16, RoundsToTheNearest65536th) {
  const auto parse = [](const char* text) { return parse_q16("x", text).value(); };
  EXPECT_EQ(parse("1"), 65536u);
  EXPECT_EQ(parse("0.5"), 32768u);
  EXPECT_EQ(parse(".5"), 32768u);
  EXPECT_EQ(parse("2."), 131072u);
  EXPECT_EQ(parse("0.8"), 52429u);
  EXPECT_EQ(parse("0.000007"), 0u);
  EXPECT_EQ(parse("0.000008"), 1u);
  EXPECT_EQ(parse("9999.999999999999999999"), 655360000u);
  EXPECT_EQ(parse("0.1234567890123456789"), 8091u);
}

TEST(ParseQ16, RefusesWhatIsNotADecimalNumber) {
  for (const char* text : {"", ".", "-1", "+1", "1e3", "0x1", "1.2.3", "ten", "10000", " 1", "1 ", "1,5", "nan"}) {
    EXPECT_FALSE(parse_q16("x", text).ok()) << text;
  }
}

TEST(ParseInteger, KnowsItsRangeAndNeverWraps) {
  EXPECT_EQ(parse_integer("x", "18446744073709551615", 0, UINT64_MAX).value(), UINT64_MAX);
  EXPECT_EQ(parse_integer("x", "007", 0, 10).value(), 7u);
  for (const char* text : {"", "-1", "x", "1.0", "18446744073709551616", "99999999999999999999999"}) {
    EXPECT_FALSE(parse_integer("x", text, 0, UINT64_MAX).ok()) << text;
  }
  const Result<uint64_t> low = parse_integer("--n", "2", 3, 5);
  ASSERT_FALSE(low.ok());
  EXPECT_EQ(low.error().message, "--n: expected a whole number from 3 to 5, found \"2\"");
  EXPECT_FALSE(parse_integer("x", "6", 3, 5).ok());
}

TEST(SetSampleOption, ChangesOneOptionOrNone) {
  SampleOptions options;
  EXPECT_TRUE(set_sample_option(options, "temperature", "0.8", "temperature").ok());
  EXPECT_TRUE(set_sample_option(options, "top-k", "40", "top-k").ok());
  EXPECT_TRUE(set_sample_option(options, "top-p", "0.9", "top-p").ok());
  EXPECT_TRUE(set_sample_option(options, "min-p", "0.05", "min-p").ok());
  EXPECT_TRUE(set_sample_option(options, "repetition-penalty", "1.1", "repetition-penalty").ok());
  EXPECT_TRUE(set_sample_option(options, "seed", "18446744073709551615", "seed").ok());
  EXPECT_TRUE(set_sample_option(options, "greedy", "true", "greedy").ok());
  const SampleOptions expected{.greedy = true,
                               .temperature_q16 = 52429,
                               .top_k = 40,
                               .top_p_q16 = 58982,
                               .min_p_q16 = 3277,
                               .repetition_penalty_q16 = 72090,
                               .seed = UINT64_MAX};
  EXPECT_EQ(options, expected);
  for (const auto& [name, value] : std::vector<std::pair<const char*, const char*>>{{"temperature", "0"},
                                                                                    {"temperature", "100.1"},
                                                                                    {"top-k", "0"},
                                                                                    {"top-k", "257"},
                                                                                    {"top-p", "1.01"},
                                                                                    {"min-p", "1"},
                                                                                    {"repetition-penalty", "0.9"},
                                                                                    {"seed", "-1"},
                                                                                    {"greedy", "maybe"},
                                                                                    {"topk", "4"}}) {
    const Result<void> refused = set_sample_option(options, name, value, std::string("--") + name);
    ASSERT_FALSE(refused.ok()) << name << " " << value;
    EXPECT_EQ(refused.error().code, ErrorCode::kBadOption);
    if (std::string(name) != "topk") {
      EXPECT_TRUE(refused.error().message.starts_with(std::string("--") + name + ": ")) << refused.error().message;
    }
    EXPECT_EQ(options, expected);
  }
}

TEST(Arguments, AreOptionsWithValuesAndFlags) {
  static constexpr Option kOptions[] = {{"--name", "TEXT", ""}, {"--flag", nullptr, ""}};
  const auto parse = [](std::vector<std::string> words) {
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    return Arguments::parse(pointers, kOptions);
  };
  const Result<Arguments> good = parse({"--name", "a", "--flag", "--name=b=c"});
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good.value().text("--name"), "b=c");
  EXPECT_EQ(good.value().all("--name"), (std::vector<std::string>{"a", "b=c"}));
  EXPECT_TRUE(good.value().has("--flag"));
  EXPECT_FALSE(good.value().required("--model").ok());
  for (const auto& words :
       std::vector<std::vector<std::string>>{{"--name"}, {"--other"}, {"name"}, {"--flag=1"}, {"--flag", "1"}, {""}}) {
    EXPECT_FALSE(parse(words).ok());
  }
}

TEST(JsonWriter, EscapesAndReplaces) {
  JsonWriter json;
  json.open('{').key("a").text("\"\\\n\x01").key("b").open('[').integer(-1).boolean(true).close(']');
  json.key("c").text("\xff\xc3\xa9").key("d").real(0.5).close('}');
  EXPECT_EQ(json.result(),
            "{\"a\":\"\\\"\\\\\\u000a\\u0001\",\"b\":[-1,true],\"c\":\"\xef\xbf\xbd\xc3\xa9\",\"d\":0.500000}");
}

// ---- samples --------------------------------------------------------------------------------------------------------

TEST(SampleMetrics, AreWhatCountingByHandGives) {
  const std::vector<std::vector<uint8_t>> samples = {{'a', ' ', 'b', '\n', 'a', '\t', 'b', ' ', 'a', ' ', 'b'},
                                                     {'a', ' ', 'b'}};
  const SampleMetrics metrics = measure_samples(samples);
  EXPECT_EQ(metrics.samples, 2u);
  EXPECT_EQ(metrics.utf8_valid, 1.0);
  EXPECT_EQ(metrics.distinct_words, (std::array<double, kMaxGram>{2.0 / 8, 2.0 / 6, 2.0 / 4, 2.0 / 3}));
  EXPECT_EQ(metrics.distinct_bytes[0], 5.0 / 14);
  EXPECT_EQ(metrics.repetition, 1.0 / 3);
  EXPECT_EQ(measure_samples({}).repetition, 0.0);
}

TEST(SampleMetrics, AcceptACharacterCutOffByTheEndAndNoOtherFault) {
  const std::vector<std::vector<uint8_t>> samples = {{'a', 0xE4, 0xB8}, {0xE4, 0xB8, 'a'}, {0xED, 0xA0, 0x80}, {}};
  EXPECT_EQ(measure_samples(samples).utf8_valid, 0.5);
}

// ---- the programs ---------------------------------------------------------------------------------------------------

struct Output {
  int status;
  std::string out;  // standard output and error
};

Output run(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, ""};
  Output result{0, ""};
  std::array<char, 4096> piece;
  while (const size_t size = fread(piece.data(), 1, piece.size(), pipe)) result.out.append(piece.data(), size);
  result.status = WEXITSTATUS(pclose(pipe));
  return result;
}

class Program : public testing::Test {
 protected:
  /// Tests run at the same time, each with its own files.
  static std::string path(const std::string& name) {
    const std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
    return testing::TempDir() + "tern_tools_test_" + test + "_" + name;
  }
  static void write(const std::string& name, std::span<const uint8_t> bytes) {
    std::ofstream file(path(name), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void SetUp() override { write(model_name(), test::TinyModel(test::TinySpec{}).file); }
  void TearDown() override {
    for (const std::string& name : files()) std::filesystem::remove(path(name));
    std::filesystem::remove(path(model_name()));
  }

  static std::string read(const std::string& name) {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  /// The files of this test, without the model.
  static std::vector<std::string> files() {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(testing::TempDir())) {
      const std::string whole = entry.path().string();
      if (whole.starts_with(path("")) && !whole.ends_with(model_name())) names.push_back(whole.substr(path("").size()));
    }
    std::ranges::sort(names);
    return names;
  }
  static std::string model_name() { return "model.gguf"; }
  static std::string tern(const std::string& command) {
    return kTern + " " + command + " --model " + path(model_name());
  }
};

TEST_F(Program, GenerateIsTheSameForTheSameSeedAndBeginsWithThePrompt) {
  const Output first = run(tern("generate --prompt Once --max-bytes 50 --seed 7"));
  EXPECT_EQ(first.status, 0) << first.out;
  EXPECT_TRUE(first.out.starts_with("Once"));
  EXPECT_EQ(run(tern("generate --prompt Once --max-bytes 50 --seed 7")).out, first.out);
  EXPECT_NE(run(tern("generate --prompt Once --max-bytes 50 --seed 8")).out, first.out);
}

TEST_F(Program, GenerateWritesSamplesAndPromptLinesUnderHeadings) {
  write("prompts", test::bytes_of("one\n\ntwo\r\nthree"));
  const Output many =
      run(tern("generate --prompt-file " + path("prompts") + " --num-samples 2 --greedy --max-bytes 3"));
  EXPECT_EQ(many.status, 0);
  size_t headings = 0;
  for (size_t at = 0; (at = many.out.find("--- seed ", at)) != std::string::npos; ++at) ++headings;
  EXPECT_EQ(headings, 6u);
  EXPECT_NE(many.out.find("--- seed 1\ntwo"), std::string::npos) << many.out;

  const std::string output = path("output");
  EXPECT_EQ(run(tern("generate --prompt hello --greedy --max-bytes 3 --output " + output)).out, "");
  std::string written;
  std::getline(std::ifstream(output), written);
  EXPECT_TRUE(written.starts_with("hello"));
}

TEST_F(Program, SamplesAreWhatTheirSeedsGiveAloneAndThreadsChangeNothing) {
  const Output samples = run(tern("generate --prompt Once --num-samples 19 --seed 5 --max-bytes 30"));
  std::string alone;
  for (int seed = 5; seed < 24; ++seed) {
    const std::string number = std::to_string(seed);
    alone += "--- seed " + number + "\n" + run(tern("generate --prompt Once --max-bytes 30 --seed " + number)).out;
  }
  EXPECT_EQ(samples.out, alone);
  for (const char* threads : {"1", "2", "3", "auto"}) {
    const std::string option = std::string(" --threads ") + threads;
    EXPECT_EQ(run(tern("generate --prompt Once --num-samples 19 --seed 5 --max-bytes 30" + option)).out, alone);
  }
}

TEST_F(Program, InteractiveUnderstandsItsCommandsAndSurvivesMistakes) {
  const Output talk =
      run("printf 'one\\n/temp 0.5\\n/temp -3\\n/topk 9\\n/topp 0.5\\n/max "
          "4\\n/greedy\\n/sample\\n/greedy\\ntwo\\n/what\\n/quit\\nthree\\n' | " +
          tern("generate --interactive --seed 1 --max-bytes 5"));
  EXPECT_EQ(talk.status, 0);
  EXPECT_NE(talk.out.find("/temp: expected a number above 0"), std::string::npos) << talk.out;
  EXPECT_NE(talk.out.find("one"), std::string::npos);
  EXPECT_NE(talk.out.find("two"), std::string::npos);
  EXPECT_EQ(talk.out.find("three"), std::string::npos);
}

TEST_F(Program, ATextLongerThanTheContextIsRefusedAndAGenerationThatFillsItSaysSo) {
  write(model_name(), test::ToyModel({.context = 50}).file);
  write("long", std::vector<uint8_t>(60, 'a'));
  const std::string long_prompt = " --prompt-file " + path("long");
  const std::string golden = kGolden + " --model " + path(model_name());
  for (const std::string& command :
       {tern("generate --greedy" + long_prompt), tern("generate --num-samples 2" + long_prompt), golden + long_prompt,
        kTrace + " --model " + path(model_name()) + " --text " + path("long") + " --out " + path("trace")}) {
    const Output refused = run(command);
    EXPECT_EQ(refused.status, 1) << command;
    EXPECT_NE(refused.out.find("context full after 49 of 60 tokens"), std::string::npos) << command << refused.out;
  }
  // An evaluation goes on in a new context, and counts every byte.
  const Output eval = run(tern("eval --json --samples 1 --text " + path("long")));
  EXPECT_EQ(eval.status, 0) << eval.out;
  EXPECT_NE(eval.out.find("\"bytes\":60,"), std::string::npos) << eval.out;

  const std::string prompt = " --prompt " + std::string(45, 'a');
  for (const char* samples : {"1", "3"}) {
    const Output filled = run(tern("generate --greedy --max-bytes 20 --num-samples " + std::string(samples) + prompt));
    EXPECT_EQ(filled.status, 0);
    EXPECT_NE(filled.out.find("context full after 4 of 20 bytes"), std::string::npos) << filled.out;
  }
  const Output exact = run(golden + prompt + " --generate greedy,max-bytes=5");
  EXPECT_NE(exact.out.find("\"finish\":\"context_full\""), std::string::npos) << exact.out;
  EXPECT_EQ(run(golden + prompt + "aaaa").status, 0);
  EXPECT_NE(
      run("printf '%060d\nshort\n' 0 | " + tern("generate --interactive --greedy --max-bytes 5")).out.find("short"),
      std::string::npos);
}

TEST_F(Program, EvalReportsTheAgreedNumbers) {
  write("text", test::bytes_of("first\n<|endoftext|>\nsecond <|endoftext|>\n<|endoftext|>"));
  const Output eval = run(tern("eval --json --samples 2 --text " + path("text")));
  EXPECT_EQ(eval.status, 0) << eval.out;
  for (const char* key : {"bits_per_byte", "perplexity", "top1", "top5", "bytes_per_second", "utf8_valid", "samples",
                          "distinct_words", "distinct_bytes", "repetition"}) {
    EXPECT_NE(eval.out.find(std::string("\"") + key + "\":"), std::string::npos) << eval.out;
  }
  // "first\n", a document end for the separator line, "second <|endoftext|>\n" as it is, and one more end.
  EXPECT_NE(eval.out.find("\"bytes\":" + std::to_string(6 + 1 + 21 + 1) + ","), std::string::npos) << eval.out;
  EXPECT_NE(run(tern("eval --max-bytes 5 --json --text " + path("text"))).out.find("\"bytes\":5,"), std::string::npos);
}

TEST_F(Program, EvalReadsAPreparedTextAsTheTextItWasMadeOf) {
  write("made_of.txt", test::bytes_of("One day.\n<|endoftext|>\nAnother é.\n<|endoftext|>\n"));
  write("prepared.bin", test::bytes_of("One day.\n\xff"
                                       "Another é.\n\xff"));
  const auto bits = [](const std::string& text) {
    const std::string said = run(tern("eval --json --samples 0 --text " + path(text))).out;
    const size_t at = said.find("\"bits_q32\"");
    return at == std::string::npos ? said : said.substr(at, said.find(',', at) - at);
  };
  EXPECT_EQ(bits("prepared.bin"), bits("made_of.txt"));
  EXPECT_NE(bits("prepared.bin").find("bits_q32"), std::string::npos) << bits("prepared.bin");
  write("prepared.bin", test::bytes_of("One day.\n\xff"
                                       "ab\xe9 c\xff"));
  EXPECT_NE(bits("prepared.bin").find("not UTF-8 at byte 12"), std::string::npos) << bits("prepared.bin");
  write("prepared.bin", test::bytes_of(""));
  EXPECT_NE(bits("prepared.bin").find("empty"), std::string::npos);
}

TEST_F(Program, EvalMeasuresGivenSamples) {
  write("text", test::bytes_of("some text"));
  write("samples", test::bytes_of("a b c d a b c d\n<|endoftext|>\n<|endoftext|>\ne"));
  const Output eval = run(tern("eval --json --text " + path("text") + " --sample-file " + path("samples")));
  EXPECT_EQ(eval.status, 0) << eval.out;
  EXPECT_NE(eval.out.find("\"samples\":2,"), std::string::npos) << eval.out;
  EXPECT_NE(eval.out.find("\"repetition\":0.200000"), std::string::npos) << eval.out;
}

TEST_F(Program, EvalNamesAFileThatIsNoText) {
  write("text", test::bytes_of("a\xff"));
  EXPECT_NE(run(tern("eval --text " + path("text"))).out.find("not UTF-8 at byte 1"), std::string::npos);
  write("text", test::bytes_of(""));
  EXPECT_NE(run(tern("eval --text " + path("text"))).out.find("empty"), std::string::npos);
}

TEST_F(Program, InspectShowsSettingsMatricesAndTensors) {
  const Output text = run(tern("inspect"));
  EXPECT_EQ(text.status, 0);
  for (const char* part : {"embedding_length", "blk.1.ffn_down.weight", "TQ1_0", "blk.0.conv.weight"}) {
    EXPECT_NE(text.out.find(part), std::string::npos) << part;
  }
  const Output json = run(tern("inspect --json"));
  EXPECT_EQ(json.status, 0);
  EXPECT_NE(json.out.find("\"matrices\":[{\"name\":\"blk.0.attn_i.weight\""), std::string::npos);
}

TEST_F(Program, InspectMarksWhereChunksBegin) {
  const test::TinyHnet tiny(test::two_stages());
  write(model_name(), tiny.file);
  const std::string text = "Once upon a time, there was a little fox.";
  write("chunks.txt", test::bytes_of(text));

  Session session(test::load_or_fail(tiny.file));
  std::vector<uint8_t> masks(text.size());
  ChunkMasks observer(masks, 1);
  session.feed(test::bytes_of(text), {.observer = &observer});
  std::string marked;
  double chunks[2] = {};
  for (size_t at = 0; at < text.size(); ++at) {
    marked += masks[at] == 3 ? "||" : masks[at] == 1 ? "|" : "";
    marked += text[at];
    chunks[0] += masks[at] & 1;
    chunks[1] += masks[at] >> 1 & 1;
  }
  ASSERT_GT(chunks[1], 0);
  ASSERT_GT(chunks[0], chunks[1]);

  const Output shown = run(tern("inspect --text " + path("chunks.txt")));
  EXPECT_EQ(shown.status, 0) << shown.out;
  EXPECT_TRUE(shown.out.starts_with(marked + "\n")) << shown.out;
  const auto size = static_cast<double>(text.size());
  char line[80];
  std::snprintf(line, sizeof line, "stage 1: %.0f chunks, %.2f bytes per chunk", chunks[1], size / chunks[1]);
  EXPECT_NE(shown.out.find(line), std::string::npos) << shown.out;

  const Output json = run(tern("inspect --json --text " + path("chunks.txt")));
  EXPECT_NE(json.out.find("\"boundaries\":\"" + to_hex(masks) + "\""), std::string::npos) << json.out;
  EXPECT_NE(json.out.find("\"chunks\":" + std::to_string(static_cast<int>(chunks[0]))), std::string::npos) << json.out;
}

TEST_F(Program, InspectSaysThatAFlatModelHasNoChunks) {
  write("flat.txt", test::bytes_of("some text"));
  const Output refused = run(tern("inspect --text " + path("flat.txt")));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.out.find("no chunk boundaries, its architecture hgrnbit is flat"), std::string::npos)
      << refused.out;
}

TEST_F(Program, GoldenPrintsAnExactRecord) {
  const std::string command =
      kGolden + " --model " + path(model_name()) +
      " --prompt-hex 4f6e6365ff00 --generate greedy,max-bytes=8 --generate seed=3,temperature=0.7";
  const Output golden = run(command);
  EXPECT_EQ(golden.status, 0) << golden.out;
  EXPECT_NE(golden.out.find("\"prompt_hex\":\"4f6e6365ff00\""), std::string::npos);
  EXPECT_NE(golden.out.find("\"options\":\"seed=3,temperature=0.7\""), std::string::npos);
  EXPECT_NE(golden.out.find("\"stages\":0,\"boundaries\":\"00000000000000\""), std::string::npos);  // BOS and 6 bytes
  EXPECT_EQ(run(command).out, golden.out);
  EXPECT_EQ(run(command + " --generate colour=red").status, 2);
}

TEST_F(Program, AWrongOptionIsOneSentenceAndStatusTwo) {
  for (const char* command :
       {"generate --temperature -1", "generate --top-k 0", "generate --max-bytes x", "generate --bogus",
        "generate --seed", "generate --prompt a --interactive", "eval", "eval --text", "inspect --xml",
        "generate --top-p 1.5", "generate --threads 0", "generate --threads 65", "generate --threads many"}) {
    const Output failed = run(tern(command));
    EXPECT_EQ(failed.status, 2) << command << ": " << failed.out;
    EXPECT_EQ(std::ranges::count(failed.out, '\n'), 1) << failed.out;
    EXPECT_TRUE(failed.out.starts_with("tern: ")) << failed.out;
  }
  EXPECT_EQ(run(kTern + " frobnicate").status, 2);
  EXPECT_EQ(run(kTern).status, 2);
  EXPECT_EQ(run(kTern + " generate").status, 2);
}

TEST_F(Program, ABrokenFileIsOneSentenceAndStatusOne) {
  const std::vector<uint8_t> file = test::TinyModel(test::TinySpec{}).file;
  write(model_name(), std::span(file).first(5000));
  const Output truncated = run(tern("generate --greedy"));
  EXPECT_EQ(truncated.status, 1);
  EXPECT_NE(truncated.out.find("truncated"), std::string::npos) << truncated.out;
  write(model_name(), test::bytes_of("<html>not found</html>"));
  EXPECT_EQ(run(tern("inspect")).status, 1);
  std::remove(path(model_name()).c_str());
  EXPECT_EQ(run(tern("inspect")).status, 1);
}

// ---- what is written is written, or said ---------------------------------------------------------------------------

TEST_F(Program, AFullDiskAndAClosedOutputAreErrorsThatSayHowMuchWasWritten) {
  write("text", test::bytes_of("some text"));
  const std::string golden = kGolden + " --prompt a --model " + path(model_name());
  for (const std::string& command :
       {tern("generate --seed 1"), tern("generate --seed 1 --num-samples 20"), tern("inspect"), tern("inspect --json"),
        tern("eval --json --samples 1 --text " + path("text")), kTern + " --help", kTern + " eval --help",
        kTern + " --version", golden}) {
    const Output full = run("{ " + command + " > /dev/full; }");
    EXPECT_EQ(full.status, 1) << command << full.out;
    EXPECT_NE(full.out.find("standard output: No space left on device; 0 of "), std::string::npos) << full.out;
    const Output closed = run("{ " + command + " >&-; }");
    EXPECT_EQ(closed.status, 1) << command;
    EXPECT_NE(closed.out.find("standard output: Bad file descriptor"), std::string::npos) << closed.out;
  }
}

TEST_F(Program, AFileThatCannotBeWrittenWholeDoesNotAppear) {
  write("kept", test::bytes_of("the old text"));
  for (const char* name : {"new", "kept"}) {
    const Output full =
        run("(ulimit -f 8; " + tern("generate --seed 1 --num-samples 400") + " --output " + path(name) + ")");
    EXPECT_EQ(full.status, 1) << full.out;
    EXPECT_NE(full.out.find("File too large; "), std::string::npos) << full.out;
    EXPECT_NE(full.out.find(" bytes were written"), std::string::npos) << full.out;
  }
  EXPECT_EQ(files(), std::vector<std::string>{"kept"});
  EXPECT_EQ(read("kept"), "the old text");
}

TEST_F(Program, AnOutputIsNotTouchedBeforeTheInputsAreGood) {
  write("kept", test::bytes_of("the old text"));
  write("broken", test::bytes_of("GGUF and nothing more"));
  for (const std::string& command : {kTern + " generate --model " + path("broken"), kTern + " generate --model none",
                                     tern("generate --prompt-file " + path("none")), tern("generate --threads many")}) {
    EXPECT_NE(run(command + " --output " + path("kept")).status, 0) << command;
    EXPECT_EQ(read("kept"), "the old text");
  }
  EXPECT_EQ(files(), (std::vector<std::string>{"broken", "kept"}));
  EXPECT_EQ(run(tern("generate --greedy --prompt hello --output " + path("kept"))).status, 0);
  EXPECT_TRUE(read("kept").starts_with("hello"));
}

TEST_F(Program, AnInputIsNoOutputByWhateverName) {
  const std::string model = read(model_name());
  write("prompts", test::bytes_of("one\n"));
  std::filesystem::create_hard_link(path(model_name()), path("hard"));
  std::filesystem::create_symlink(path(model_name()), path("soft"));
  for (const std::string& name : {path(model_name()), path("hard"), path("soft"), path("prompts")}) {
    const Output refused = run(tern("generate --greedy --prompt-file " + path("prompts") + " --output " + name));
    EXPECT_EQ(refused.status, 2) << refused.out;
    EXPECT_NE(refused.out.find("expected a file to write, found the one that is read"), std::string::npos);
  }
  EXPECT_EQ(read(model_name()), model);
  EXPECT_EQ(read("prompts"), "one\n");
}

TEST_F(Program, AnOutputMayBeALinkAPipeOrADevice) {
  write("kept", test::bytes_of("the old text"));
  std::filesystem::create_symlink(path("kept"), path("soft"));
  const std::string command = tern("generate --greedy --prompt hello --max-bytes 5") + " --output ";
  EXPECT_EQ(run(command + path("soft")).status, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(path("soft")));
  EXPECT_TRUE(read("kept").starts_with("hello"));
  EXPECT_EQ(run(command + "/dev/null").status, 0);
  EXPECT_TRUE(run(command + "/dev/stdout").out.starts_with("hello"));
  EXPECT_EQ(run(command + "/dev/full").status, 1);
  EXPECT_EQ(run(command + testing::TempDir()).status, 1);
}

/// A program whose standard output (1) or error (2) the test reads.
struct Child {
  pid_t pid;
  int from;
};

Child spawn(std::vector<std::string> words, int descriptor, bool ignore_sigpipe) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGPIPE, ignore_sigpipe ? SIG_IGN : SIG_DFL);
    dup2(ends[1], descriptor);
    close(ends[0]);
    close(ends[1]);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  close(ends[1]);
  return {pid, ends[0]};
}

int signal_that_ended(pid_t pid) {
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST_F(Program, ASignalEndsItAsUsualAndLeavesNoUnfinishedFile) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    const Child child = spawn(
        {TERN_CLI, "generate", "--model", path(model_name()), "--num-samples", "1000000", "--output", path("output")},
        1, false);
    while (files().empty()) usleep(1000);
    kill(child.pid, number);
    EXPECT_EQ(signal_that_ended(child.pid), number);
    EXPECT_EQ(files(), std::vector<std::string>());
    close(child.from);
  }
}

TEST_F(Program, AReaderThatGoesAwayEndsItAsSigpipeDoes) {
  for (const bool ignored : {false, true}) {
    const Child child =
        spawn({TERN_CLI, "generate", "--model", path(model_name()), "--num-samples", "1000000"}, 1, ignored);
    char byte = 0;
    ASSERT_EQ(::read(child.from, &byte, 1), 1);
    close(child.from);
    EXPECT_EQ(signal_that_ended(child.pid), SIGPIPE);
  }
}

// ---- files that are not what they should be -------------------------------------------------------------------------

#if !defined(__SANITIZE_ADDRESS__)
TEST(ProgramMemory, ThatAModelNeedsIsAskedForWhenItsHeaderIsRead) {
  const std::string inspect = kTern + " inspect --model '" TERN_SOURCE_DIR "/tests/data/huge-claim.gguf'";
  const Output short_of = run("(ulimit -v 100000; " + inspect + ")"), enough = run(inspect);
  EXPECT_EQ(short_of.status, 1) << short_of.out;
  EXPECT_NE(short_of.out.find("bytes, which cannot be had here now"), std::string::npos) << short_of.out;
  EXPECT_EQ(enough.status, 1) << enough.out;
  EXPECT_NE(enough.out.find("expected a file of 1604421248 bytes, found 5120: it is truncated"), std::string::npos)
      << enough.out;
}
#endif

TEST_F(Program, ADamagedModelIsRefusedAndAnUncheckedOneSaysSo) {
  EXPECT_NE(run(tern("inspect")).out.find("unchecked: the file has no key tern.sha256"), std::string::npos);
  test::TinyModel tiny(test::TinySpec{});
  tiny.writer.checksum();
  std::vector<uint8_t> file = tiny.writer.build();
  write(model_name(), file);
  EXPECT_NE(run(tern("inspect")).out.find("\nchecked: "), std::string::npos);
  EXPECT_NE(run(tern("inspect --json")).out.find("\"checked\":true"), std::string::npos);
  file[file.size() - 40] ^= 1;
  write(model_name(), file);
  for (const char* command : {"inspect", "generate --greedy"}) {
    const Output damaged = run(tern(command));
    EXPECT_EQ(damaged.status, 1);
    EXPECT_NE(damaged.out.find("the file is damaged"), std::string::npos) << damaged.out;
  }
}

TEST_F(Program, SaysOnStderrWhatMayMakeAModelWorse) {
  write("text", test::bytes_of("some text"));
  test::TinyModel tiny(test::TinySpec{.embedding = GgmlType::kF32});
  std::vector<uint8_t>& numbers = tiny.writer.tensors().front().bytes;
  std::ranges::fill(numbers, uint8_t{0x37});  // all are 0x37373737, which is 1.1e-5
  write(model_name(), tiny.writer.build());
  const std::string warning = ": warning: tensor \"token_embd.weight\": expected numbers of 2^-10 or more";
  for (const std::string& command :
       {tern("generate --greedy --prompt a"), tern("eval --samples 0 --text " + path("text")), tern("inspect")}) {
    EXPECT_NE(run(command).out.find(warning), std::string::npos) << command;
    EXPECT_EQ(run("{ " + command + " 2>/dev/null; }").out.find(warning), std::string::npos) << command;
  }
  EXPECT_NE(
      run("{ " + tern("inspect --json") + " 2>/dev/null; }").out.find("\"warnings\":{\"token_embd.weight\":\"expected"),
      std::string::npos);
}

TEST_F(Program, ControlBytesOfAFileNeverReachTheTerminal) {
  test::TinyModel tiny(test::TinySpec{});
  tiny.writer.text("general.description", "\x1b]0;title\x07 \xc2\x9b 31m name\r\n");
  std::vector<uint8_t> file = tiny.writer.build();
  const std::string key = "general.name";
  const auto name = std::search(file.begin(), file.end(), key.begin(), key.end()) +
                    static_cast<std::ptrdiff_t>(key.size() + 4 + 8);  // behind type and length
  name[0] = 0x1b;
  name[1] = ']';
  write(model_name(), file);
  for (const char* command : {"inspect", "inspect --json"}) {
    const Output shown = run(tern(command));
    EXPECT_EQ(shown.status, 0);
    EXPECT_NE(shown.out.find(" name"), std::string::npos) << shown.out;
    for (const char* control : {"\x1b", "\x07", "\r"}) EXPECT_EQ(shown.out.find(control), std::string::npos) << command;
  }
  EXPECT_EQ(run(tern("inspect")).out.find("\xc2\x9b"), std::string::npos);
}

// ---- texts ----------------------------------------------------------------------------------------------------------

TEST_F(Program, EvalReadsATextTheSameWithEveryLineEndAndMark) {
  write("lf.txt", test::bytes_of("One day a cat sat.\n<|endoftext|>\nTwo dogs ran.\n"));
  write("crlf.txt", test::bytes_of("One day a cat sat.\r\n<|endoftext|>\r\nTwo dogs ran.\r\n"));
  write("bom.txt", test::bytes_of("\xEF\xBB\xBFOne day a cat sat.\n<|endoftext|>\nTwo dogs ran.\n"));
  const auto numbers = [](const std::string& text) {
    const std::string said = run(tern("eval --json --samples 0 --text " + path(text))).out;
    const size_t speed = said.find("\"bytes_per_second\"");  // the one number that differs
    return speed == std::string::npos ? said : said.substr(0, speed) + said.substr(said.find(',', speed));
  };
  EXPECT_NE(numbers("lf.txt").find("\"bytes\":34,\"tokens\":34,\"bits_per_raw_byte\":"), std::string::npos)
      << numbers("lf.txt");
  EXPECT_NE(numbers("lf.txt").find("\"raw_bytes\":47,"), std::string::npos);
  EXPECT_EQ(numbers("crlf.txt"), numbers("lf.txt"));
  EXPECT_EQ(numbers("bom.txt"), numbers("lf.txt"));
  write("utf16.txt", test::bytes_of("\xFF\xFEOh"));
  EXPECT_NE(numbers("utf16.txt").find("byte order mark of UTF-16"), std::string::npos) << numbers("utf16.txt");
}

TEST_F(Program, APromptFileIsReadLikeEveryText) {
  write("plain", test::bytes_of("Once upon\nTwo\n"));
  write("marked", test::bytes_of("\xEF\xBB\xBFOnce upon\r\n<|endoftext|>\r\nTwo"));
  const auto written = [](const char* name) {
    return run(tern("generate --seed 1 --max-bytes 40 --prompt-file " + path(name))).out;
  };
  EXPECT_EQ(written("marked"), written("plain"));
  EXPECT_NE(written("plain").find("\nTwo"), std::string::npos);
}

TEST_F(Program, GenerateWritesWellFormedUtf8UnlessRaw) {
  const std::string command = tern("generate --prompt A --max-bytes 2000 --temperature 4 --seed 3");
  const std::string text = run(command).out;
  EXPECT_GT(valid_utf8_prefix(test::bytes_of(text)) + 4, text.size());
  const std::string raw = run(command + " --raw").out;
  EXPECT_LT(valid_utf8_prefix(test::bytes_of(raw)) + 4, raw.size());
}

TEST_F(Program, NothingIsMeasuredOfNoSamplesAndNoBarIsDrawnInAFile) {
  write("text", test::bytes_of("some text"));
  const Output eval = run(tern("eval --json --samples 0 --text " + path("text")));
  EXPECT_NE(eval.out.find("\"samples\":0}"), std::string::npos) << eval.out;
  EXPECT_TRUE(eval.out.starts_with("{")) << eval.out;
  EXPECT_EQ(run(tern("eval --samples 0 --text " + path("text"))).out.find("UTF-8"), std::string::npos);
}

TEST(ProgramHelp, VersionAndShortHelpAreUnderstood) {
  const Output version = run(kTern + " --version");
  EXPECT_EQ(version.status, 0);
  EXPECT_TRUE(version.out.starts_with("tern 0.")) << version.out;
  for (const char* command : {"", "generate ", "eval ", "inspect "}) {
    const std::string program = kTern + " " + command;
    EXPECT_EQ(run(program + "-h").out, run(program + "--help").out);
    EXPECT_EQ(run(program + "-h").status, 0);
  }
}

TEST(ProgramHelp, MessagesNameTheOptionAsItIsWritten) {
  for (const char* option : {"--seed", "--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty"}) {
    const Output refused = run(kTern + " generate --model none " + option + " x");
    EXPECT_TRUE(refused.out.starts_with(std::string("tern: ") + option + ": expected ")) << refused.out;
  }
}

TEST(ProgramHelp, IsThereForEveryCommand) {
  for (const char* command : {"--help", "generate --help", "eval --help", "inspect --help"}) {
    const Output help = run(kTern + " " + command);
    EXPECT_EQ(help.status, 0) << command;
    EXPECT_TRUE(help.out.starts_with("usage: tern")) << command;
  }
  EXPECT_EQ(run(kGolden + " --help").status, 0);
}

}  // namespace
}  // namespace tern
