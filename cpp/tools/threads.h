// threads.h: the option --threads of the commands that compute.
#pragma once

#include <memory>

#include "base/result.h"
#include "model/model.h"
#include "tools/options.h"

namespace tern {

inline constexpr Option kThreadsOption{"--threads", "N", "threads, or auto: as many as help with this model (1)"};

/// Starts the threads that the arguments ask for; auto measures `model`.
Result<void> use_threads(const Arguments& arguments, const std::shared_ptr<const Model>& model);

}  // namespace tern
