#pragma once
#include "command.h"

namespace attar {

/// The tools that read and write without LibTorch, by name.
const std::map<std::string, Tool>& front_tools();

}  // namespace attar
