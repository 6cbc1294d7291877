#include "spec/task_check.h"

#include <algorithm>

namespace attar {
namespace {

const std::vector<std::string> kTaskKinds = {"classification", "multiple_choice", "extraction", "text", "next_word"};

bool writes_freely(const TaskConfig& task) { return task.kind == "extraction" || task.kind == "text"; }

}  // namespace

std::string task_method(const TaskConfig& task) {
  if (!task.method.empty()) return task.method;
  return writes_freely(task) ? "generation" : "likelihood";
}

int64_t task_max_tokens(const TaskConfig& task) {
  if (task.max_tokens > 0) return task.max_tokens;
  return task.kind == "extraction" ? 256 : task.kind == "text" ? 128 : 16;
}

std::vector<std::string> task_metrics(const TaskConfig& task) {
  if (task.kind == "multiple_choice") return {"accuracy", "accuracy_norm", "ece", "ece_equal_mass", "answer_brier"};
  if (task.kind == "extraction") return {"exact_match", "field_f1", "field_precision", "field_recall", "valid_json", "valid_schema"};
  if (task.kind == "text") return {"exact_match", "f1", "rouge_l"};
  if (task.kind == "next_word") return {"accuracy", "word_nll"};
  return {"accuracy", "macro_f1", "ece", "ece_equal_mass", "brier", "label_nll"};
}

std::vector<Fault> task_faults(const TaskConfig& task) {
  std::vector<Fault> out;
  const std::string of = " of task " + task.name;
  if (std::find(kTaskKinds.begin(), kTaskKinds.end(), task.kind) == kTaskKinds.end()) {
    out.push_back(
        {"kind" + of, "one of classification, multiple_choice, extraction, text, next_word", task.kind, nearest_hint(task.kind, kTaskKinds)});
    return out;
  }
  if (!task.method.empty() && task.method != "likelihood" && task.method != "generation")
    out.push_back({"method" + of, "likelihood or generation", task.method, nearest_hint(task.method, {"likelihood", "generation"})});
  else if (task.method == "likelihood" && writes_freely(task))
    out.push_back({"method" + of, "generation", "likelihood", "a task of kind " + task.kind + " has no list of answers to choose from"});
  if (task.max_tokens < 0) out.push_back({"max_tokens" + of, "0 (the kind's own) or more", str(task.max_tokens), ""});
  if (task.kind == "extraction" && task.schema.empty())
    out.push_back({"schema" + of, "a JSON Schema's file", "nothing", "an extraction's answers are judged field by field"});
  if (task.kind != "extraction" && !task.schema.empty()) out.push_back({"schema" + of, "kind extraction", "kind " + task.kind, ""});
  if (!task.content_free.empty() && (task.kind != "classification" || task_method(task) != "likelihood"))
    out.push_back({"content_free" + of, "a classification by likelihood", task.kind + " by " + task_method(task), "leave content_free out"});
  if (task.kind == "multiple_choice" && task.choices.empty()) out.push_back({"choices" + of, "the field that holds them", "nothing", ""});
  if (std::any_of(task.stop.begin(), task.stop.end(), [](const std::string& text) { return text.empty(); }))
    out.push_back({"stop" + of, "texts", "an empty one", ""});
  const std::vector<std::string> metrics = task_metrics(task);
  if (!task.metric.empty() && std::find(metrics.begin(), metrics.end(), task.metric) == metrics.end())
    out.push_back({"metric" + of, "a metric of kind " + task.kind, task.metric, nearest_hint(task.metric, metrics)});
  return out;
}

}  // namespace attar
