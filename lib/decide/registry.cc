#include "decide/registry.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "decide/gates.h"
#include "decide/weights.h"
#include "report/facts.h"

namespace attar {
namespace {

constexpr int64_t kRegistryVersion = 1;
constexpr const char* kModelColumns = "id, version, name, artifact, path, sha256, run, added, verdict, numbers";

RegistryModel model_of(const Query& row, const fs::path& file) {
  RegistryModel m;
  m.id = row.integer(0), m.version = row.integer(1), m.name = row.text(2), m.artifact = row.text(3), m.path = row.text(4), m.sha256 = row.text(5);
  m.run = row.text(6), m.added = row.text(7), m.verdict = row.text(8);
  m.numbers = parse_json(row.text(9), file.string());
  m.bytes = static_cast<int64_t>(double_of(find_at(m.numbers, {"bytes"})).value_or(0));
  m.parameters = static_cast<int64_t>(double_of(find_at(m.numbers, {"parameters"})).value_or(0));
  return m;
}

void check_unchanged(const fs::path& path, const std::string& sha256, const std::string& hint) {
  check(fs::exists(path), path.string(), "the model's file", "nothing", hint);
  const std::string now = weigh_files(path).sha256;
  check(now == sha256, path.string(), "SHA-256 " + sha256.substr(0, 16) + ", as measured", now.substr(0, 16), hint);
}

fs::path report_of(const fs::path& run) {
  check(fs::is_regular_file(run / "recipe.json"), run.string(), "the folder of a finished run, with recipe.json", "none");
  const Json recipe = read_json(run / "recipe.json");
  if (const Json* stages = find_at(recipe, {"stages"}); stages && stages->is_object())
    for (const auto& [id, stage] : stages->items())
      if (text_of(find_at(stage, {"kind"})) == "evaluate" && fs::exists(run / id / "report.json")) return run / id / "report.json";
  fail(run.string(), "a finished evaluate stage", "none", "run the recipe to its end");
}

/// Whether no gate of the artifact's own was missed.
bool gates_met(const Json& report, const std::string& artifact) {
  const Json* gates = find_at(report, {"gates"});
  if (!gates || !gates->is_array()) return true;
  for (const Json& gate : *gates)
    if (gate_artifact(report, text_of(find_at(gate, {"path"}))) == artifact && !gate.value("passed", false)) return false;
  return true;
}

struct MeasureEnds {
  double value = 0, low = 0, high = 0;
};
std::optional<MeasureEnds> measure_ends(const Json& measure) {
  const auto value = double_of(&measure), low = double_of(find_at(measure, {"low"})), high = double_of(find_at(measure, {"high"}));
  if (!value || !low || !high) return std::nullopt;
  return MeasureEnds{*value, *low, *high};
}

}  // namespace

Registry::Registry(const fs::path& file, bool create) : database_(file, create) { make_tables(); }

void Registry::make_tables() {
  int64_t version = 0;
  {
    Query query(database_, "PRAGMA user_version");
    if (query.next()) version = query.integer(0);
  }
  if (version != 0)
    return check(version == kRegistryVersion, database_.file().string(), str("a registry of version ", kRegistryVersion), str(version));
  {
    Query query(database_, "SELECT count(*) FROM sqlite_master");
    check(query.next() && query.integer(0) == 0, database_.file().string(), "a registry of attar", "another SQLite file");
  }
  database_.run(
      "BEGIN IMMEDIATE;"
      "CREATE TABLE models(id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, artifact TEXT NOT NULL, path TEXT NOT NULL,"
      " sha256 TEXT NOT NULL, run TEXT NOT NULL, added TEXT NOT NULL, verdict TEXT NOT NULL, numbers TEXT NOT NULL, lineage TEXT NOT NULL,"
      " recipe TEXT NOT NULL, UNIQUE(name, version));"
      "CREATE TABLE uses(id INTEGER PRIMARY KEY, name TEXT NOT NULL, model INTEGER NOT NULL REFERENCES models(id), action TEXT NOT NULL,"
      " at TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0);"
      "CREATE TABLE checks(id INTEGER PRIMARY KEY, model INTEGER NOT NULL REFERENCES models(id), at TEXT NOT NULL, data TEXT NOT NULL,"
      " found TEXT NOT NULL);"
      "PRAGMA user_version = 1; COMMIT");
}

RegistryModel Registry::add(const fs::path& run, const std::string& artifact, const std::string& name) {
  const fs::path file = report_of(run);
  const Json report = read_json(file);
  std::string id = artifact;
  if (id.empty()) id = text_of(find_at(report, {"summary", "choice"}));
  check(!id.empty(), file.string(), "a choice", "none: no artifact meets its gates", "name one: --artifact");
  const Json* entry = find_at(artifacts_of(report), {id});
  if (!entry) {
    std::vector<std::string> ids;
    for (const auto& [known, value] : artifacts_of(report).items()) ids.push_back(known);
    fail("artifact", "one of the report", id, nearest_hint(id, ids));
  }
  const fs::path written = get<std::string>(*entry, "path", file.string());
  const fs::path path = fs::weakly_canonical(written.is_absolute() ? written : run / written);
  const auto sha256 = get<std::string>(*entry, "sha256", file.string());
  check_unchanged(path, sha256, "evaluate again before adding it");
  const std::string job = name.empty() ? text_of(find_at(report, {"name"})) : name;
  check(!job.empty() && job.find('@') == std::string::npos, "name", "text without '@'", job);
  Json lineage = {{"stages", report.value("lineage", Json::object())}, {"data", report.value("data", Json::object())},
                  {"gates_met", gates_met(report, id)}};
  for (auto& [stage, facts] : lineage["stages"].items()) facts.erase("facts");
  Transaction transaction(database_);
  {
    Query query(database_, std::string("SELECT ") + kModelColumns + " FROM models WHERE name = ? AND sha256 = ?");
    query.bind(job).bind(sha256);
    if (query.next()) return model_of(query, database_.file());
  }
  Query insert(database_,
               "INSERT INTO models(name, version, artifact, path, sha256, run, added, verdict, numbers, lineage, recipe) VALUES"
               "(?1, (SELECT coalesce(max(version), 0) + 1 FROM models WHERE name = ?1), ?2, ?3, ?4, ?5,"
               " strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), ?6, ?7, ?8, ?9)");
  Json numbers = *entry;
  numbers.erase("task_details");
  insert.bind(job).bind(id).bind(path.string()).bind(sha256).bind(fs::weakly_canonical(run).string());
  insert.bind(text_of(find_at(report, {"verdict"}))).bind(to_line(numbers)).bind(to_line(lineage)).bind(to_line(report.value("recipe", Json())));
  insert.next();
  const int64_t number = database_.last_id();
  transaction.commit();
  return find(std::to_string(number));
}

std::optional<RegistryModel> Registry::in_use(const std::string& name, int64_t before) {
  Query query(database_, std::string("SELECT m.id, m.version, m.name, m.artifact, m.path, m.sha256, m.run, m.added, m.verdict, m.numbers, u.id "
                                     "FROM uses u JOIN models m ON m.id = u.model WHERE u.name = ? AND u.undone = 0 AND (? = 0 OR u.id < ?) "
                                     "AND u.action = 'promoted' ORDER BY u.id DESC LIMIT 1"));
  query.bind(name).bind(before).bind(before);
  if (!query.next()) return std::nullopt;
  RegistryModel model = model_of(query, database_.file());
  model.promoted = true;
  return model;
}

std::vector<RegistryModel> Registry::list(const std::string& name) {
  std::vector<RegistryModel> out;
  {
    Query query(database_, std::string("SELECT ") + kModelColumns + " FROM models WHERE ?1 = '' OR name = ?1 ORDER BY name, version");
    query.bind(name);
    while (query.next()) out.push_back(model_of(query, database_.file()));
  }
  for (RegistryModel& model : out) {
    const auto used = in_use(model.name);
    model.promoted = used && used->id == model.id;
  }
  return out;
}

RegistryModel Registry::find(const std::string& label) {
  const auto all = list();
  const bool number = !label.empty() && label.find_first_not_of("0123456789") == std::string::npos;
  const RegistryModel* newest = nullptr;
  std::vector<std::string> known;
  for (const RegistryModel& model : all) {
    known.push_back(model.label());
    if (model.label() == label || (number && std::to_string(model.id) == label)) return model;
    if (model.name == label && (!newest || !newest->promoted)) newest = &model;
  }
  if (newest) return *newest;
  fail("model", "NAME@VERSION, NAME or a number of " + database_.file().string(), label, nearest_hint(label, known));
}

RegistryModel Registry::promote(const std::string& label, bool anyway) {
  RegistryModel model = find(label);
  check_unchanged(model.path, model.sha256, "what would be promoted is not what was measured");
  if (!anyway) {
    Query query(database_, "SELECT lineage FROM models WHERE id = ?");
    query.bind(model.id);
    const bool met = query.next() && parse_json(query.text(0), database_.file().string()).value("gates_met", true);
    check(met, model.label(), "a model whose gates are met", "one that missed a gate", "--anyway promotes it all the same");
  }
  if (const auto used = in_use(model.name); used && used->id == model.id) return *used;
  Query insert(database_, "INSERT INTO uses(name, model, action, at) VALUES(?, ?, 'promoted', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))");
  insert.bind(model.name).bind(model.id);
  insert.next();
  model.promoted = true;
  return model;
}

RegistryModel Registry::roll_back(const std::string& name) {
  Transaction transaction(database_);
  int64_t last = 0;
  {
    Query query(database_, "SELECT id FROM uses WHERE name = ? AND undone = 0 AND action = 'promoted' ORDER BY id DESC LIMIT 1");
    query.bind(name);
    if (query.next()) last = query.integer(0);
  }
  check(last > 0, name, "a model in use", "none", "attar registry promote NAME@VERSION");
  const auto before = in_use(name, last), now = in_use(name);
  check(before.has_value(), name, "a model that was in use before " + now->label(), "none");
  check_unchanged(before->path, before->sha256, "the model to go back to is not what was measured");
  {
    Query query(database_, "UPDATE uses SET undone = 1 WHERE id = ?");
    query.bind(last);
    query.next();
  }
  {
    Query query(database_, "INSERT INTO uses(name, model, action, at) VALUES(?, ?, 'rolled back', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))");
    query.bind(name).bind(now->id);
    query.next();
  }
  transaction.commit();
  return *before;
}

Json Registry::history(const std::string& name) {
  Query query(database_,
              "SELECT m.name || '@' || m.version, u.action, u.at FROM uses u JOIN models m ON m.id = u.model "
              "WHERE ?1 = '' OR u.name = ?1 ORDER BY u.id");
  query.bind(name);
  Json out = Json::array();
  while (query.next()) out.push_back({{"model", query.text(0)}, {"action", query.text(1)}, {"at", query.text(2)}});
  return out;
}

Json Registry::lineage(const std::string& label) {
  const RegistryModel model = find(label);
  Query query(database_, "SELECT lineage FROM models WHERE id = ?");
  query.bind(model.id);
  check(query.next(), label, "a lineage", "none");
  const Json kept = parse_json(query.text(0), database_.file().string());
  const Json& stages = kept["stages"];
  // Only what the artifact was made of: its stage and, from there, every stage that it read.
  std::vector<std::string> wanted = {text_of(find_at(model.numbers, {"stage"}))};
  for (size_t i = 0; i < wanted.size(); ++i)
    if (const Json* inputs = find_at(stages, {wanted[i], "inputs"}); inputs && inputs->is_object())
      for (const auto& [key, input] : inputs->items()) {
        const std::string name = text_of(find_at(input, {"name"}));
        if (stages.contains(name) && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) wanted.push_back(name);
      }
  Json out = {{"model", model.label()}, {"data", kept.value("data", Json::object())}, {"stages", Json::array()},
              {"file", {{"path", model.path}, {"sha256", model.sha256}}}};
  for (const auto& [id, stage] : stages.items()) {
    if (std::find(wanted.begin(), wanted.end(), id) == wanted.end()) continue;
    Json entry = {{"stage", id}};
    entry.update(stage);
    out["stages"].push_back(std::move(entry));
  }
  return out;
}

std::vector<Recheck> Registry::recheck(bool all, double margin, const std::string& data, const std::function<Json(const RegistryModel&)>& evaluate) {
  std::vector<Recheck> out;
  for (const RegistryModel& model : list()) {
    if (!all && !model.promoted) continue;
    Recheck found;
    found.model = model;
    try {
      check_unchanged(model.path, model.sha256, "");
      const Json fresh = evaluate(model);
      const auto before = main_metric(model.numbers), now = main_metric(fresh);
      check(before && now && before->metric == now->metric, model.label(), "the same task metric as recorded", now ? now->metric : "none");
      found.task = now->task, found.metric = now->metric, found.recorded = *before->measure, found.measured = *now->measure;
      const auto a = measure_ends(found.measured), b = measure_ends(found.recorded);
      check(a && b, model.label(), "numbers with their intervals", "none");
      const Difference difference = unpaired_difference(a->value, a->low, a->high, b->value, b->low, b->high);
      found.low = difference.low, found.high = difference.high;
      found.worse = more_is_better(now->metric) ? difference.high < -margin : difference.low > margin;
    } catch (const Error& error) {
      found.note = error.faults()[0].line();
      found.worse = true;
    }
    Query insert(database_, "INSERT INTO checks(model, at, data, found) VALUES(?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'), ?, ?)");
    const Json facts = {{"metric", found.metric}, {"measured", found.measured}, {"low", found.low},
                        {"high", found.high},     {"worse", found.worse},       {"note", found.note}};
    insert.bind(model.id).bind(data).bind(to_line(facts));
    insert.next();
    out.push_back(std::move(found));
  }
  return out;
}

Json compare_models(const RegistryModel& a, const RegistryModel& b) {
  std::vector<std::string> keys;
  const auto add = [&](const std::string& key) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
  };
  for (const char* key : {"bytes", "parameters", "bits_per_weight"}) add(key);
  for (const RegistryModel* model : {&a, &b})
    if (const Json* tasks = find_at(model->numbers, {"tasks"}); tasks && tasks->is_object())
      for (const auto& [task, metrics] : tasks->items())
        for (const auto& [metric, measure] : metrics.items()) add("tasks." + task + "." + metric);
  for (const char* key :
       {"perplexity", "kld", "top1_agreement", "latency.tokens_per_s", "latency.ttft_s", "cost.per_million_conversations"}) add(key);
  const Json artifacts = {{"a", a.numbers}, {"b", b.numbers}};
  Json out = Json::array();
  for (const std::string& key : keys) {
    const auto left = double_of(at_path(a.numbers, key)), right = double_of(at_path(b.numbers, key));
    if (!left && !right) continue;
    Json row = {{"number", key}, {"a", left ? Json(*left) : Json()}, {"b", right ? Json(*right) : Json()}};
    if (left && right) {
      const NumberDifference found = number_difference(artifacts, "a", "b", key, nullptr);
      row["difference"] = {{"value", *left - *right}};
      if (!found.method.empty() && found.method != "exact")
        row["difference"]["low"] = found.difference.low, row["difference"]["high"] = found.difference.high;
    }
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace attar
