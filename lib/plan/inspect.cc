#include "plan/inspect.h"

#include <algorithm>

#include "base/check.h"
#include "base/utf8.h"
#include "base/yaml.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "plan/packed_folder.h"
#include "plan/recipe.h"
#include "report/terminal.h"
#include "spec/gguf_names.h"
#include "spec/model_spec.h"
#include "tokenizer/tokenizer.h"

namespace attar {
namespace {

Json spec_facts(const ModelSpec& s) {
  Json ffn = Json::array();
  for (const LayerSpec& layer : s.layers) ffn.push_back(layer.ffn);
  return {{"family", s.family}, {"parameters", parameter_count(s)}, {"vocab", s.vocab}, {"hidden", s.hidden}, {"layers", s.layers.size()},
          {"heads", s.layers.empty() ? 0 : s.layers[0].heads}, {"kv_heads", s.layers.empty() ? 0 : s.layers[0].kv_heads}, {"head_size", s.head_size},
          {"ffn", s.uniform() && !s.layers.empty() ? Json(s.layers[0].ffn) : ffn}, {"context", s.context}, {"rope", s.rope.kind}, {"tied", s.tied}};
}

Json tokenizer_facts(const fs::path& path) {
  const auto tokenizer = load_tokenizer(path);
  return {{"kind", tokenizer->kind()},
          {"size", tokenizer->size()},
          {"fingerprint", tokenizer->fingerprint()},
          {"bos", tokenizer->bos() ? Json(*tokenizer->bos()) : Json()},
          {"eos", tokenizer->eos() ? Json(*tokenizer->eos()) : Json()},
          {"chat_template", !tokenizer->chat_template().empty()}};
}

Json inspect_gguf(const fs::path& path) {
  const GgufFile file(path);
  Json out = {{"kind", "gguf"}, {"path", path.string()}, {"bytes", fs::file_size(path)}};
  out["name"] = file.metadata().text("general.name", "");
  out["architecture"] = file.metadata().text("general.architecture", "");
  out["license"] = file.metadata().text("general.license", "");
  uint64_t elements = 0, bytes = 0;
  Json tensors = Json::array();
  std::map<std::string, int64_t> types;
  for (const GgufTensor& t : file.tensors()) {
    elements += static_cast<uint64_t>(t.elements()), bytes += t.size;
    ++types[ggml_type_info(t.type).name];
    tensors.push_back({{"name", t.name}, {"type", ggml_type_info(t.type).name}, {"shape", t.shape}, {"bytes", t.size}});
  }
  out["elements"] = elements;
  out["bits_per_weight"] = elements ? 8.0 * static_cast<double>(bytes) / static_cast<double>(elements) : 0.0;
  out["types"] = types;
  try {
    out["model"] = spec_facts(spec_from_gguf(file));
  } catch (const Error& error) {
    out["model"] = Json();
    out["note"] = error.faults()[0].line();
  }
  if (file.metadata().has("tokenizer.ggml.tokens")) {
    try {
      out["tokenizer"] = tokenizer_facts(path);
    } catch (const Error& error) {
      out["tokenizer"] = {{"kind", file.metadata().text("tokenizer.ggml.model", "")}, {"note", error.faults()[0].line()}};
    }
  }
  out["tensors"] = std::move(tensors);
  return out;
}

/// recipe.json of a run: its name and the kinds of its stages by id. Error if it is none, or an id is no plain name: what an id names may be removed.
struct RunRecipe {
  std::string name;
  std::vector<std::pair<std::string, std::string>> stages;
};
RunRecipe read_run_recipe(const fs::path& folder) {
  const std::string file = (folder / "recipe.json").string();
  const Json recipe = read_json(folder / "recipe.json");
  check(recipe.is_object(), file, "an object", to_line(recipe).substr(0, 80));
  RunRecipe out;
  if (recipe.contains("name")) out.name = get<std::string>(recipe, "name", file);
  if (!recipe.contains("stages")) return out;
  const Json stages = get<Json>(recipe, "stages", file);
  check(stages.is_object(), file + ": stages", "an object", to_line(stages).substr(0, 80));
  for (const auto& [id, stage] : stages.items()) {
    check_inside(id, file + ": stages");
    check(id.find('/') == std::string::npos, file + ": stages", "plain names", "'" + one_line(id.substr(0, 80)) + "'");
    out.stages.emplace_back(id, stage.is_object() && stage.contains("kind") ? get<std::string>(stage, "kind", file + ": " + id) : "");
  }
  return out;
}

Json safetensors_list(const std::map<std::string, TensorEntry>& entries) {
  Json tensors = Json::array();
  for (const auto& [name, entry] : entries)
    tensors.push_back({{"name", name}, {"type", dtype_name(entry.dtype)}, {"shape", entry.shape}, {"bytes", entry.end - entry.begin}});
  return tensors;
}

Json inspect_folder(const fs::path& path) {
  Json out = {{"kind", "folder"}, {"path", path.string()}};
  const bool manifest = fs::exists(path / "manifest.json"), config = fs::exists(path / "config.json");
  if (fs::exists(path / "recipe.json")) {
    const RunRecipe recipe = read_run_recipe(path);
    out["kind"] = "run";
    out["name"] = recipe.name;
    Json stages = Json::array();
    for (const auto& [id, kind] : recipe.stages)
      stages.push_back({{"id", id}, {"kind", kind}, {"state", fs::exists(path / id / "manifest.json") ? "whole" : "absent"}});
    out["stages"] = std::move(stages);
    return out;
  }
  if (fs::exists(path / "packed.json")) {
    out = packed_facts(path);
    out["bytes"] = folder_bytes(path);
    return out;
  }
  if (config) {
    out["kind"] = "hf";
    const Json json = read_json(path / "config.json");
    out["model"] = spec_facts(spec_from_config(json, (path / "config.json").string()));
  }
  if (fs::exists(path / "model.onnx")) out["kind"] = "onnx";
  if (manifest) {
    const Manifest m = read_manifest(path);
    out["kind"] = m.kind == "capture" ? "cache" : "artifact";
    out["stage"] = {{"name", m.name}, {"kind", m.kind}, {"seed", m.seed}, {"seconds", m.seconds}, {"key", m.key}};
    out["configuration"] = m.configuration;
    out["inputs"] = m.inputs;
    Json facts = m.facts;
    facts.erase("tensors");
    out["facts"] = std::move(facts);
    out["code"] = m.code;
  }
  if (has_tokenizer(path)) out["tokenizer"] = tokenizer_facts(path);
  out["bytes"] = folder_bytes(path);
  if (fs::exists(path / "model.safetensors") || fs::exists(path / "model.safetensors.index.json"))
    out["tensors"] = safetensors_list(SafetensorsFolder(path).tensors());
  if (!manifest && !config && !out.contains("tokenizer") && out["kind"] != "onnx")
    fail(path.string(), "a model, an artifact, a tokenizer, a cache, packed rows or a run",
         "a folder without config.json, manifest.json, packed.json or tokenizer");
  if (!manifest && !config && out.contains("tokenizer")) out["kind"] = "tokenizer";
  return out;
}

}  // namespace

Json inspect(const fs::path& path) {
  check(fs::exists(path), path.string(), "a file or folder", "nothing there");
  if (fs::is_directory(path)) return inspect_folder(path);
  const std::string ending = path.extension().string(), name = path.filename().string();
  if (ending == ".gguf") return inspect_gguf(path);
  if (ending == ".safetensors") {
    const SafetensorsFile file(path);
    return {{"kind", "safetensors"},
            {"path", path.string()},
            {"bytes", fs::file_size(path)},
            {"metadata", file.metadata()},
            {"tensors", safetensors_list(file.tensors())}};
  }
  if (ending == ".model" || name == "tokenizer.json" || name == "vocab.json")
    return {{"kind", "tokenizer"}, {"path", path.string()}, {"tokenizer", tokenizer_facts(path)}};
  if (ending == ".yaml" || ending == ".yml") {
    const Recipe recipe = load_recipe(path, {});
    Json stages = Json::array();
    for (const Stage& stage : recipe.stages) stages.push_back({{"id", stage.id}, {"kind", stage.kind}, {"state", ""}});
    return {{"kind", "recipe"}, {"path", path.string()}, {"name", recipe.name}, {"stages", stages}};
  }
  fail(path.string(), ".gguf, .safetensors, .model, tokenizer.json, a recipe or a folder", ending.empty() ? "a file without an ending" : ending);
}

std::string inspect_text(const Json& facts, size_t limit) {
  std::string out;
  const auto line = [&](const std::string& key, const std::string& value) {
    out += key + std::string(key.size() < 14 ? 14 - key.size() : 1, ' ') + value + "\n";
  };
  for (const auto& [key, value] : facts.items()) {
    if (key == "tensors" || key == "stages") continue;
    if (value.is_object()) {
      std::string text;
      for (const auto& [inner, item] : value.items()) {
        std::string shown = item.is_string() ? item.get<std::string>() : to_line(item);
        if (shown.size() > 48) shown = shown.substr(0, 45) + "...";
        text += (text.empty() ? "" : ", ") + inner + " " + shown;
      }
      line(key, text);
    } else {
      line(key, value.is_string() ? value.get<std::string>() : key == "bytes" ? human_bytes(value.get<double>()) : to_line(value));
    }
  }
  if (facts.contains("stages")) {
    std::vector<std::vector<std::string>> rows;
    for (const Json& stage : facts["stages"])
      rows.push_back({stage["id"].get<std::string>(), stage["kind"].get<std::string>(), stage["state"].get<std::string>()});
    out += format_table({"stage", "kind", "state"}, rows);
  }
  if (facts.contains("tensors")) {
    std::vector<std::vector<std::string>> rows;
    for (const Json& tensor : facts["tensors"]) {
      if (rows.size() == limit) break;
      rows.push_back({tensor["name"].get<std::string>(), tensor["type"].get<std::string>(), to_line(tensor["shape"]),
                      human_bytes(tensor["bytes"].get<double>())});
    }
    out += format_table({"tensor", "type", "shape", "size"}, rows);
    if (facts["tensors"].size() > rows.size()) out += str("and ", facts["tensors"].size() - rows.size(), " more; --json lists all\n");
  }
  return out;
}

std::vector<Fault> verify_path(const fs::path& path) {
  check(fs::exists(path), path.string(), "a file or folder", "nothing there");
  std::vector<Fault> faults;
  try {
    if (fs::is_directory(path) && fs::exists(path / "recipe.json")) {
      for (const auto& [id, kind] : read_run_recipe(path).stages) {
        if (!fs::exists(path / id / "manifest.json")) continue;
        for (Fault& fault : verify_manifest(path / id, false)) faults.push_back(std::move(fault));
      }
      return faults;
    }
    if (fs::is_directory(path) && fs::exists(path / "manifest.json")) faults = verify_manifest(path, false);
    if (fs::is_directory(path) && fs::exists(path / "packed.json"))
      for (Fault& fault : verify_packed(path)) faults.push_back(std::move(fault));
    if (faults.empty()) inspect(path);
  } catch (const Error& error) {
    faults.insert(faults.end(), error.faults().begin(), error.faults().end());
  }
  return faults;
}

Json clean_run(const fs::path& run_folder, bool dry_run) {
  check(fs::exists(run_folder / "recipe.json"), run_folder.string(), "the folder of a run, with recipe.json", "none");
  const RunRecipe recipe = read_run_recipe(run_folder);
  Json removed = Json::array(), kept = Json::array();
  uint64_t freed = 0;
  const auto remove = [&](const fs::path& path) {
    freed += fs::is_directory(path) ? folder_bytes(path) : fs::file_size(path);
    removed.push_back(path.filename().string());
    if (!dry_run) fs::remove_all(path);
  };
  for (const auto& entry : fs::directory_iterator(run_folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && name[0] == '.' && (name.find(".work") != std::string::npos || name.find(".tmp-") != std::string::npos))
      remove(entry.path());
  }
  for (const auto& [id, kind] : recipe.stages) {
    if (!fs::exists(run_folder / id)) continue;
    // Caches are what is large and can be made again; models, files and reports are what a run is for.
    if (kind == "capture") remove(run_folder / id);
    else kept.push_back(id);
  }
  return {{"removed", removed}, {"kept", kept}, {"freed_bytes", freed}};
}

}  // namespace attar
