// attar registry recheck: the models in use, measured again on new data by attar eval.
#include "decide/registry.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <iostream>

#include "base/check.h"
#include "front/front.h"
#include "report/facts.h"
#include "report/terminal.h"

namespace attar {
namespace {

/// Runs attar eval on a model; what it prints. Its own words go to stderr.
Json evaluate_model(const RegistryModel& model, const Words& words) {
  int ends[2];
  check(pipe(ends) == 0, "a pipe", "to be made", std::strerror(errno));
  std::vector<std::string> line = {
      "attar",         "eval", "--model",  model.path,          "--task",    words.get("task"),    "--task-rows", words.get("task-rows"),
      "--text-tokens", "2048", "--device", words.get("device"), "--threads", words.get("threads"), "--log-level", "warn",
      "--json"};
  std::vector<char*> arguments;
  for (std::string& part : line) arguments.push_back(part.data());
  arguments.push_back(nullptr);
  const pid_t child = fork();
  check(child >= 0, "a process", "to be made", std::strerror(errno));
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]), close(ends[1]);
    execv("/proc/self/exe", arguments.data());
    _exit(127);
  }
  close(ends[1]);
  std::string out;
  char part[4096];
  for (ssize_t count; (count = read(ends[0], part, sizeof part)) != 0;) {
    if (count < 0 && errno != EINTR) break;
    if (count > 0) out.append(part, static_cast<size_t>(count));
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, model.label(), "to be evaluated on the new data", "an error, said above");
  return parse_json(out, "attar eval");
}

}  // namespace

int tool_registry_recheck(const Words& words) {
  Registry registry(words.get("registry"), false);
  const std::string task = words.get("task");
  check(fs::is_regular_file(task), task, "a task file", "nothing");
  const auto found = registry.recheck(words.has("all"), words.number("margin"), fs::absolute(task).string(),
                                      [&](const RegistryModel& m) { return evaluate_model(m, words); });
  check(!found.empty(), words.get("registry"), "models in use", "none", "attar registry promote NAME@VERSION, or --all");
  Json list = Json::array();
  std::vector<std::vector<std::string>> rows;
  bool worse = false;
  for (const Recheck& r : found) {
    worse = worse || r.worse;
    list.push_back({{"model", r.model.label()}, {"task", r.task}, {"metric", r.metric}, {"recorded", r.recorded}, {"measured", r.measured},
                    {"difference", {{"low", r.low}, {"high", r.high}}}, {"worse", r.worse}, {"note", r.note}});
    const auto value = [&](const Json& measure) { return measure.is_object() ? shown_metric(r.metric, *double_of(&measure)) : std::string("-"); };
    rows.push_back({r.model.label(), r.metric, value(r.recorded), value(r.measured),
                    r.note.empty() ? "[" + significant(r.low, 3) + ", " + significant(r.high, 3) + "]" : r.note, r.worse ? "WORSE" : "holds"});
  }
  if (words.has("json")) std::cout << to_line({{"checks", list}}) << "\n";
  else std::cout << format_table({"model", "metric", "recorded", "now", "difference", ""}, rows);
  return worse ? 3 : 0;
}

}  // namespace attar
