#include "export/genai.h"

#include "base/check.h"
#include "base/json.h"

namespace attar {

void check_genai(const ModelSpec& spec) {
  for (const LayerSpec& layer : spec.layers)
    check(layer.heads == spec.layers.front().heads && layer.kv_heads == spec.layers.front().kv_heads, "genai_config.json",
          "the same number of heads and kv heads in every layer", "layers that differ", "export without genai: ONNX Runtime itself runs the model");
  check(!spec.eos.empty(), "genai_config.json", "an end-of-sequence id (eos_token_id)", "none");
}

void write_genai_config(const StoredModel& model, const fs::path& folder, std::vector<std::string>& notes) {
  const ModelSpec& spec = model.spec;
  const LayerSpec& first = spec.layers.front();
  check_genai(spec);
  Json decoder = {{"session_options", {{"log_id", "onnxruntime-genai"}, {"provider_options", Json::array()}}},
                  {"filename", "model.onnx"},
                  {"head_size", spec.head_size},
                  {"hidden_size", spec.hidden},
                  {"inputs", {{"input_ids", "input_ids"}, {"attention_mask", "attention_mask"}, {"position_ids", "position_ids"},
                              {"past_key_names", "past_key_values.%d.key"}, {"past_value_names", "past_key_values.%d.value"}}},
                  {"outputs", {{"logits", "logits"}, {"present_key_names", "present.%d.key"}, {"present_value_names", "present.%d.value"}}},
                  {"num_attention_heads", first.heads},
                  {"num_hidden_layers", spec.layers.size()},
                  {"num_key_value_heads", first.kv_heads}};
  Json eos = spec.eos.size() == 1 ? Json(spec.eos.front()) : Json(spec.eos);
  Json facts = {{"type", spec.family}, {"vocab_size", spec.vocab}, {"context_length", spec.context},
                {"bos_token_id", spec.bos >= 0 ? spec.bos : spec.eos.front()}, {"eos_token_id", eos},
                {"pad_token_id", spec.pad >= 0 ? spec.pad : spec.eos.front()}, {"decoder", decoder}};
  Json search = {{"do_sample", false}, {"max_length", spec.context}, {"min_length", 0}, {"num_beams", 1}, {"num_return_sequences", 1},
                 {"past_present_share_buffer", false}, {"repetition_penalty", 1.0}, {"temperature", 1.0}, {"top_k", 1}, {"top_p", 1.0}};
  write_json(folder / "genai_config.json", Json{{"model", facts}, {"search", search}});
  if (!fs::exists(folder / "tokenizer.json"))
    notes.push_back("onnxruntime-genai reads tokenizer.json, which this model's tokenizer does not come with: it can be fed token ids only");
}

}  // namespace attar
