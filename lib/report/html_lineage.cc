#include <algorithm>

#include "base/check.h"
#include "base/yaml.h"
#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

/// A hash as its first characters, whole on hovering and when copied from its title.
std::string hash_html(const std::string& hash) {
  constexpr size_t kShown = 12;
  if (hash.size() <= kShown) return "<code>" + escape_html(hash) + "</code>";
  return "<code title=\"" + escape_html(hash) + "\">" + escape_html(hash.substr(0, kShown)) + "…</code>";
}

/// Inputs or outputs of a stage: name and hash each. What is nested shows as its JSON.
std::string files_html(const Json* files) {
  std::string out;
  if (!files || (!files->is_object() && !files->is_array())) return "";
  for (const auto& [name, hash] : files->items()) {
    std::string shown = text_of(&hash);
    if (const Json* inner = find_at(hash, {"sha256"})) shown = text_of(inner);
    out += "<li>" + escape_html(name) + " " + hash_html(shown) + "</li>";
  }
  return out.empty() ? "" : "<ul class=files>" + out + "</ul>";
}

/// Where and how often latency was measured, as `attar eval` takes it.
std::string latency_options(const Json* running) {
  std::string out;
  for (const auto& [key, option] : {std::pair{"prompt_tokens", "--prompt-tokens"}, {"new_tokens", "--new-tokens"}, {"threads", "--at-threads"},
                                    {"runs", "--runs"}, {"warm_up", "--warm-up"}, {"load_runs", "--load-runs"}}) {
    const Json* value = find_at(running, {key});
    std::string numbers = value && value->is_number() ? to_line(*value) : "";
    if (value && value->is_array())
      for (const Json& number : *value) numbers += (numbers.empty() ? "" : ",") + to_line(number);
    if (!numbers.empty()) out += std::string(" ") + option + " " + shell_word(numbers);
  }
  const Json* pinned = find_at(running, {"pinned"});
  return out + (pinned && *pinned == false ? " --not-pinned" : "");
}

/// The call that measures one artifact again, from the evaluate stage that measured it; "" if the recipe does not tell.
std::string measuring_command(const Json& report, const std::string& id, const Json& artifact) {
  const Json* stages = find_at(report, {"recipe", "stages"});
  const std::string path = text_of(find_at(artifact, {"path"})), run = "runs/" + text_of(find_at(report, {"name"})) + "/";
  if (!stages || !stages->is_object() || path.empty()) return "";
  for (const auto& [name, stage] : stages->items()) {
    const Json* of = find_at(stage, {"of"});
    if (text_of(find_at(stage, {"kind"})) != "evaluate" || !of || !of->is_array() || std::find(of->begin(), of->end(), Json(id)) == of->end())
      continue;
    const auto place = [&](const std::string& where) { return shell_word(where.starts_with("/") ? where : run + where); };
    std::string out = "attar eval --model " + place(path);
    const std::string base = text_of(find_at(stage, {"base"})), text = text_of(find_at(stage, {"text"}));
    if (!base.empty()) {
      const std::string base_path = text_of(find_at(artifacts_of(report), {base, "path"}));
      out += " --base " + (base_path.empty() ? shell_word(base) : place(base_path));
    }
    if (!text.empty()) out += " --text " + shell_word(text);
    if (find_at(report, {"recipe", "task"}) && !report["recipe"]["task"].is_null()) out += " --task TASK.yaml";
    for (const auto& [key, option] :
         {std::pair{"ctx", "--ctx"}, {"stride", "--stride"}, {"text_tokens", "--text-tokens"}, {"task_rows", "--task-rows"}})
      if (const Json* value = number_of(find_at(stage, {key})); value && value->get<double>() > 0)
        out += std::string(" ") + option + " " + to_line(*value);
    if (const Json* latency = find_at(stage, {"latency"}); latency && latency->is_boolean() && latency->get<bool>())
      out += " --latency" + latency_options(find_at(stage, {"running"}));
    return out + " --json";
  }
  return "";
}

std::string environment_html(const Json& report) {
  const Json* environment = find_at(report, {"environment"});
  if (!environment || !environment->is_object() || environment->empty()) return "";
  std::vector<std::vector<HtmlCell>> rows;
  for (const auto& [key, value] : environment->items()) {
    std::string name = key;
    for (char& c : name)
      if (c == '_') c = ' ';
    const Json* number = number_of(&value);
    const bool bytes = key.find("bytes") != std::string::npos;
    if (bytes && name.ends_with(" bytes")) name.resize(name.size() - 6);
    std::string shown = number ? number_html(number, bytes ? human_bytes(number->get<double>()) : to_line(*number)) : escape_html(text_of(&value));
    if (shown.empty()) shown = "none";
    rows.push_back({{escape_html(name), "name"}, {shown, ""}});
  }
  return "<h3>Environment</h3>\n" + table_html({"", "what was here"}, rows);
}

}  // namespace

