#include <algorithm>

#include "base/hash.h"
#include "base/utf8.h"
#include "formats/event_file.h"
#include "plan/recipe.h"

namespace attar {
namespace {

constexpr int kManifestVersion = 1;

/// What a stage recorded while it ran: it has times in it, and decides nothing.
bool is_log(const std::string& name) { return name == "log.jsonl" || name == kEventFileName; }

/// Files that belong to an artifact: not the manifest itself, not logs, not hidden files.
std::vector<fs::path> artifact_files(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file() && name != "manifest.json" && !is_log(name) && name[0] != '.')
      files.push_back(entry.path().lexically_relative(folder));
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// A key that may be absent or null; {} then.
Json object_of(const Json& json, const char* key, const std::string& name) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return Json::object();
  if (!found->is_object()) fail(name + ": key '" + key + "'", "an object", to_line(*found).substr(0, 80));
  return *found;
}

}  // namespace

Json to_json(const Manifest& m) {
  Json outputs = Json::array();
  for (const auto& [path, hash] : m.outputs) outputs.push_back({{"path", path}, {"bytes", m.sizes.at(path)}, {"sha256", hash}});
  return {{"kind", m.kind}, {"version", m.version}, {"name", m.name}, {"key", m.key}, {"seed", m.seed}, {"configuration", m.configuration},
          {"inputs", m.inputs}, {"outputs", outputs}, {"facts", m.facts}, {"seconds", m.seconds}, {"code", m.code}};
}

Manifest read_manifest(const fs::path& folder) {
  const fs::path file = folder / "manifest.json";
  const std::string name = file.string();
  const Json json = read_json(file);
  Manifest m;
  m.kind = get<std::string>(json, "kind", name);
  m.version = get<int>(json, "version", name);
  check(m.version == kManifestVersion, name + ": version", std::to_string(kManifestVersion), std::to_string(m.version),
        "written by another version of attar");
  m.key = get<std::string>(json, "key", name);
  m.name = get<std::string>(json, "name", name);
  m.seed = get<uint64_t>(json, "seed", name);
  if (json.contains("seconds")) m.seconds = get<double>(json, "seconds", name);
  m.configuration = object_of(json, "configuration", name);
  m.inputs = object_of(json, "inputs", name);
  m.facts = object_of(json, "facts", name);
  m.code = object_of(json, "code", name);
  const Json outputs = get<Json>(json, "outputs", name);
  check(outputs.is_array(), name + ": outputs", "a list");
  for (const Json& entry : outputs) {
    const std::string path = get<std::string>(entry, "path", name);
    check_inside(path, name);
    if (m.outputs.contains(path)) fail(name + ": output '" + one_line(path.substr(0, 80)) + "'", "once", "twice");
    m.outputs[path] = get<std::string>(entry, "sha256", name);
    m.sizes[path] = get<uint64_t>(entry, "bytes", name);
  }
  return m;
}

void write_manifest(const fs::path& folder, Manifest manifest) {
  manifest.version = kManifestVersion;
  for (const fs::path& path : artifact_files(folder)) {
    manifest.outputs[path.string()] = sha256_file_now(folder / path);
    manifest.sizes[path.string()] = fs::file_size(folder / path);
  }
  write_json(folder / "manifest.json", to_json(manifest));
}

std::vector<Fault> verify_manifest(const fs::path& folder, bool quick) {
  const Manifest manifest = read_manifest(folder);
  std::vector<Fault> faults;
  for (const auto& [path, hash] : manifest.outputs) {
    const fs::path file = folder / path;
    std::error_code ignored;  // a name too long for the system is not there either
    if (!fs::is_regular_file(file, ignored)) {
      faults.push_back({one_line(file.string()), "to be there", fs::exists(file, ignored) ? "no file" : "nothing", ""});
    } else if (fs::file_size(file) != manifest.sizes.at(path)) {
      faults.push_back({file.string(), str(manifest.sizes.at(path), " bytes"), str(fs::file_size(file)), "the file was cut or changed"});
    } else if (!quick) {
      const std::string now = sha256_file_now(file);
      if (now != hash) faults.push_back({file.string(), "SHA-256 " + hash, now, "the file was changed"});
    }
  }
  if (!quick)
    for (const fs::path& path : artifact_files(folder))
      if (!manifest.outputs.count(path.string())) faults.push_back({(folder / path).string(), "no file that the manifest does not name", "one", ""});
  return faults;
}

StageState stage_state(const Stage& stage, const fs::path& run_folder, std::string& reason) {
  const fs::path folder = run_folder / stage.id;
  if (!fs::exists(folder / "manifest.json")) {
    reason = fs::exists(run_folder / ("." + stage.id + ".work")) ? "not finished" : "never run";
    return StageState::needed;
  }
  try {
    if (read_manifest(folder).key != stage.key) {
      reason = "configuration or inputs changed";
      return StageState::needed;
    }
    if (const auto faults = verify_manifest(folder, true); !faults.empty()) {
      reason = faults[0].line();
      return StageState::needed;
    }
  } catch (const Error& error) {
    reason = error.faults()[0].line();
    return StageState::needed;
  }
  reason = "done";
  return StageState::done;
}

fs::path model_path(const fs::path& artifact) {
  if (!fs::is_directory(artifact) || !fs::exists(artifact / "manifest.json") || fs::exists(artifact / "config.json")) return artifact;
  const Manifest manifest = read_manifest(artifact);
  if (manifest.kind != "export") return artifact;
  return artifact / get<std::string>(manifest.facts, "path", (artifact / "manifest.json").string());
}

fs::path imatrix_path(const fs::path& given) { return fs::is_directory(given) ? given / "imatrix.gguf" : given; }

}  // namespace attar
