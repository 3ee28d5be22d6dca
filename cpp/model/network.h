// network.h: what an architecture is: settings, tensors and state of a file, and a forward pass of named operations.
// SPDX-License-Identifier: MIT
#pragma once

#include <memory>

#include "model/batch.h"
#include "model/info.h"
#include "model/settings.h"
#include "model/tensor_plan.h"
#include "model/workspace.h"

namespace tern {

/// Made by the function that model/architectures.inc names; stays where it is while its file streams in.
class Network {
 public:
  virtual ~Network() = default;

  /// The settings below the architecture's name, and what they say about the model.
  virtual void read(Settings& settings, ModelInfo& info) = 0;
  /// The tensors, and the words of a conversation's state.
  virtual void list(TensorPlan& plan, const Vocabulary& vocabulary) = 0;
  /// With the buffers that forward() uses.
  virtual std::unique_ptr<Workspace> make_workspace() const = 0;
  /// Reads a batch: its states take it in, its logits receive what it wants.  See workspace.h.
  virtual void forward(const Batch& batch, Workspace& workspace) const = 0;
};

}  // namespace tern
