#pragma once
#include <memory>

#include "prune/masks.h"
#include "stages/stage.h"

namespace attar {

/// The masks that lie beside a model; null: none.
std::shared_ptr<const Masks> masks_of(const fs::path& model, const ModelSpec& spec);

/// Puts the masks beside the stage's result and their facts into the manifest. A result whose grid has no zero (q4_k's does not always) no longer
/// has them: that is said, and no masks are written. Null: nothing.
void keep_masks(StageRun& run, const std::shared_ptr<const Masks>& masks, const Checkpoint& model);

/// What an exported file of a masked model gains, as a sentence.
std::string mask_note(const Masks& masks, const ModelSpec& spec);

}  // namespace attar
