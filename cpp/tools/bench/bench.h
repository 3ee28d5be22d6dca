// bench.h: the measurements behind the program tern_bench and the bench page.
#pragma once

#include <memory>

#include "model/model.h"

namespace tern {

/// Prints one JSON line per measurement.  Arguments: those of `tern_bench --help`; argv[0] is ignored.
/// model: measured in place of the file that --model names, which then is only a name; or null.
/// Returns the exit status: 0, or after an error message on stderr 1 for a file and 2 for an option.
int run_bench(int argc, char** argv, std::shared_ptr<const Model> model = nullptr);

}  // namespace tern
