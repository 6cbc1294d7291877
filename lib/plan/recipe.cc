#include "plan/recipe.h"

#include <algorithm>
#include <set>

#include "base/hash.h"
#include "spec/task_check.h"
#include "plan/stage_kinds.h"

namespace attar {
namespace {

/// Keys that may name stages.
std::vector<std::string> reference_names(const std::string& kind) {
  std::vector<std::string> names;
  if (const StageKindInfo* info = find_stage_kind(kind))
    for (const ReferenceKey& key : info->references) names.push_back(key.key);
  return names;
}

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const StageKindInfo& k : all_stage_kinds()) names.push_back(k.kind);
  return names;
}

/// Values of a (dotted) key of an effective configuration: one, or all of a list; of a mixture, the paths of its parts.
std::vector<std::pair<std::string, std::string>> values_of(const Json& config, const std::string& key) {
  const Json* at = &config;
  for (size_t begin = 0; begin <= key.size();) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const std::string part = key.substr(begin, end - begin);
    if (!at->is_object() || !at->contains(part)) return {};
    at = &(*at)[part];
    begin = end + 1;
  }
  std::vector<std::pair<std::string, std::string>> out;
  if (at->is_string() && !at->get<std::string>().empty()) out.push_back({key, at->get<std::string>()});
  if (!at->is_array()) return out;
  for (size_t i = 0; i < at->size(); ++i) {
    const Json& item = (*at)[i];
    if (item.is_string()) out.push_back({str(key, "[", i, "]"), item.get<std::string>()});
    const std::string path = item.is_object() ? item.value("path", "") : "";
    if (!path.empty()) out.push_back({str(key, "[", i, "].path"), path});
  }
  return out;
}

/// What files a path stands for in a stage's key: their bytes, not their place.
std::string content_key(const fs::path& path) {
  if (!fs::is_directory(path)) return sha256_file(path);
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file() && entry.path().filename().string()[0] != '.') files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  Sha256 hash;
  for (const fs::path& file : files) hash.add(file.lexically_relative(path).string() + "\n" + sha256_file(file) + "\n");
  return hash.hex();
}

class RecipeReader {
 public:
  RecipeReader(Node root, const fs::path& file) : root_(std::move(root)) {
    recipe_.file = file;
    check(root_.is_map(), file.string(), "a recipe: a map with name, stages, ...", "something else");
  }

  Recipe read() {
    recipe_.swept = expand_sweep(root_, reference_names, faults_);
    top_level();
    stages();
    gates();
    finish_faults();
    sort();
    keys();
    return std::move(recipe_);
  }

 private:
  void fault(std::string what, std::string expected = "", std::string received = "", std::string hint = "") {
    Fault now{std::move(what), std::move(expected), std::move(received), std::move(hint)};
    // What the recipe says once for all stages is wrong once.
    for (const Fault& before : faults_)
      if (before.line() == now.line()) return;
    faults_.push_back(std::move(now));
  }
  void finish_faults() {
    if (!faults_.empty()) throw Error(std::move(faults_));
  }

  void top_level() {
    static const std::vector<std::string> known = {"name", "seed", "task", "license", "base_model", "description", "data", "sweep", "stages",
                                                   "gates"};
    for (const auto& [key, value] : root_.entries)
      if (std::find(known.begin(), known.end(), key) == known.end())
        fault("unknown key '" + key + "' (" + value.place() + ")", "", "", nearest_hint(key, known));
    text("name", recipe_.name);
    text("task", recipe_.task_path);
    text("license", recipe_.license);
    text("base_model", recipe_.base_model);
    if (recipe_.name.empty()) recipe_.name = recipe_.file.stem().string();
    if (const Node* seed = root_.find("seed")) recipe_.seed = seed_of(*seed, "seed");
    if (!recipe_.task_path.empty()) task();
  }

  uint64_t seed_of(const Node& node, const std::string& what) {
    int64_t value = 0;
    if (read_scalar(node, value) && value >= 0) return static_cast<uint64_t>(value);
    fault(what + " (" + node.place() + ")", "a whole number from 0", node.text);
    return 0;
  }

  void text(const char* key, std::string& value) {
    const Node* node = root_.find(key);
    if (node && !read_scalar(*node, value)) fault(std::string(key) + " (" + node->place() + ")", "text");
  }

