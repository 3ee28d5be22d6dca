// chat.cc: `tern chat` talks to a model in the turns that its file describes (models/FORMAT.md), line by line.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "session/session.h"
#include "tools/codec.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/threads.h"
#include "tools/tokenizer_file.h"

namespace tern {
namespace {

constexpr const char* kUsage = "tern chat --model FILE [--system TEXT] [options]";

constexpr Option kOptions[] = {
    {"--model", "FILE", "the model, GGUF"},
    {"--system", "TEXT", "what the model is to know before the conversation"},
    {"--max-tokens", "N", "of a reply (1024)"},
    {"--seed", "S", "same seed, same replies; chosen and printed if not given"},
    {"--temperature", "T", "above 0, up to 100 (1)"},
    {"--top-k", "K", "draw from the K likeliest tokens (all)"},
    {"--top-p", "P", "draw from the likeliest tokens that reach probability P (1)"},
    {"--min-p", "P", "drop tokens less likely than P times the likeliest (0)"},
    {"--repetition-penalty", "R", "1 to 10, over the last 256 tokens (1)"},
    {"--greedy", nullptr, "always the likeliest token"},
    kThreadsOption,
};

constexpr const char* kHelp = "A line is a message.  Commands: /reset  /quit\n";
constexpr std::string_view kSpaces = " \t\n\v\f\r";

using Tokens = std::vector<Token>;

std::string_view trimmed(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(kSpaces), text.size());
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

void append(Tokens& to, const Tokens& more) { to.insert(to.end(), more.begin(), more.end()); }

/// The turns of a file, as tokens.
class Turns {
 public:
  static Result<Turns> of(const Model& model, const std::string& path) {
    const auto text = [&](const std::string& key) -> const std::string* {
      for (const KeyValue& pair : model.info().metadata) {
        if (pair.key == key) return &pair.value;
      }
      return nullptr;
    };
    std::string turns[4];
    for (size_t n = 0; n < std::size(turns); ++n) {
      const std::string key = std::string("tokenizer.ternlm.chat.") + kNames[n];
      const std::string* found = text(key);
      if (found == nullptr) {
        const char* why = text("tokenizer.chat_template") == nullptr
                              ? "the model was not made to chat; tern generate continues texts"
                              : "its Jinja template is for model.chat() of the package";
        return error_f(ErrorCode::kUnsupported, "%s: expected the key %s, found none: %s", path.c_str(), key.c_str(),
                       why);
      }
      turns[n] = *found;
    }
    Result<Tokenizer> tokenizer = load_tokenizer(path);
    if (!tokenizer.ok()) return tokenizer.error();
    std::optional<Token> end;
    if (const std::string* number = text("tokenizer.ggml.eot_token_id"); number != nullptr) {
      const Result<uint64_t> token = parse_integer("eot_token_id", *number, 0, tokenizer.value().size() - 1);
      if (!token.ok()) return token.error();
      end = static_cast<Token>(token.value());
    }
    return Turns(std::move(tokenizer).value(), turns, end);
  }

  Result<Tokens> system(std::string_view said) const { return turn(texts_[0], said); }
  /// With what follows the last message.
  Result<Tokens> user(std::string_view said) const { return turn(texts_[1] + texts_[3], said); }
  /// Whether a reply is over with this token, which is then a part of it.
  bool ends_reply(Token token) const { return end_ == token; }
  /// What follows a reply that was cut, before the next message.
  Result<Tokens> after_reply() const { return turn(texts_[2].substr(texts_[2].find("{}") + 2), ""); }

 private:
  static constexpr const char* kNames[] = {"system", "user", "assistant", "reply"};

  Turns(Tokenizer tokenizer, std::span<std::string> texts, std::optional<Token> end)
      : tokenizer_(std::move(tokenizer)), end_(end) {
    std::ranges::move(texts, texts_);
  }

  /// Names of control tokens in what is said are text.
  Result<Tokens> turn(std::string text, std::string_view said) const {
    Utf8Splitter splitter;
    const std::string_view bare = trimmed(said);
    std::string plain = splitter.push({reinterpret_cast<const uint8_t*>(bare.data()), bare.size()});
    plain += splitter.finish();
    const size_t at = std::min(text.find("{}"), text.size());
    if (at < text.size()) text.replace(at, 2, plain);
    return tokenizer_.encode({reinterpret_cast<const uint8_t*>(text.data()), text.size()}, Tokenizer::Control::kToken,
                             at, at + plain.size());
  }

  Tokenizer tokenizer_;
  std::optional<Token> end_;
  std::string texts_[4];
};

/// One conversation.
class Chat {
 public:
  Chat(std::shared_ptr<const Model> model, const Codec& codec, const Turns& turns, Tokens system)
      : session_(std::move(model)), codec_(&codec), turns_(&turns), system_(std::move(system)) {}

  void reset() {
    session_.reset();
    exchanges_.clear();
  }

