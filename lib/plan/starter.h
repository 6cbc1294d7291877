#pragma once
#include "base/files.h"

namespace attar {

/// What was made of the user's examples.
struct Starter {
  fs::path task, recipe;
  std::string text, label;      ///< fields chosen
  int64_t rows = 0, labels = 0, train = 0, test = 0;
};

/// Makes `folder` with train.jsonl, test.jsonl (a tenth of the rows, drawn by seed, no text in both), task.yaml and recipe.yaml for a classification
/// task over FILE's rows. Fields are guessed unless named: the label is the one with few distinct values, the text the longest of the others.
Starter make_starter(const fs::path& folder, const fs::path& from, const std::string& text_field, const std::string& label_field, uint64_t seed);

}  // namespace attar
