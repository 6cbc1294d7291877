// attar verify PATH --against M: does a file hold exactly this model's values?
#include <iostream>

#include "engine_tools.h"
#include "base/log.h"
#include "export/export.h"
#include "stages/stage.h"

namespace attar {

int tool_verify_against(const Words& words) {
  LoadOptions options;
  options.keep_dtype = true;
  options.tokenizer = false;
  const Checkpoint model = load_checkpoint(model_path(words.get("against")), options);
  std::vector<Fault> faults = compare_with_model(model_path(words.get("path")), model);
  if (!faults.empty()) throw Error(std::move(faults));
  std::cout << words.get("path") << ": every element equals " << words.get("against") << "\n";
  return 0;
}

}  // namespace attar
