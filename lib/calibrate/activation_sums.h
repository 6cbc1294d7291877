#pragma once
// Inside of the calibrate room: sums over positions, added up batch by batch.
#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "base/files.h"

namespace attar {

/// Named float64 vectors that grow by addition; "rows" and "tokens" (1) among them.
class ActivationSums {
 public:
  /// segments (B, T) int32: -1 is padding.
  void begin(const at::Tensor& segments);
  /// One tensor (B, T, C) that a decoder's observer saw under `name`.
  void see(const std::string& name, const at::Tensor& x);
  void end();

  at::Tensor& of(const std::string& name, int64_t size);
  const std::map<std::string, at::Tensor>& all() const { return sums_; }
  /// Names of linears whose input is another's: k_proj reads what q_proj reads.
  const std::map<std::string, std::string>& same_input() const { return same_; }

  /// All of it as one safetensors file, whole or absent, under `fingerprint` and the number of the next batch.
  void save(const fs::path& file, const std::string& fingerprint, int64_t next) const;
  /// The next batch, 0 if the file is missing or another's.
  int64_t load(const fs::path& file, const std::string& fingerprint);

 private:
  void block(const std::string& name, const at::Tensor& x);
  std::map<std::string, at::Tensor> sums_;
  std::map<std::string, std::string> same_;
  std::vector<uint8_t> valid_;
  std::vector<int64_t> lengths_;
  at::Tensor last_, block_input_;
  std::string last_name_;
};

}  // namespace attar
