#pragma once
#include <map>
#include <string>
#include <vector>

#include "data/rows.h"
#include "model/decoder.h"

namespace attar {

/// Diagonal statistics of one pass over calibration rows; padding counts for nothing. Sums are float64 on the CPU.
struct ActivationStatistics {
  std::map<std::string, at::Tensor> magnitude;    ///< linear's weight name -> (in): sqrt(sum over rows (mean over positions |x|)^2)
  std::map<std::string, at::Tensor> mean_square;  ///< linear's weight name -> (in): mean of x^2 over positions (importance matrix)
  std::vector<double> block_influence;            ///< per layer: mean over positions of 1 - cos(input, output)
  at::Tensor hidden_magnitude;                    ///< (D): magnitude as above, summed over the outputs of all norms
  int64_t tokens = 0, rows = 0;
};

/// Runs `model` over the first `rows` rows in batches of `batch`.
ActivationStatistics collect_activations(Decoder& model, const TokenRows& rows, int64_t limit, int64_t batch);

/// As one safetensors file with names `magnitude.<weight>`, `mean_square.<weight>`, `block_influence`, `hidden_magnitude`.
void save_statistics(const ActivationStatistics& statistics, const fs::path& file);
ActivationStatistics load_statistics(const fs::path& file);

}  // namespace attar
