#pragma once
#include <ATen/core/Tensor.h>

#include "base/files.h"
#include "eval/token_routing.h"

namespace attar {

struct TokenRouteRequest {
  fs::path cache, model;
  fs::path data, task;     ///< of the capture; both empty: what the cache's manifest says, tried from here
  TokenRoutingOptions options;
  at::Device device = at::kCPU;
};

/// Routing token by token between a student and the large model whose cache this is (eval/token_routing.h). The rows are made again as the capture
/// made them, by the configuration in the cache's manifest. Error unless tokenizer, data and rows are the cache's.
TokenRouting route_tokens(const TokenRouteRequest& request);

}  // namespace attar
