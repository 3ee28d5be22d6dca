// bench.h: the measurements behind `tern bench` and the program tern_bench.
#pragma once

namespace tern {

/// Prints one JSON line per measurement.  Arguments: [--model FILE] [--seconds S]; argv[0] is ignored.
/// Returns the exit status: 0, or 2 after an error message on stderr.
int run_bench(int argc, char** argv);

}  // namespace tern
