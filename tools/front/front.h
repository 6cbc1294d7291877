#pragma once
#include "command.h"

namespace attar {

// One file per tool of the front door.
int tool_plan(const Words& words);
int tool_init(const Words& words);
int tool_tokenizer_train(const Words& words);
int tool_tokenizer_inspect(const Words& words);
int tool_tokenize(const Words& words);
int tool_report(const Words& words);
int tool_inspect(const Words& words);
int tool_verify(const Words& words);
int tool_verify_against(const Words& words);
int tool_export_gguf(const Words& words);
int tool_clean(const Words& words);
int tool_completion(const Words& words);
int tool_schema(const Words& words);
int tool_version(const Words& words);
int tool_route(const Words& words);
int tool_registry_add(const Words& words);
int tool_registry_list(const Words& words);
int tool_registry_compare(const Words& words);
int tool_registry_promote(const Words& words);
int tool_registry_rollback(const Words& words);
int tool_registry_lineage(const Words& words);
int tool_registry_recheck(const Words& words);

}  // namespace attar