std::string use_section(const Json& report) {
  std::string body;
  for (const UseSnippet& snippet : use_snippets(report)) body += "<h3>" + escape_html(snippet.title) + "</h3>\n" + code_html(snippet.code);
  return section_html("use", "How to use the files", "Paths are relative to the run's folder.", body);
}

std::string lineage_section(const Json& report) {
  std::string body;
  const std::string name = text_of(find_at(report, {"name"}));
  if (const Json* recipe = find_at(report, {"recipe"}); recipe && recipe->is_object()) {
    body += "<h3>How to reproduce</h3>\n<p>Same recipe, same data, same number of threads: the files come out with the same hashes. What "
        "is done already is skipped.</p>\n";
    body += code_html("attar run recipes/" + name + ".yaml\nattar report runs/" + name
        + "        # this page again, from what the stages recorded\nattar verify runs/" + name +
                      "/STAGE  # every file against its hash");
    std::string commands;
    for (const auto& [id, artifact] : artifacts_of(report).items())
      if (const std::string command = measuring_command(report, id, artifact); !command.empty()) commands += command + "\n";
    if (!commands.empty())
      body += details_html("The numbers of each artifact again",
                           "<p class=note>One call an artifact; its JSON has the keys of report.json. TASK.yaml is the recipe's task. Times "
                           "differ with the machine, the others do not.</p>\n" +
                               code_html(commands));
    body += details_html("The effective recipe: every key with its value, defaults included", code_html(to_yaml(from_json(*recipe))));
  }
  std::vector<std::vector<HtmlCell>> rows;
  if (const Json* lineage = find_at(report, {"lineage"}); lineage && lineage->is_object())
    for (const auto& [id, stage] : lineage->items()) {
      const Json* seconds = number_of(find_at(stage, {"seconds"}));
      rows.push_back({{escape_html(id) + "<span class=kind>" + escape_html(text_of(find_at(stage, {"kind"}))) + "</span>", "name"},
                      {hash_html(text_of(find_at(stage, {"key"}))), ""},
                      {files_html(find_at(stage, {"inputs"})), ""},
                      {files_html(find_at(stage, {"outputs"})), ""},
                      {number_html(seconds, seconds ? human_seconds(seconds->get<double>()) : ""), "number"}});
    }
  if (!rows.empty()) body += "<h3>From data to file</h3>\n" + table_html({"stage", "key", "inputs", "outputs", "took"}, rows, true);
  rows.clear();
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const std::string hash = text_of(find_at(artifact, {"sha256"})), path = text_of(find_at(artifact, {"path"}));
    if (hash.empty() && path.empty()) continue;
    rows.push_back({{escape_html(id), "name"}, {"<code>" + escape_html(path) + "</code>", ""}, {"<code class=hash>" + escape_html(hash) + "</code>",
        ""}});
  }
  if (!rows.empty()) body += "<h3>What was measured</h3>\n" + table_html({"artifact", "path", "SHA-256"}, rows, true);
  body += environment_html(report);
  return section_html("lineage", "Reproduce and trace", "", body);
}

std::string words_section(const Json& report) {
  if (artifacts_of(report).empty()) return "";
  return section_html("words", "What the numbers mean", "", R"(<dl>
<dt>accuracy [95%]</dt><dd>Share of held-out rows answered rightly; the answer is the label whose whole text is likeliest. In brackets
Wilson's 95% interval.</dd>
<dt>against base</dt><dd>Difference to the base on the same rows. Its interval is a paired bootstrap: if it holds zero, these rows cannot
tell the two apart.</dd>
<dt>perplexity</dt><dd>exp of the mean negative log-likelihood a token; lower is better. ± is the standard error. Compares only models of
one tokenizer.</dd>
<dt>KL to base</dt><dd>Mean KL(base ‖ artifact) of next-token distributions, nats a token: how much of the base's behaviour was lost. 0 is
the same model.</dd>
<dt>same top token</dt><dd>Share of positions where both like the same token best.</dd>
<dt>RMS Δp</dt><dd>Root mean square of the change in probability of the token that really follows.</dd>
<dt>calibration (ECE), Brier</dt><dd>How far confidence is from accuracy over 15 bins; mean squared error of the label probabilities. Lower
is better.</dd>
<dt>bits/weight</dt><dd>Bits of the weights' files over the number of parameters, so it counts scales, tables and metadata.</dd>
<dt>first token</dt><dd>From the call to the first new token, with the prompt read from nothing.</dd>
<dt>next token</dt><dd>From one new token to the one after it, of all that were timed.</dd>
<dt>load</dt><dd>From the call until the file can be computed with, its tokenizer too.</dd>
</dl>
)");
}

}  // namespace attar
