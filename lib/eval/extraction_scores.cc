#include <algorithm>
#include <map>
#include <numeric>

#include "base/check.h"
#include "data/json_schema.h"
#include "eval/task_scores.h"
#include "eval/text_scores.h"

namespace attar {
namespace {

constexpr int64_t kFieldResamples = 1000;

/// How often a field was right, wrongly given and missed.
struct FieldCounts {
  int64_t found = 0, wrong = 0, missed = 0;
  FieldCounts& operator+=(const FieldCounts& other) {
    found += other.found, wrong += other.wrong, missed += other.missed;
    return *this;
  }
};

double share_of_fields(int64_t part, int64_t other) { return part + other > 0 ? static_cast<double>(part) / static_cast<double>(part + other) : 0; }
double field_precision(const FieldCounts& c) { return share_of_fields(c.found, c.wrong); }
double field_recall(const FieldCounts& c) { return share_of_fields(c.found, c.missed); }
double field_f1(const FieldCounts& c) { return share_of_fields(2 * c.found, c.wrong + c.missed); }

/// Leaves of an object by their path: "buyer.name", of a list's items "items[].name". Nulls are as good as absent.
using Leaves = std::map<std::string, std::vector<Json>>;

void add_leaves(const Json& value, const std::string& path, Leaves& out) {
  if (value.is_null()) return;
  if (value.is_object()) {
    for (const auto& [name, part] : value.items()) add_leaves(part, path.empty() ? name : path + "." + name, out);
  } else if (value.is_array()) {
    for (const Json& part : value) add_leaves(part, path + "[]", out);
  } else {
    out[path].push_back(value);
  }
}

std::map<std::string, FieldCounts> compare_leaves(const Leaves& expected, const Leaves& given) {
  std::map<std::string, FieldCounts> out;
  for (const auto& [path, values] : expected) out[path].missed = static_cast<int64_t>(values.size());
  for (const auto& [path, values] : given) {
    FieldCounts& counts = out[path];
    const auto wanted = expected.find(path);
    std::vector<Json> left = wanted == expected.end() ? std::vector<Json>() : wanted->second;
    for (const Json& value : values) {
      const auto same = std::find(left.begin(), left.end(), value);
      if (same == left.end()) {
        ++counts.wrong;
        continue;
      }
      left.erase(same);
      ++counts.found, --counts.missed;
    }
  }
  return out;
}

/// Keys sorted and nulls dropped, so that equal objects are equal.
nlohmann::json plain_object(const Json& value) {
  if (value.is_object()) {
    nlohmann::json out = nlohmann::json::object();
    for (const auto& [name, part] : value.items())
      if (!part.is_null()) out[name] = plain_object(part);
    return out;
  }
  if (value.is_array()) {
    nlohmann::json out = nlohmann::json::array();
    for (const Json& part : value) out.push_back(plain_object(part));
    return out;
  }
  return nlohmann::json::parse(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// The JSON object that a text is, with white space or a Markdown fence around it; false if it is none.
bool read_object(const std::string& text, Json& out) {
  std::string inner = trimmed(text);
  if (inner.starts_with("```") && inner.ends_with("```") && inner.size() >= 6) {
    const size_t line = inner.find('\n');
    if (line != std::string::npos) inner = trimmed(inner.substr(line + 1, inner.size() - 4 - line));
  }
  try {
    out = parse_json(inner, "answer");
  } catch (const Error&) {
    return false;
  }
  return out.is_object();
}

}  // namespace

void score_extraction(const TaskConfig& task, const std::vector<TaskExample>& examples, TaskResult& r) {
  const JsonSchema schema = JsonSchema::read(task.schema);
  std::vector<double> exact, valid, by_schema;
  std::vector<FieldCounts> per_example(examples.size());
  std::map<std::string, FieldCounts> per_field;
  int64_t broken = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    Json expected, given;
    check(read_object(examples[i].answer, expected), str(task.test, ":", examples[i].line), "an answer that is a JSON object",
          examples[i].answer.substr(0, 60), "answer: \"{label}\" in the task file");
    const bool read = read_object(r.written[i], given);
    if (!read) given = Json::object();
    valid.push_back(read ? 1 : 0);
    by_schema.push_back(read && schema.problem(given).empty() ? 1 : 0);
    exact.push_back(read && plain_object(expected) == plain_object(given) ? 1 : 0);
    broken += !read;
    Leaves wanted, found;
    add_leaves(expected, "", wanted);
    add_leaves(given, "", found);
    for (const auto& [path, counts] : compare_leaves(wanted, found)) per_field[path] += counts, per_example[i] += counts;
  }
  const auto over = [&](double (*number)(const FieldCounts&)) {
    return bootstrap(
        static_cast<int64_t>(examples.size()),
        [&](const std::vector<int64_t>& drawn) {
          FieldCounts sum;
          for (const int64_t c : drawn) sum += per_example[static_cast<size_t>(c)];
          return number(sum);
        },
        kFieldResamples);
  };
  add_share(r, "exact_match", std::move(exact));
  r.measures.push_back({"field_f1", over(field_f1)});
  r.measures.push_back({"field_precision", over(field_precision)});
  r.measures.push_back({"field_recall", over(field_recall)});
  add_share(r, "valid_json", std::move(valid));
  add_share(r, "valid_schema", std::move(by_schema));
  Json fields = Json::array();
  for (const auto& [path, c] : per_field)
    fields.push_back({{"field", path}, {"precision", proportion(c.found, c.found + c.wrong).to_json()},
                      {"recall", proportion(c.found, c.found + c.missed).to_json()}, {"f1", field_f1(c)}, {"n", c.found + c.missed}});
  r.more["fields"] = std::move(fields);
  r.more["invalid_json"] = broken;
  if (broken > 0)
    r.notes.push_back(
        str(broken, " of ", examples.size(), " written answers are no JSON object; they count as wrong, and every field of theirs as missed"));
}

}  // namespace attar
