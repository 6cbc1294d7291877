#pragma once
#include <string>
#include <vector>

#include "base/check.h"
#include "spec/data_config.h"

namespace attar {

/// What a task file says that cannot be, without looking at its rows: kind, method, keys that its kind needs or does not know. Empty: nothing.
std::vector<Fault> task_faults(const TaskConfig& task);

/// How answers are judged: task.method, or what its kind does by itself ("likelihood" or "generation").
std::string task_method(const TaskConfig& task);
/// Longest written answer in tokens: task.max_tokens, or the kind's own.
int64_t task_max_tokens(const TaskConfig& task);
/// Metrics of a task's kind in the order of the report; the first stands for quality unless task.metric names another.
std::vector<std::string> task_metrics(const TaskConfig& task);

}  // namespace attar
