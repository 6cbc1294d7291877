#pragma once
#include "export/onnx_weights.h"
#include "formats/onnx.h"
#include "stored/stored_model.h"

namespace attar {

/// Adds a whole decoder to `writer`: inputs input_ids, attention_mask, position_ids and past_key_values.N.key/value, outputs logits and
/// present.N.key/value, every operator of opset 21 but MatMulNBits and GatherBlockQuantized (com.microsoft) for blocks.
/// Rows may be padded on the left (mask 0); windows count positions in the cache. `forms`: of every two-dimensional parameter.
/// The checkpoint must outlive the writer.
void build_onnx_decoder(OnnxWriter& writer, const StoredModel& model, const std::map<std::string, OnnxForm>& forms);

}  // namespace attar
