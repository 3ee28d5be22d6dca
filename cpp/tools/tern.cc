// tern.cc: the program tern: generate, chat, eval, inspect, tokenize, compress and decompress.
#include <algorithm>
#include <string>
#include <string_view>

#include "tools/commands.h"

namespace tern {
namespace {

constexpr const char* kHelp =
    "usage: tern COMMAND [options]\n\n"
    "  generate   continue a prompt, streaming; or talk to the model with --interactive\n"
    "  chat       talk to a model that was made for it\n"
    "  eval       bits per byte, perplexity and accuracy on a text file\n"
    "  inspect    settings, tensors, sizes, and the share of -1, 0 and +1 per matrix\n"
    "  tokenize   the tokens of a text, and back\n"
    "  compress   a file as the choices of a model: text becomes small\n"
    "  decompress what compress wrote, with the same model\n"
    "\n"
    "tern COMMAND --help says more, tern --version which one this is.  Exit status: 0; 1 for a file that cannot be\n"
    "used or written; 2 for a wrong option; by a signal as usual (130 after Ctrl-C, 141 when the reader of a pipe has\n"
    "gone).\n";

bool is_help(std::string_view word) { return word == "--help" || word == "-h"; }

Result<void> run_command(const Command& command, std::span<char* const> words, Output& out) {
  if (std::ranges::any_of(words, is_help)) {
    out.write(help_text(command.usage, command.options));
    return {};
  }
  const Result<Arguments> arguments = Arguments::parse(words, command.options);
  return arguments.ok() ? command.run(arguments.value(), out) : arguments.error();
}

Result<void> run(std::string_view name, std::span<char* const> words, Output& out) {
  if (is_help(name) || name == "help") {
    out.write(kHelp);
    return {};
  }
  if (name == "--version") {
    out.write("tern " TERN_VERSION "\n");
    return {};
  }
  for (const Command* command : {&kGenerateCommand, &kChatCommand, &kEvalCommand, &kInspectCommand, &kTokenizeCommand,
                                 &kCompressCommand, &kDecompressCommand}) {
    if (name == command->name) return run_command(*command, words, out);
  }
  return error_f(ErrorCode::kBadOption,
                 "expected a command (generate, chat, eval, inspect, tokenize, compress or decompress), found \"%s\"",
                 std::string(name).c_str());
}

int run(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  const std::span<char* const> words(argv + std::min(argc, 2), static_cast<size_t>(std::max(argc - 2, 0)));
  return run_program("tern", [&](Output& out) { return run(name, words, out); });
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) { return tern::run(argc, argv); }
