#pragma once
#include "command.h"

namespace attar {

/// The tools that read and write without LibTorch, by name.
const std::map<std::string, Tool>& front_tools();

/// Whether this export is the front door's: a GGUF file, of a model without masks.
bool exports_here(const Words& words);

}  // namespace attar
