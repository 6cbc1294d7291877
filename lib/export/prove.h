#pragma once
#include "formats/imatrix.h"
#include "stored/stored_model.h"

namespace attar {

/// What reading a written file back found.
struct Proof {
  int64_t elements = 0;       ///< found equal to the model
  std::vector<Fault> faults;  ///< tensor, index and both values; a few of them at most
};

/// Reads a GGUF file back and compares every element, bit for bit, with the model's own codes where the file has their type, else with the
/// model's value rounded to the type the file has. Rows are put back into the model's order by a rule of its own.
Proof prove_gguf(const fs::path& file, const StoredModel& model, const Imatrix& imatrix);

/// The same for an ONNX file of ours and for a Hugging Face folder.
Proof prove_onnx(const fs::path& model_file, const StoredModel& model);
Proof prove_hf(const fs::path& folder, const StoredModel& model);

/// Throws the proof's faults as one Error, saying that nothing was kept, after removing `written`.
void demand_proven(const Proof& proof, const fs::path& written);

/// Adds a fault unless `got` and `expected` (float32, equal counts) hold the same numbers; NaN equals NaN, 0 equals -0. `columns`: for the index.
void compare_values(const std::string& tensor, const float* expected, const float* got, int64_t count, int64_t columns, int64_t first_row,
    Proof& proof);

}  // namespace attar
