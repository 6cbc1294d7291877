#pragma once
#include <map>
#include <string>
#include <vector>

#include "data/rows.h"
#include "dist/process_group.h"
#include "model/decoder.h"

namespace attar {

/// Diagonal statistics of one pass over calibration rows; padding counts for nothing. float64 on the CPU. Sources: Minitron (arXiv 2407.14679),
/// section 2.2, for magnitudes; ShortGPT (arXiv 2403.03853), section 3.1, for block influence.
struct ActivationStatistics {
  std::map<std::string, at::Tensor> magnitude;    ///< linear's weight name -> (in): sqrt(sum over rows (mean over positions |x|)^2)
  std::map<std::string, at::Tensor> mean_square;  ///< linear's weight name -> (in): mean of x^2 over positions (importance matrix)
  std::vector<double> block_influence;            ///< per layer: mean over positions of 1 - cos(input, output)
  at::Tensor hidden_magnitude;                    ///< (D): magnitude as above, over what attention and MLP read (outputs of the norms before them)
  at::Tensor hidden_square;                       ///< (D): mean of x^2 over positions, layers' inputs and outputs
  int64_t tokens = 0, rows = 0;
  std::string model;  ///< checkpoint_fingerprint() of the model they are of; "" if nobody wrote it down
};

struct CalibrationOptions {
  int64_t rows = 512;       ///< the first so many are read
  int64_t batch = 16;       ///< rows a forward
  fs::path partial;         ///< sums so far are kept here (and a killed pass goes on from them); empty: nowhere
  int64_t save_every = 64;  ///< batches
};

/// Runs `model` over the first rows; memory grows with the model's widths only. Ranks of `group` share the batches. Same rows, batch and ranks give
/// the same bits whatever the threads and interruptions.
ActivationStatistics collect_activations(Decoder& model, const TokenRows& rows, const CalibrationOptions& options, ProcessGroup& group);

/// As one safetensors file with names `magnitude.<weight>`, `mean_square.<weight>`, `block_influence`, `hidden_magnitude`, `hidden_square`, `counts`;
/// the model stands in the metadata.
void save_statistics(const ActivationStatistics& statistics, const fs::path& file);
ActivationStatistics load_statistics(const fs::path& file);

}  // namespace attar
