// bench.h: the measurements behind `tern bench` and the program tern_bench.
#pragma once

namespace tern {

/// Prints one JSON line per measurement.  Arguments: [--model FILE] [--milliseconds N]; argv[0] is ignored.
/// Returns the exit status: 0, or after an error message on stderr 1 for a file and 2 for an option.
int run_bench(int argc, char** argv);

}  // namespace tern