  void task() {
    try {
      recipe_.task_file = find_path(expand_environment(recipe_.task_path), recipe_.file.parent_path());
      TaskConfig config;
      read_fields(config, read_yaml(recipe_.task_file), "", faults_);
      const std::vector<Fault> found = task_faults(config);
      faults_.insert(faults_.end(), found.begin(), found.end());
      for (std::string* path : {&config.train, &config.test, &config.valid, &config.schema})
        if (!path->empty()) *path = find_path(expand_environment(*path), recipe_.task_file.parent_path()).string();
      recipe_.task = std::move(config);
    } catch (const Error& error) {
      faults_.insert(faults_.end(), error.faults().begin(), error.faults().end());
    }
  }

  void stages() {
    const Node* list = root_.find("stages");
    if (!list || !list->is_map() || list->entries.empty()) return fault("key 'stages'", "a map of stages", list ? list->text : "nothing");
    for (const auto& [id, node] : list->entries) {
      const char* allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
      if (id.empty() || id.find_first_not_of(allowed) != std::string::npos || id == "report.html")
        fault("stage '" + id + "' (" + node.place() + ")", "a name of letters, digits, - and _");
      stage(id, node);
    }
    for (Stage& stage : recipe_.stages) references(stage);
  }

  void stage(const std::string& id, const Node& node) {
    const std::string path = "stages." + id;
    if (!node.is_map()) return fault(path + " (" + node.place() + ")", "a map with kind, ...", node.text);
    Stage stage;
    stage.id = id;
    stage.config = node;
    std::erase_if(stage.config.entries, [](const auto& entry) { return entry.first == "kind" || entry.first == "seed"; });
    if (const Node* seed = node.find("seed")) stage.seed = seed_of(*seed, path + ".seed");
    if (const Node* kind = node.find("kind")) stage.kind = kind->text;
    const StageKindInfo* info = find_stage_kind(stage.kind);
    if (info && reads_rows(stage.kind)) inherit_data(stage.config);
    if (!info) return fault(path + ".kind (" + node.place() + ")", "a kind of stage", stage.kind, nearest_hint(stage.kind, kind_names()));
    stage.effective = info->read(stage.config, path, faults_);
    recipe_.stages.push_back(std::move(stage));
  }

  static bool reads_rows(const std::string& kind) { 
    return kind == "distill" || kind == "capture" || kind == "synthesize" || kind == "prune" || kind == "calibrate" || kind == "quantize";
  }

  /// The recipe's own `data` holds for every stage that reads rows; a stage's keys win.
  void inherit_data(Node& config) const {
    const Node* shared = root_.find("data");
    if (!shared || !shared->is_map()) return;
    if (!config.find("data")) {
      config.entries.push_back({"data", *shared});
      return;
    }
    Node& own = *config.find("data");
    // A stage that names its own data, as a path or as a mixture, does not get the other.
    const bool named = own.find("path") || own.find("mix");
    for (const auto& [key, value] : shared->entries)
      if (own.is_map() && !own.find(key) && !(named && (key == "path" || key == "mix"))) own.entries.push_back({key, value});
  }

  /// Where a stage's value stands: its own key, or the recipe's `data` that it inherited.
  std::string written_at(const std::string& name, const std::string& value, const std::string& place) const {
    const Node* shared = root_.find("data");
    const Node* path = shared && shared->is_map() && name == "data.path" ? shared->find("path") : nullptr;
    return path && path->is_scalar() && path->text == value ? "data.path" : place;
  }

  void references(Stage& stage) {
    for (const ReferenceKey& key : find_stage_kind(stage.kind)->references) {
      const auto values = values_of(stage.effective, key.key);
      if (values.empty() && key.required) fault("stages." + stage.id + "." + key.key, "a stage or a path", "nothing");
      for (const auto& [name, value] : values)
        if (!is_server(stage, key.key) && !routed_artifact(stage, key.key, value)) reference(stage, key, name, value);
    }
    if (stage.kind == "capture") {
      int sources = 0;
      for (const char* key : {"teacher", "import", "merge"}) sources += values_of(stage.effective, key).empty() ? 0 : 1;
      if (sources != 1) fault("stages." + stage.id, "one of teacher, import and merge", sources == 0 ? "none" : str(sources));
    }
    mixture(stage);
    if (stage.kind == "evaluate") runtimes(stage);
    if (stage.kind == "export" || stage.kind == "evaluate" || stage.kind == "route") return;
    const std::string key = stage.kind == "train_tokenizer" ? "data" : "data.path";
    const bool named = parts_of(stage) > 0 || !values_of(stage.effective, key).empty() || recipe_.task || !recipe_.task_path.empty();
    if (!named && needs_data(stage)) fault("stages." + stage.id + "." + key, "a path, or a task at the top of the recipe", "neither");
  }

