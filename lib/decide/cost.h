#pragma once
#include "base/files.h"
#include "base/json.h"
#include "spec/decide_configs.h"

namespace attar {

/// A price file, checked: every price has its day, shares and prices are possible. Error names what is missing.
PriceConfig read_prices(const fs::path& file);

/// What serving costs, by artifacts.<id>.latency of the report: {currency, per_million_input_tokens, per_million_output_tokens,
/// per_million_conversations, one_conversation_s, apis: {NAME: {per_million_conversations, times_cheaper, break_even_conversations_per_month,
/// conversations_per_month_possible}}, assumptions}. Null if the artifact has no measured times.
/// Time is one request's at a time, so these are upper bounds for a server that batches.
Json artifact_cost(const Json& artifact, const PriceConfig& prices);

/// Price of a million conversations by an API.
double api_conversations(const ApiPrice& api, const ConversationConfig& conversation);

/// The small model's answer as a share of the large model's, from the report's `cost`; 0 where it is not known. `api` empty: the first of the file.
double cost_share(const Json& cost, const std::string& api);

}  // namespace attar
