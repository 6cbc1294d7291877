#include "plan/stage_kinds.h"

#include <algorithm>

#include "plan/recipe.h"

namespace attar {
namespace {

template <HasFields Config>
StageKindInfo stage_kind(std::string kind, std::string help, std::vector<ReferenceKey> references) {
  // Data may be what a stage wrote, whole or as part of a mixture.
  const auto data = std::find_if(references.begin(), references.end(), [](const ReferenceKey& key) { return key.key == "data.path"; });
  if (data != references.end()) {
    data->kinds = {"synthesize"};
    references.push_back({"data.mix", {"synthesize"}, false});
  }
  return {std::move(kind), std::move(help), std::move(references),
          [](const Node& node, const std::string& path, std::vector<Fault>& faults) {
            Config config;
            read_fields(config, node, path, faults);
            return write_fields(config);
          },
          [] { return schema_of<Config>(); }};
}

}  // namespace

const std::vector<StageKindInfo>& all_stage_kinds() {
  static const std::vector<std::string> models = {"distill", "prune", "quantize"};
  static const std::vector<StageKindInfo> all = {
      stage_kind<TrainTokenizerConfig>("train_tokenizer", "trains a SentencePiece tokenizer", {{"data", {}, false}}),
      stage_kind<DistillConfig>("distill", "trains a student from a teacher's logits, or plainly",
                                {{"model", models, true}, {"teacher", {"distill", "prune", "quantize", "capture"}, false},
                                 {"tokens", {"train_tokenizer"}, false}, {"init.from", models, false}, {"data.path", {}, false}}),
      stage_kind<CaptureConfig>("capture", "keeps a teacher's logits in a cache",
                                {{"teacher", models, false}, {"tokens", {"train_tokenizer"}, false}, {"import", {}, false},
                                 {"merge", {"capture"}, false}, {"data.path", {}, false}}),
      stage_kind<SynthesizeConfig>("synthesize", "a teacher writes answers to prompts, or goes on with texts: data to learn from",
                                   {{"teacher", models, true}, {"tokens", {"train_tokenizer"}, false}, {"data.path", {}, false}}),
      stage_kind<PruneConfig>("prune", "removes what matters least",
                              {{"model", models, true}, {"calibration", {"calibrate"}, false}, {"search.latency", {}, false},
                               {"data.path", {}, false}}),
      stage_kind<CalibrateConfig>("calibrate", "statistics of a model's inputs and their importance matrix",
                                  {{"model", models, true}, {"data.path", {}, false}}),
      stage_kind<QuantConfig>("quantize", "puts weights on the grid of the file, with or without fine-tuning",
                              {{"model", models, true}, {"teacher", {"distill", "prune", "quantize", "capture"}, false},
                               {"imatrix", {"calibrate"}, false}, {"budget.plan", {"prune"}, false}, {"data.path", {}, false}}),
      stage_kind<ExportConfig>("export", "writes GGUF, ONNX or a Hugging Face folder, and proves it",
                               {{"model", models, true}, {"imatrix", {"calibrate"}, false}}),
      stage_kind<EvaluateConfig>("evaluate", "measures artifacts and writes the report",
                                 {{"of", {"distill", "prune", "quantize", "export"}, true},
                                  {"base", {"distill", "prune", "quantize", "export"}, false}, {"text", {}, false}, {"prices", {}, false}}),
      stage_kind<RouteConfig>("route", "decides which requests a small model may answer alone, with a guarantee",
                              {{"of", {"evaluate"}, true}, {"small", {"distill", "prune", "quantize", "export"}, true},
                               {"large", {"distill", "prune", "quantize", "export"}, true}, {"prices", {}, false}}),
  };
  return all;
}

const StageKindInfo* find_stage_kind(const std::string& kind) {
  for (const StageKindInfo& k : all_stage_kinds())
    if (k.kind == kind) return &k;
  return nullptr;
}

const std::vector<std::pair<std::string, std::string>>& stage_kinds() {
  static const std::vector<std::pair<std::string, std::string>> list = [] {
    std::vector<std::pair<std::string, std::string>> out;
    for (const StageKindInfo& k : all_stage_kinds()) out.push_back({k.kind, k.help});
    return out;
  }();
  return list;
}

Json recipe_schema() {
  Json variants = Json::array();
  for (const StageKindInfo& k : all_stage_kinds()) {
    Json schema = k.schema();
    Json properties = {{"kind", {{"const", k.kind}, {"description", k.help}}},
                       {"seed", {{"type", "integer"}, {"minimum", 0}, {"description", "of this stage's random choices; absent: the recipe's"}}}};
    properties.update(schema["properties"]);
    schema["properties"] = std::move(properties);
    Json required = Json::array({"kind"});
    for (const ReferenceKey& r : k.references)
      if (r.required) required.push_back(r.key);
    schema["required"] = std::move(required);
    variants.push_back(std::move(schema));
  }
  Json text = {{"type", "string"}};
  return {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
          {"title", "attar recipe"},
          {"type", "object"},
          {"required", {"stages"}},
          {"additionalProperties", false},
          {"properties",
           {{"name", {{"type", "string"}, {"description", "names the run's folder; the file's name if absent"}}},
            {"seed", {{"type", "integer"}, {"minimum", 0}, {"description", "of every random choice"}}},
            {"task", {{"type", "string"}, {"description", "task file: configs/tasks/*.yaml"}}},
            {"license", {{"type", "string"}, {"description", "carried into every export"}}},
            {"base_model", {{"type", "string"}, {"description", "carried into every export"}}},
            {"description", text},
            {"data", schema_of<DataConfig>()},
            {"stages", {{"type", "object"}, {"minProperties", 1}, {"additionalProperties", {{"oneOf", variants}}}}},
            {"sweep", {{"type", "object"},
                       {"description", "STAGE.KEY: list of values; every combination becomes a candidate that shares all stages it can"},
                       {"additionalProperties", {{"type", Json::array({"array", "object"})}}}}},
            {"gates", {{"type", "object"}, {"additionalProperties", schema_of<GateConfig>()}}}}}};
}

}  // namespace attar
