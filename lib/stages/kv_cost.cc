#include "stages/kv_cost.h"

#include "eval/fidelity.h"
#include "quant/activations.h"

namespace attar {

Json kv_cache_cost(const Decoder& model, const std::string& type, ScoredPositions& positions) {
  Decoder cached(model.spec(), model.weights());
  cached.set_cache_hook(fake_kv_cache(type, model.spec().head_size));
  const FidelityResult cost = fidelity(model, cached, positions);
  return {{"type", type}, {"perplexity", cost.model.to_json()}, {"kld", cost.kld_json()}, {"top1_agreement", cost.top1_json()}};
}

}  // namespace attar