  /// Reads what the user says.  Error: too long, and nothing has changed.
  Result<void> ask(std::string_view said, uint64_t reply) {
    Result<Tokens> asked = turns_->user(said);
    if (!asked.ok()) return asked.error();
    const Result<Tokens> after = turns_->after_reply();
    if (!after.ok()) return after.error();
    const uint64_t most = session_.position() + session_.room();
    const uint64_t alone = system_.size() + asked.value().size();
    if (alone >= most) {
      return error_f(ErrorCode::kBadState,
                     "the message and the system's are %llu tokens, expected fewer than %llu, the model's context",
                     static_cast<unsigned long long>(alone), static_cast<unsigned long long>(most));
    }
    Tokens more = exchanges_.empty() ? system_ : rest_of(exchanges_.back(), after.value());
    append(more, asked.value());
    if (more.size() + std::min(reply, most / 4) > session_.room()) {
      more = shortened(asked.value(), after.value(), most);
    }
    exchanges_.push_back({std::move(asked).value(), {}});
    return feed_whole(session_, std::span<const Token>(more));
  }

  Result<void> reply(const SampleOptions& options, uint64_t most, Output& out) {
    Result<void> done = session_.start(options, most);
    Continuation text(*codec_, UINT64_MAX, false, false);
    Token token[1];
    while (done.ok() && session_.generate(std::span(token)) == 1) {
      exchanges_.back().replied.push_back(token[0]);
      if (turns_->ends_reply(token[0])) break;
      out.write_text(text.push(token[0]));
      done = out.flush();
    }
    out.write_text(text.finish() + "\n");
    if (session_.finish_state() == Finish::kContextFull) std::fputs("tern: context full: the reply is cut\n", stderr);
    return done.ok() ? out.flush() : done;
  }

 private:
  struct Exchange {
    Tokens asked, replied;
  };

  /// What of a reply's end the model has not written itself.
  Tokens rest_of(const Exchange& exchange, const Tokens& after) const {
    const bool is_there = !exchange.replied.empty() && !after.empty() && turns_->ends_reply(after[0]) &&
                          exchange.replied.back() == after[0];
    return {after.begin() + (is_there ? 1 : 0), after.end()};
  }

  /// Without the oldest exchanges, so that half of the context is free: what stays is read anew.
  Tokens shortened(const Tokens& asked, const Tokens& after, uint64_t most) {
    const auto whole = [&] {
      Tokens all = system_;
      for (const Exchange& exchange : exchanges_) {
        append(all, exchange.asked);
        append(all, exchange.replied);
        append(all, rest_of(exchange, after));
      }
      append(all, asked);
      return all;
    };
    size_t dropped = 0;
    while (!exchanges_.empty() && whole().size() > most / 2) {
      exchanges_.erase(exchanges_.begin());
      ++dropped;
    }
    std::fprintf(stderr, "tern: context full: the oldest %zu exchanges are dropped, %zu stay\n", dropped,
                 exchanges_.size());
    session_.reset();
    return whole();
  }

  Session session_;
  const Codec* codec_;
  const Turns* turns_;
  Tokens system_;
  std::vector<Exchange> exchanges_;
};

Result<void> talk(Chat& chat, SampleOptions options, uint64_t most, Output& out) {
  std::fputs(kHelp, stderr);
  std::string line;
  while (std::fputs("> ", stderr), std::getline(std::cin, line)) {
    const std::string_view said = trimmed(line);
    if (said.empty()) continue;
    if (said == "/quit") return {};
    if (said == "/reset") {
      chat.reset();
    } else if (said.front() == '/') {
      std::fputs(kHelp, stderr);
    } else if (const Result<void> asked = chat.ask(said, most); !asked.ok()) {
      std::fprintf(stderr, "tern: %s\n", asked.error().message.c_str());
    } else {
      const Result<void> replied = chat.reply(options, most, out);
      if (!replied.ok()) return replied;
      ++options.seed;
    }
  }
  std::fputc('\n', stderr);
  return {};
}

Result<void> run_chat(const Arguments& arguments, Output& out) {
  const Result<std::string> path = arguments.required("--model");
  if (!path.ok()) return path.error();
  SampleOptions options;
  for (const char* name : {"--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--seed"}) {
    if (!arguments.has(name)) continue;
    Result<void> set = set_sample_option(options, name + 2, arguments.text(name), name);
    if (!set.ok()) return set;
  }
  options.greedy = arguments.has("--greedy");
  const Result<uint64_t> most = arguments.integer("--max-tokens", 1024, 1, UINT64_MAX);
  if (!most.ok()) return most.error();
  const Result<std::shared_ptr<const Model>> model = load_model(path.value());
  if (!model.ok()) return model.error();
  const Result<Turns> turns = Turns::of(*model.value(), path.value());
  if (!turns.ok()) return turns.error();
  const Result<Codec> codec = Codec::of(*model.value(), path.value());
  if (!codec.ok()) return codec.error();
  const Result<void> threads = use_threads(arguments, model.value());
  if (!threads.ok()) return threads;
  Result<Tokens> system = Tokens();
  if (arguments.has("--system")) system = turns.value().system(arguments.text("--system"));
  if (!system.ok()) return system.error();
  if (!arguments.has("--seed") && !options.greedy) {
    options.seed = std::random_device()();
    std::fprintf(stderr, "seed %llu\n", static_cast<unsigned long long>(options.seed));
  }
  Chat chat(model.value(), codec.value(), turns.value(), std::move(system).value());
  return talk(chat, options, most.value(), out);
}

}  // namespace

const Command kChatCommand{"chat", kUsage, kOptions, &run_chat};

}  // namespace tern
