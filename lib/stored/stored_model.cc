#include "stored/stored_model.h"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "base/check.h"
#include "base/json.h"
#include "spec/gguf_names.h"
#include "stored/readers.h"

namespace attar {
namespace {

enum class CheckpointKind { hugging_face, gguf, onnx };
struct CheckpointPlace {
  CheckpointKind kind;
  fs::path path;    ///< folder (hugging_face) or file
  fs::path folder;  ///< where tokenizer and card lie
};

bool is_hub_name(const std::string& text) {
  const size_t slash = text.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == text.size() || text.find('/', slash + 1) != std::string::npos) return false;
  return text[0] != '.' && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '/';
  });
}

bool begins_like_gguf(const fs::path& path) {
  const MappedFile file(path);
  return file.bytes().size() >= 4 && std::memcmp(file.bytes().data(), "GGUF", 4) == 0;
}

/// What kind of model lies at `path`.
CheckpointPlace find_checkpoint(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    const std::string text = path.string(), suffix = path.extension().string();
    if (is_hub_name(text) && suffix != ".gguf" && suffix != ".onnx")
      fail("model " + text, "a folder or file on this machine", "a name of the Hugging Face hub or a missing path",
           "fetch it with: hf download " + text + " --local-dir " + path.filename().string());
    fail("model " + text, "to be there", "nothing");
  }
  if (!fs::is_directory(path)) {
    if (path.extension() == ".onnx") return {CheckpointKind::onnx, path, path.parent_path()};
    if (path.extension() == ".gguf" || begins_like_gguf(path)) return {CheckpointKind::gguf, path, path.parent_path()};
    if (path.filename() == "config.json" || path.extension() == ".safetensors")
      fail("model " + path.string(), "the folder of config.json and safetensors", "a file of it", "give " + path.parent_path().string());
    fail("model " + path.string(), "a Hugging Face folder, a .gguf file or an ONNX folder", "a file of another kind");
  }
  const bool config = fs::exists(path / "config.json");
  const bool tensors = fs::exists(path / "model.safetensors") || fs::exists(path / "model.safetensors.index.json");
  if (config && tensors) {
    if (fs::exists(path / "model.safetensors") && fs::exists(path / "model.safetensors.index.json"))
      fail("model " + path.string(), "model.safetensors or the shards of model.safetensors.index.json", "both", "remove the one that is not meant");
    return {CheckpointKind::hugging_face, path, path};
  }
  std::vector<fs::path> ggufs;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".gguf") ggufs.push_back(entry.path());
  if (fs::exists(path / "model.onnx")) {
    if (!ggufs.empty()) fail("model " + path.string(), "one model", "model.onnx and " + ggufs[0].filename().string(), "name the file");
    return {CheckpointKind::onnx, path / "model.onnx", path};
  }
  if (!config && !tensors && ggufs.size() == 1) return {CheckpointKind::gguf, ggufs[0], path};
  if (!config && ggufs.size() > 1) fail("model " + path.string(), "one .gguf file", str(ggufs.size(), " of them"), "name the file");
  const bool pickled = fs::exists(path / "pytorch_model.bin") || fs::exists(path / "pytorch_model.bin.index.json");
  fail("model " + path.string(), "config.json and model.safetensors", config ? "no safetensors" : "no config.json",
       pickled ? "pytorch_model.bin runs code when it is read: save the model as safetensors first" : "");
}

ModelSpec hugging_face_spec(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  ModelSpec spec = spec_from_config(read_json(file), file.string());
  if (const fs::path generation = folder / "generation_config.json"; fs::exists(generation)) {
    // Ids named here win over config.json's, as in transformers.
    const Json facts = read_json(generation);
    if (facts.is_object() && facts.contains("eos_token_id")) {
      const Json& eos = facts["eos_token_id"];
      const Json list = eos.is_array() ? eos : Json::array({eos});
      std::vector<int64_t> ids;
      for (const Json& id : list)
        if (id.is_number_integer()) ids.push_back(id.get<int64_t>());
      if (!ids.empty()) spec.eos = ids;
    }
  }
  return spec;
}

/// `key: value` of a card's front matter; a list gives its first entry. "" if absent.
std::string card_entry(const fs::path& card, const std::string& key) {
  std::error_code ignored;
  if (!fs::is_regular_file(card, ignored) || fs::file_size(card, ignored) > (1 << 24)) return "";
  std::istringstream in(read_file(card));
  std::string line;
  if (!std::getline(in, line) || line.substr(0, 3) != "---") return "";
  const auto trimmed = [](std::string text) {
    while (!text.empty() && std::string(" \t\r\"'").find(text.back()) != std::string::npos) text.pop_back();
    const size_t begin = text.find_first_not_of(" \t\"'");
    return begin == std::string::npos ? std::string() : text.substr(begin);
  };
  while (std::getline(in, line) && line.substr(0, 3) != "---") {
    if (!line.starts_with(key + ":")) continue;
    const std::string value = trimmed(line.substr(key.size() + 1));
    if (!value.empty()) return value;
    if (std::getline(in, line)) {
      const std::string item = trimmed(line);
      if (item.starts_with("- ")) return trimmed(item.substr(2));
    }
    return "";
  }
  return "";
}

}  // namespace

ModelSpec load_spec(const fs::path& path) {
  const CheckpointPlace place = find_checkpoint(path);
  if (place.kind == CheckpointKind::gguf) return spec_from_gguf(GgufFile(place.path));
  if (place.kind == CheckpointKind::onnx) return onnx_spec(place.path);
  return hugging_face_spec(place.path);
}

StoredModel read_stored(const fs::path& path, bool tokenizer) {
  const CheckpointPlace place = find_checkpoint(path);
  StoredModel model;
  fs::path words = place.folder;
  if (place.kind == CheckpointKind::gguf) {
    model = stored_gguf(place.path);
    words = place.path;
  } else if (place.kind == CheckpointKind::onnx) {
    model = stored_onnx(place.path);
  } else {
    model.spec = hugging_face_spec(place.path);
    model.weights = hf_weights(place.path, model.spec);
    model.codes = hf_codes(place.path, model.spec);
  }
  if (place.kind != CheckpointKind::gguf) {
    if (model.license.empty()) model.license = card_entry(place.folder / "README.md", "license");
    if (model.base_model.empty()) model.base_model = card_entry(place.folder / "README.md", "base_model");
  }
  if (tokenizer && has_tokenizer(words)) model.tokenizer = load_tokenizer(words);
  return model;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace attar
