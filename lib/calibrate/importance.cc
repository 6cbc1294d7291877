#include "calibrate/importance.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "spec/gguf_names.h"

namespace attar {

Imatrix importance_matrix(const ActivationStatistics& statistics, const ModelSpec& spec) {
  Imatrix out;
  out.tokens = statistics.tokens;
  out.chunks = statistics.rows;
  out.chunk_size = statistics.rows > 0 ? statistics.tokens / statistics.rows : 0;
  for (const GgufMapping& mapping : gguf_mapping(spec)) {
    // Parts of a fused matrix read the same input.
    const auto found = statistics.mean_square.find(mapping.sources.front());
    if (!mapping.matrix || found == statistics.mean_square.end()) continue;
    const at::Tensor mean = found->second.to(at::kFloat).contiguous();
    out.means[mapping.gguf].assign(mean.const_data_ptr<float>(), mean.const_data_ptr<float>() + mean.numel());
  }
  return out;
}

std::map<std::string, std::vector<float>> importance_by_weight(const Imatrix& imatrix, const ModelSpec& spec) {
  std::map<std::string, int64_t> widths;
  for (const ParameterInfo& p : parameters_of(spec)) widths[p.name] = p.shape.back();
  std::map<std::string, std::vector<float>> out;
  for (const GgufMapping& mapping : gguf_mapping(spec)) {
    const auto found = imatrix.means.find(mapping.gguf);
    if (!mapping.matrix || found == imatrix.means.end()) continue;
    for (const std::string& source : mapping.sources) {
      if (static_cast<int64_t>(found->second.size()) != widths.at(source))
        fail("imatrix " + imatrix.file + ": " + mapping.gguf, attar::str(widths.at(source), " values"), std::to_string(found->second.size()),
             "it was collected on another model");
      out[source] = found->second;
    }
  }
  if (out.empty()) fail("imatrix " + imatrix.file, "matrices of this model", "none of them", "it was collected on another model");
  return out;
}

}  // namespace attar
