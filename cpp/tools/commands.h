// commands.h: the commands of the program tern; each takes the words after its name and answers the exit status.
#pragma once

#include <span>

#include "base/result.h"
#include "tools/options.h"

namespace tern {

/// What a command line may contain, and the first line of its help.
struct Command {
  const char* name;
  const char* usage;
  std::span<const Option> options;
  Result<void> (*run)(const Arguments&);
};
extern const Command kGenerateCommand;
extern const Command kEvalCommand;
extern const Command kInspectCommand;

}  // namespace tern
