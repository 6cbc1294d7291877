#pragma once
#include "calibrate/activations.h"
#include "formats/imatrix.h"

namespace attar {

/// The importance matrix of a calibration pass: mean squares of every linear's input columns under the names that the matrices have in a GGUF
/// file. Embedding and output matrix are not in it, as in llama.cpp's own.
Imatrix importance_matrix(const ActivationStatistics& statistics, const ModelSpec& spec);

/// The same backwards: by the names of the model's weights. Error if a vector has another width than its weight, or no weight is in it.
std::map<std::string, std::vector<float>> importance_by_weight(const Imatrix& imatrix, const ModelSpec& spec);

}  // namespace attar