  /// Running servers stand beside the artifacts, under names of their own.
  void runtimes(const Stage& stage) {
    for (const auto& [name, runtime] : stage.effective["runtime"].items()) {
      const std::string place = "stages." + stage.id + ".runtime." + name, url = runtime.value("url", ""), of = runtime.value("of", "");
      if (is_stage(name)) fault(place, "a name that no stage has", "that of a stage");
      if (!url.starts_with("http://") && !url.starts_with("https://")) fault(place + ".url", "http://host:port", url.empty() ? "nothing" : url);
      const Json& list = stage.effective["of"];
      if (!of.empty() && std::find(list.begin(), list.end(), Json(of)) == list.end()) fault(place + ".of", "an artifact of this stage", of);
      if (recipe_.task_path.empty()) fault(place, "a task at the top of the recipe", "none");
    }
  }

  /// The two models of a route stage are artifacts of the evaluate stage that it reads the scores of. True where that is all there is to look at: the
  /// model is none of them, or one of its servers, which no stage made.
  bool routed_artifact(const Stage& stage, const std::string& key, const std::string& value) {
    if (stage.kind != "route" || (key != "small" && key != "large")) return false;
    const auto of = std::find_if(recipe_.stages.begin(), recipe_.stages.end(),
                                 [&](const Stage& s) { return s.kind == "evaluate" && Json(s.id) == stage.effective["of"]; });
    if (of == recipe_.stages.end()) return false;
    auto known = of->effective["of"].get<std::vector<std::string>>();
    for (const auto& [name, runtime] : of->effective["runtime"].items()) known.push_back(name);
    if (std::find(known.begin(), known.end(), value) == known.end())
      fault("stages." + stage.id + "." + key, "an artifact or a server (runtime) of " + of->id, value, nearest_hint(value, known));
    else if (!of->effective["runtime"].contains(value)) return false;
    return true;
  }

  static size_t parts_of(const Stage& stage) {
    return stage.effective.contains("data") && stage.effective["data"].is_object() ? stage.effective["data"].value("mix", Json::array()).size() : 0;
  }

  void mixture(const Stage& stage) {
    const std::string place = "stages." + stage.id + ".data";
    const size_t parts = parts_of(stage);
    if (parts == 0) return;
    if (!values_of(stage.effective, "data.path").empty()) fault(place, "path or mix", "both");
    const size_t paths = values_of(stage.effective, "data.mix").size();
    if (paths < parts && !recipe_.task && recipe_.task_path.empty())
      fault(place + ".mix", "a path in every part, or a task at the top of the recipe", str(parts - paths, " without"));
  }

  /// A teacher who speaks may be a server's address: nothing that lies on a disk.
  static bool is_server(const Stage& stage, const std::string& key) {
    if ((stage.kind != "capture" && stage.kind != "synthesize") || key != "teacher") return false;
    const auto teacher = get<std::string>(stage.effective, "teacher", stage.id);
    return teacher.starts_with("http://") || teacher.starts_with("https://");
  }

  static bool needs_data(const Stage& stage) {
    if (stage.kind == "capture") return values_of(stage.effective, "merge").empty();
    if (stage.kind == "prune") {
      const Json& e = stage.effective;
      const bool given = !values_of(e, "calibration").empty();
      if (e["method"] != "structure") return e["method"] != "magnitude" && !(e["method"] == "wanda" && given);
      const Json& search = e["search"];
      const bool searches = search["parameters"] != 0 || search["bytes"] != 0 || search["ms_per_token"] != 0.0;
      const bool scored = (e["criterion"] == "activation" && !given) || e["criterion"] == "taylor" || (e["depth"] != 1.0 && e["depth_by"] == "loss");
      return scored || e["merge_heads"] == true || e["vocabulary"] != 0 || searches;
    }
    if (stage.kind != "quantize") return true;
    const Json& budget = stage.effective["budget"];
    const Json& method = stage.effective["method"];
    return method == "qat" || method == "gptq" || method == "rounding" || budget["bits"] != 0.0 || budget["bytes"] != 0;
  }

