// main.cc: the program tern_bench.
#include "tools/bench/bench.h"

int main(int argc, char** argv) { return tern::run_bench(argc, argv); }
