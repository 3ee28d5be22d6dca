// bench_main.cc: the program tern_bench, the same as `tern bench`.
#include "tools/bench.h"

int main(int argc, char** argv) { return tern::run_bench(argc, argv); }