  /// What a key wants where another kind of stage is named.
  static std::string giver(const ReferenceKey& key) {
    if (key.key == "tokens") return "a stage that gives a tokenizer";
    return key.kinds.size() == 1 ? "a " + key.kinds[0] + " stage" : "a stage that gives a model";
  }

  void reference(Stage& stage, const ReferenceKey& key, const std::string& name, const std::string& value) {
    const std::string place = "stages." + stage.id + "." + name;
    Reference reference{name, value, "", {}};
    const auto target = std::find_if(recipe_.stages.begin(), recipe_.stages.end(), [&](const Stage& s) { return s.id == value; });
    // Data that lies in a folder of a stage's name is a path unless that stage writes data.
    const bool data = key.key.starts_with("data."), named = target != recipe_.stages.end() && !key.kinds.empty();
    const bool fits = named && std::find(key.kinds.begin(), key.kinds.end(), target->kind) != key.kinds.end();
    if (named && (fits || !data)) {
      if (!fits)
        return fault(place, giver(key), "'" + value + "' of kind " + target->kind);
      if (target->id == stage.id) return fault(place, "another stage", "itself");
      reference.stage = value;
    } else {
      try {
        reference.path = find_path(expand_environment(value), recipe_.file.parent_path());
      } catch (const Error&) {
        std::vector<std::string> ids;
        for (const Stage& s : recipe_.stages) ids.push_back(s.id);
        if (key.kinds.empty() || value.find('/') != std::string::npos) ids.clear();
        const char* expected = key.kinds.empty() ? "a file or folder" : data ? "a file or folder, or a synthesize stage" : "a stage or a path";
        return fault(written_at(name, value, place), expected, value, nearest_hint(value, ids));
      }
    }
    stage.references.push_back(std::move(reference));
  }

  /// A stage, or a server that an evaluate stage asks.
  bool has_numbers(const std::string& id) const {
    return is_stage(id) || std::any_of(recipe_.stages.begin(), recipe_.stages.end(), [&](const Stage& s) {
             return s.kind == "evaluate" && s.effective["runtime"].contains(id);
           });
  }

  bool is_stage(const std::string& id) const {
    return std::any_of(recipe_.stages.begin(), recipe_.stages.end(), [&](const Stage& s) { return s.id == id; });
  }

  void gates() {
    const Node* gates = root_.find("gates");
    if (!gates || gates->is_null()) return;
    if (!gates->is_map()) return fault("gates (" + gates->place() + ")", "a map of paths and limits");
    for (const auto& [path, node] : gates->entries) {
      GateConfig gate;
      read_fields(gate, node, "gates." + path, faults_);
      const std::string id = path.substr(0, path.find('.'));
      if (!has_numbers(id)) fault("gates." + path, "a path that begins with a stage", id);
      if (!gate.at_least && !gate.at_most && !gate.within) fault("gates." + path, "at_least, at_most or within", "none of them");
      if (gate.within && gate.within->margin < 0) fault("gates." + path + ".within.margin", "0 or more", str(gate.within->margin));
      if (gate.within && !has_numbers(gate.within->of))
        fault("gates." + path + ".within.of", "a stage", gate.within->of.empty() ? "nothing" : gate.within->of);
      recipe_.gates.push_back({path, gate});
    }
  }

  /// Inputs first; stages that do not depend on each other keep their order.
  void sort() {
    std::vector<Stage> sorted;
    std::set<std::string> done;
    while (sorted.size() < recipe_.stages.size()) {
      const size_t before = sorted.size();
      for (const Stage& stage : recipe_.stages) {
        if (done.count(stage.id)) continue;
        const bool ready = std::all_of(stage.references.begin(), stage.references.end(),
                                       [&](const Reference& r) { return r.stage.empty() || done.count(r.stage); });
        if (!ready) continue;
        done.insert(stage.id);
        sorted.push_back(stage);
        break;
      }
      if (sorted.size() == before) {
        std::string circle;
        for (const Stage& stage : recipe_.stages)
          if (!done.count(stage.id)) circle += (circle.empty() ? "" : ", ") + stage.id;
        fail("stages " + circle, "no circle of inputs", "each waits for another");
      }
    }
    recipe_.stages = std::move(sorted);
  }

  static void without_paths(Json& data) {
    data.erase("path");
    for (Json& part : data["mix"]) part.erase("path");
  }

