// files.h: reading files for the command line programs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/model.h"

namespace tern {

/// Calls `use` with the file's bytes, a piece at a time, until it fails or the file ends.
Result<void> for_each_piece(const std::string& path, const std::function<Result<void>(std::span<const uint8_t>)>& use);

Result<std::vector<uint8_t>> read_file(const std::string& path);

/// Streams the file into a model.  Errors begin with the path.
Result<std::shared_ptr<const Model>> load_model(const std::string& path);

}  // namespace tern
