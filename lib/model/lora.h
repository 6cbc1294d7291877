#pragma once
#include "model/checkpoint.h"
#include "spec/train_config.h"

namespace attar {

/// Factors of one linear's change: W + scale B A.
struct LoraPair {
  at::Tensor a;  ///< (rank, in) float32
  at::Tensor b;  ///< (out, rank) float32, zero at the start
};

/// Low-rank adapters of a model's linears (Hu et al. 2021, "LoRA"), by the weight's name.
class LoraAdapters {
 public:
  /// Fresh ones: A normal with deviation 1 / sqrt(3 in), B zero; same seed, same bits. Error if a target names no linear of a layer.
  LoraAdapters(const ModelSpec& spec, const LoraConfig& config, uint64_t seed, at::Device device = at::kCPU);
  double scale() const { return alpha_ / static_cast<double>(rank_); }
  const std::map<std::string, LoraPair>& pairs() const { return pairs_; }
  const LoraPair* find(const std::string& weight) const;
  void require_grad(bool wanted);
  /// Adds scale B A to the weights, in place of the tensors there.
  void merge_into(StateDict& weights) const;
  /// adapter_config.json and adapter_model.safetensors as the peft package lays them out. `base_model`: the name it writes there.
  void save(const fs::path& folder, const std::string& base_model) const;

 private:
  int64_t rank_;
  double alpha_;
  std::vector<std::string> targets_;
  std::map<std::string, LoraPair> pairs_;
};

}  // namespace attar
