#pragma once
#include "model/checkpoint.h"

namespace attar {

/// Room for a tensor of the CPU that is about to be filled, in large pages where the system gives them: fewer faults while it is filled, and fewer
/// looked-up addresses whenever it is read.
at::Tensor room_for(const std::vector<int64_t>& shape, at::ScalarType type);

}  // namespace attar
