#include "front_tools.h"

#include "front/front.h"

namespace attar {

const std::map<std::string, Tool>& front_tools() {
  static const std::map<std::string, Tool> tools = {
      {"plan", tool_plan},
      {"init", tool_init},
      {"tokenizer train", tool_tokenizer_train},
      {"tokenizer inspect", tool_tokenizer_inspect},
      {"tokenize", tool_tokenize},
      {"report", tool_report},
      {"inspect", tool_inspect},
      {"verify", tool_verify},
      {"export", tool_export_gguf},
      {"clean", tool_clean},
      {"completion", tool_completion},
      {"run", tool_schema},
      {"version", tool_version},
      {"route", tool_route},
      {"registry add", tool_registry_add},
      {"registry list", tool_registry_list},
      {"registry compare", tool_registry_compare},
      {"registry promote", tool_registry_promote},
      {"registry rollback", tool_registry_rollback},
      {"registry lineage", tool_registry_lineage},
      {"registry recheck", tool_registry_recheck},
  };
  return tools;
}

}  // namespace attar
