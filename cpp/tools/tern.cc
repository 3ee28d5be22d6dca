// tern.cc: the program tern: generate, eval, inspect and tokenize.
#include <cstdio>
#include <string>
#include <string_view>

#include "tools/commands.h"

namespace tern {
namespace {

constexpr const char* kHelp =
    "usage: tern COMMAND [options]\n\n"
    "  generate   continue a prompt, streaming; or talk to the model with --interactive\n"
    "  eval       bits per byte, perplexity and accuracy on a text file\n"
    "  inspect    settings, tensors, sizes, and the share of -1, 0 and +1 per matrix\n"
    "  tokenize   the tokens of a text, and back\n"
    "\n"
    "tern COMMAND --help says more.  Exit status: 0, 1 for a file that cannot be used, 2 for a wrong option.\n";

int report(const Error& error) {
  std::fprintf(stderr, "tern: %s\n", error.message.c_str());
  return error.code == ErrorCode::kBadOption ? 2 : 1;
}

int run_command(const Command& command, std::span<char* const> words) {
  for (const char* word : words) {
    if (std::string_view(word) == "--help") {
      std::fputs(help_text(command.usage, command.options).c_str(), stdout);
      return 0;
    }
  }
  const Result<Arguments> arguments = Arguments::parse(words, command.options);
  if (!arguments.ok()) return report(arguments.error());
  const Result<void> done = command.run(arguments.value());
  return done.ok() ? 0 : report(done.error());
}

int run(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "help") {
    std::fputs(kHelp, stdout);
    return 0;
  }
  for (const Command* command : {&kGenerateCommand, &kEvalCommand, &kInspectCommand, &kTokenizeCommand}) {
    if (name == command->name) return run_command(*command, {argv + 2, static_cast<size_t>(argc - 2)});
  }
  return report(error_f(ErrorCode::kBadOption, "expected a command (generate, eval, inspect or tokenize), found \"%s\"",
                        std::string(name).c_str()));
}

}  // namespace
}  // namespace tern

int main(int argc, char** argv) { return tern::run(argc, argv); }
