// commands.h: the commands of the program tern: what each understands, and what runs it.
#pragma once

#include <span>

#include "base/result.h"
#include "tools/options.h"
#include "tools/output.h"

namespace tern {

/// One command: the first line of its help, its options, and the function that does it.
struct Command {
  const char* name;
  const char* usage;
  std::span<const Option> options;
  Result<void> (*run)(const Arguments&, Output& out);
};
extern const Command kGenerateCommand;
extern const Command kChatCommand;
extern const Command kEvalCommand;
extern const Command kInspectCommand;
extern const Command kTokenizeCommand;
extern const Command kCompressCommand;
extern const Command kDecompressCommand;

}  // namespace tern
