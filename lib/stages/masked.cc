#include "stages/masked.h"

#include "base/check.h"
#include "base/log.h"

namespace attar {

std::shared_ptr<const Masks> masks_of(const fs::path& model, const ModelSpec& spec) {
  Masks masks = load_masks(model, spec);
  return masks.empty() ? nullptr : std::make_shared<const Masks>(std::move(masks));
}

void keep_masks(StageRun& run, const std::shared_ptr<const Masks>& masks, const Checkpoint& model) {
  if (!masks) return;
  Json facts = mask_facts(*masks, model.spec);
  const int64_t broken = broken_zeros(*masks, model.weights);
  facts["broken"] = broken;
  if (broken == 0) {
    save_masks(*masks, run.out);
  } else {
    facts.erase("file");
    log_warn(str(run.label, ": ", broken, " masked weights are no longer zero: their grid has no zero at that place; use q8_0, q4_0 or another type "
                 "without offsets to keep them"));
  }
  run.facts["masks"] = std::move(facts);
}

std::string mask_note(const Masks& masks, const ModelSpec& spec) {
  const Json facts = mask_facts(masks, spec);
  return str(std::lround(100 * facts["sparsity"].get<double>()), "% of the linears' weights are zero by a mask (", masks.method, " ", masks.pattern,
             "); zeros are stored like any other weight, so the file is no smaller and no faster");
}

}  // namespace attar