  void keys() {
    Json stages = Json::object();
    std::map<std::string, std::string> key_of;
    std::string task_key;
    if (recipe_.task) {
      task_key = to_line(write_fields(*recipe_.task));
      for (const std::string& path : {recipe_.task->train, recipe_.task->test, recipe_.task->valid, recipe_.task->schema})
        if (!path.empty()) task_key += content_key(path);
    }
    for (Stage& stage : recipe_.stages) {
      Json basis = {{"kind", stage.kind}, {"seed", stage.seed.value_or(recipe_.seed)}, {"license", recipe_.license},
                    {"base_model", recipe_.base_model}};
      Json configuration = stage.effective, inputs = Json::object();
      for (const Reference& r : stage.references) {
        inputs[r.key] = r.stage.empty() ? content_key(r.path) : key_of.at(r.stage);
      }
      // Where the inputs lie does not matter, what they hold does.
      for (const ReferenceKey& key : find_stage_kind(stage.kind)->references)
        if (is_server(stage, key.key)) continue;
        else if (key.key.find('.') == std::string::npos) configuration.erase(key.key);
        else if (configuration.contains("data")) without_paths(configuration["data"]);
      // In which order rows are learned from is nothing to stages that read each once.
      if (stage.kind != "distill" && stage.kind != "quantize" && configuration.contains("data") && configuration["data"].is_object()) {
        for (const char* key : {"curriculum", "filter", "mix_temperature"}) configuration["data"].erase(key);
        for (Json& part : configuration["data"]["mix"]) part.erase("weight");
      }
      // Keys that change nothing as they stand: a stage with them has the key of one without.
      if (configuration.contains("train") && configuration["train"].value("cuda_graph", "") == "off") configuration["train"].erase("cuda_graph");
      if (stage.kind == "quantize" && configuration["method"] != "rounding" && configuration["start"] != "rounding") configuration.erase("rounding");
      // How patiently a server is asked changes nothing of what it says.
      if (stage.kind == "capture")
        for (const char* key : {"key_env", "concurrency", "attempts", "timeout"}) configuration["server"].erase(key);
      if (stage.kind == "evaluate")
        for (auto& [name, runtime] : configuration["runtime"].items())
          for (const char* key : {"key_env", "concurrency", "attempts", "timeout"}) runtime.erase(key);
      if (stage.kind == "evaluate") configuration["of"] = stage.effective["of"], configuration["base"] = stage.effective["base"];
      if (stage.kind == "route") configuration["small"] = stage.effective["small"], configuration["large"] = stage.effective["large"];
      basis["configuration"] = std::move(configuration);
      basis["inputs"] = std::move(inputs);
      if (stage.kind != "export") basis["task"] = task_key;
      if (stage.kind == "evaluate") {
        Json limits = Json::object();
        for (const auto& [path, gate] : recipe_.gates) limits[path] = write_fields(gate);
        basis["gates"] = std::move(limits);
      }
      stage.key = sha256(to_line(basis));
      key_of[stage.id] = stage.key;
      Json shown = {{"kind", stage.kind}};
      if (stage.seed) shown["seed"] = *stage.seed;
      shown.update(stage.effective);
      stages[stage.id] = std::move(shown);
    }
    Json gates = Json::object();
    for (const auto& [path, gate] : recipe_.gates) gates[path] = write_fields(gate);
    recipe_.effective = {{"name", recipe_.name}, {"seed", recipe_.seed}, {"task", recipe_.task ? write_fields(*recipe_.task) : Json()},
                         {"license", recipe_.license}, {"base_model", recipe_.base_model}, {"stages", std::move(stages)},
                         {"gates", std::move(gates)}};
    for (const auto& [id, swept] : recipe_.swept) recipe_.effective["swept"][id] = {{"stage", swept.stage}, {"values", swept.values}};
  }

  Recipe recipe_;
  Node root_;
  std::vector<Fault> faults_;
};

}  // namespace

const Stage* Recipe::find(const std::string& id) const {
  for (const Stage& stage : stages)
    if (stage.id == id) return &stage;
  return nullptr;
}

Recipe load_recipe(const fs::path& file, const std::vector<std::string>& overrides) {
  Node root = read_yaml(file);
  for (const std::string& assignment : overrides) set_override(root, assignment);
  return RecipeReader(std::move(root), file).read();
}

Recipe recipe_from_node(Node root, const fs::path& file) { return RecipeReader(std::move(root), file).read(); }

}  // namespace attar
