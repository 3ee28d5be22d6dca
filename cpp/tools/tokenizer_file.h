// tokenizer_file.h: the tokenizer in a model file, for the command line programs.
#pragma once

#include <string>

#include "base/result.h"
#include "text/tokenizer.h"

namespace tern {

/// Reads no further than the file's header.  Error: no tokenizer but bytes, or one that cannot be used.
Result<Tokenizer> load_tokenizer(const std::string& path);

}  // namespace tern
