// bench.h: the measurements behind the program tern_bench and the bench page.
#pragma once

#include <memory>
#include <span>

#include "base/result.h"
#include "model/model.h"
#include "tools/output.h"

namespace tern {

/// Writes one JSON line per measurement.  words: those of `tern_bench --help`.
/// model: measured in place of the file that --model names, which then is only a name; or null.
Result<void> run_bench(std::span<char* const> words, std::shared_ptr<const Model> model, Output& out);

}  // namespace tern
