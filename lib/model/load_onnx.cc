#include "base/check.h"
#include "model/load_parts.h"

namespace attar {

ModelSpec onnx_spec(const fs::path& model) { fail("model " + model.string(), "a Hugging Face folder or a .gguf file", "an ONNX file"); }

Checkpoint onnx_checkpoint(const fs::path& model, const LoadOptions&) { return Checkpoint{onnx_spec(model), {}, {}, nullptr, "", ""}; }

}  // namespace attar
