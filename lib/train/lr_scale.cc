#include "train/lr_scale.h"

#include <cmath>

#include "base/check.h"

namespace attar {

double lr_scale_of(const std::string& name, const LrScaleConfig& c) {
  for (const auto& [key, share] : {std::pair("embedding", c.embedding), std::pair("head", c.head), std::pair("matrices", c.matrices),
                                   std::pair("norms", c.norms), std::pair("biases", c.biases), std::pair("projections", c.projections)})
    check(std::isfinite(share) && share >= 0, std::string("train.lr_scale.") + key, "0 or more", std::to_string(share));
  if (name.starts_with("projection.")) return c.projections;
  if (name == "model.embed_tokens.weight") return c.embedding;
  if (name == "lm_head.weight") return c.head;
  if (name.ends_with("norm.weight")) return c.norms;
  return name.ends_with(".bias") ? c.biases : c.matrices;
}

}  // namespace attar
