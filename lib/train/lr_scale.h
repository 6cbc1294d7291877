#pragma once
#include <string>

#include "spec/train_config.h"

namespace attar {

/// The share of the learning rate that a parameter of this name gets. Error if any share is negative or not finite.
double lr_scale_of(const std::string& name, const LrScaleConfig& config);

}  // namespace attar
