// main.cc: the program tern_bench.
#include <algorithm>

#include "tools/bench/bench.h"

int main(int argc, char** argv) {
  return tern::run_program("tern_bench", [&](tern::Output& out) {
    return tern::run_bench({argv + std::min(argc, 1), static_cast<size_t>(std::max(argc - 1, 0))}, nullptr, out);
  });
}
