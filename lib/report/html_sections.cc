#include <algorithm>
#include <map>
#include <numeric>

#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

/// A place for one chart; the script draws what `attributes` ask for.
std::string figure(const std::string& caption, const std::string& attributes, const std::string& size = "") {
  return "<figure class=\"chart " + size + "\"><figcaption>" + escape_html(caption) + "</figcaption><div class=canvas><canvas role=img aria-label=\""
      + escape_html(caption) + "\" " +
         attributes + "></canvas></div></figure>\n";
}

std::string attribute(const std::string& name, const std::string& value) { return name + "=\"" + escape_html(value) + "\" "; }

/// The confusion matrix with the share of each row as its shade, or, for many classes, its largest entries.
std::string confusion_html(const Json& details) {
  constexpr size_t kWidestMatrix = 20;
  const Json *labels = find_at(details, {"labels"}), *confusion = find_at(details, {"confusion"}), *top = find_at(details, {"top_confusions"});
  if (!labels || !labels->is_array() || !confusion || !confusion->is_array() || confusion->size() != labels->size()) return "";
  std::string out;
  if (labels->size() <= kWidestMatrix) {
    std::string head, body;
    for (const Json& label : *labels) head += "<th scope=col><span>" + escape_html(text_of(&label)) + "</span></th>";
    for (size_t truth = 0; truth < labels->size(); ++truth) {
      const Json& row = (*confusion)[truth];
      if (!row.is_array() || row.size() != labels->size()) return "";
      double total = 0;
      for (const Json& count : row) total += double_of(&count).value_or(0);
      body += "<tr><th scope=row>" + escape_html(text_of(&(*labels)[truth])) + "</th>";
      for (size_t predicted = 0; predicted < row.size(); ++predicted) {
        const double count = double_of(&row[predicted]).value_or(0), share = total > 0 ? count / total : 0;
        // Errors are few where a model is any good: their shade begins to show at one in a hundred.
        const int shade = count <= 0 ? 0 : static_cast<int>(truth == predicted ? 10 + 50 * share : std::min(80.0, 16 + 240 * share));
        body += truth == predicted ? "<td class=right" : "<td class=wrong";
        if (shade) body += " style=\"--s:" + std::to_string(shade) + "%\"";
        body += ">" + (count > 0 ? number_html(&row[predicted], to_line(row[predicted])) : std::string()) + "</td>";
      }
      body += "</tr>\n";
    }
    out += "<div class=wide><table class=confusion><caption>rows: truth, columns: prediction</caption><thead><tr><td></td>" + head
        + "</tr></thead><tbody>\n" + body + "</tbody></table></div>\n";
  }
  if (top && top->is_array() && !top->empty()) {
    constexpr size_t kFewest = 6, kMost = 15;
    const size_t shown = labels->size() <= kWidestMatrix ? kFewest : kMost;
    std::vector<std::vector<HtmlCell>> rows;
    for (const Json& entry : *top) {
      if (rows.size() == shown) break;
      const Json *count = number_of(find_at(entry, {"count"})), *of = number_of(find_at(entry, {"of"}));
      rows.push_back({{escape_html(text_of(find_at(entry, {"truth"}))), "name"},
                      {escape_html(text_of(find_at(entry, {"predicted"}))), ""},
                      {number_html(count, count ? to_line(*count) : "") + " of " + number_html(of, of ? to_line(*of) : ""), "number"}});
    }
    out += "<h4>Most frequent confusions</h4>\n" + table_html({"truth", "taken for", "cases"}, rows);
  }
  return out;
}

std::string per_class_html(const Json& details) {
  const Json *labels = find_at(details, {"labels"}), *f1 = find_at(details, {"f1"});
  if (!labels || !labels->is_array() || !f1 || !f1->is_array() || f1->size() != labels->size()) return "";
  std::vector<size_t> order(labels->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return double_of(&(*f1)[a]).value_or(0) < double_of(&(*f1)[b]).value_or(0);
      });
  std::string out;
  for (const size_t i : order) {
    const Json* number = number_of(&(*f1)[i]);
    const double value = number ? std::clamp(number->get<double>(), 0.0, 1.0) : 0;
    out += "<tr><th scope=row class=name>" + escape_html(text_of(&(*labels)[i])) + "</th><td class=number>" + number_html(number, percent(value)) +
           "</td><td class=bar><span style=\"width:" + fixed(100 * value, 1) + "%\"></span></td></tr>\n";
  }
  return "<div class=wide><table class=bars><thead><tr><th scope=col>class</th><th scope=col class=number>F1</th><th></th></tr></thead><tbody>\n"
      + out + "</tbody></table></div>\n";
}

std::string reliability_html(const Json& details) {
  const Json* bins = find_at(details, {"reliability"});
  if (!bins || !bins->is_array()) return "";
  std::vector<std::vector<HtmlCell>> rows;
  for (const Json& bin : *bins) {
    const Json* n = number_of(find_at(bin, {"n"}));
    if (!n || n->get<double>() <= 0) continue;
    std::vector<HtmlCell> row;
    for (const char* key : {"confidence", "accuracy"}) {
      const Json* number = number_of(find_at(bin, {key}));
      row.push_back({number_html(number, number ? percent(number->get<double>()) : ""), "number"});
    }
    row.push_back({number_html(n, to_line(*n)), "number"});
    rows.push_back(std::move(row));
  }
  return rows.empty() ? "" : table_html({"mean confidence", "accuracy", "cases"}, rows);
}

/// Artifacts with the chosen one first and the base second, which are those to look at.
std::vector<std::string> by_interest(const Json& report) {
  const std::string choice = text_of(find_at(report, {"summary", "choice"})), base = text_of(find_at(report, {"summary", "base"}));
  std::vector<std::string> out;
  for (const std::string& id : {choice, base})
    if (!id.empty() && std::find(out.begin(), out.end(), id) == out.end()) out.push_back(id);
  for (const auto& [id, artifact] : artifacts_of(report).items())
    if (std::find(out.begin(), out.end(), id) == out.end()) out.push_back(id);
  return out;
}

std::vector<std::string> task_names(const Json& report, const char* part) {
  std::vector<std::string> out;
  for (const auto& [id, artifact] : artifacts_of(report).items())
    if (const Json* tasks = find_at(artifact, {part}); tasks && tasks->is_object())
      for (const auto& [task, value] : tasks->items())
        if (std::find(out.begin(), out.end(), task) == out.end()) out.push_back(task);
  return out;
}

/// A metric's name as people write it.
std::string metric_title(std::string metric) {
  static const std::map<std::string, std::string> known = {{"macro_f1", "macro F1"},
                                                           {"ece", "calibration error"},
                                                           {"ece_equal_mass", "the same, equal mass"},
                                                           {"brier", "Brier score"},
                                                           {"answer_brier", "Brier score of the answer"},
                                                           {"label_nll", "NLL of the label"},
                                                           {"accuracy_norm", "accuracy, by length"},
                                                           {"f1", "word F1"},
                                                           {"rouge_l", "ROUGE-L"},
                                                           {"field_f1", "field F1"},
                                                           {"valid_json", "valid JSON"},
                                                           {"valid_schema", "follows the schema"},
                                                           {"word_nll", "NLL of the word"}};
  if (const auto found = known.find(metric); found != known.end()) return found->second;
  std::replace(metric.begin(), metric.end(), '_', ' ');
  return metric;
}

std::string metrics_table(const Json& report, const std::string& task) {
  std::vector<std::string> metrics;
  for (const auto& [id, artifact] : artifacts_of(report).items())
    if (const Json* all = find_at(artifact, {"tasks", task}); all && all->is_object())
      for (const auto& [metric, measure] : all->items())
        if (number_of(&measure) && std::find(metrics.begin(), metrics.end(), metric) == metrics.end()) metrics.push_back(metric);
  if (metrics.empty()) return "";
  std::vector<std::string> header = {"artifact"};
  header.insert(header.end(), metrics.begin(), metrics.end());
  for (std::string& name : header) name = metric_title(name);
  std::vector<std::vector<HtmlCell>> rows;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    if (!find_at(artifact, {"tasks", task})) continue;
    std::vector<HtmlCell> row = {{escape_html(id), "name"}};
    for (const std::string& metric : metrics) {
      const Json* measure = find_at(artifact, {"tasks", task, metric});
      const Json *value = number_of(measure), *low = number_of(find_at(measure, {"low"})), *high = number_of(find_at(measure, {"high"}));
      std::string cell = number_html(value, value ? shown_metric(metric, value->get<double>()) : "");
      const auto end = [&](const Json* number) { return is_share(metric) ? fixed(100 * number->get<double>(), 1) : significant(number->get<double>(),
          3); };
      if (value && low && high) cell += "<span class=\"interval under\">[" + number_html(low, end(low)) + ", " + number_html(high, end(high))
          + "]</span>";
      row.push_back({cell, "number"});
    }
    rows.push_back(std::move(row));
  }
  return table_html(header, rows, true);
}

/// Whose energy was measured, and what was left out.
std::string energy_of(const Json& report) {
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const std::string source = text_of(find_at(artifact, {"energy", "source"})), left_out = text_of(find_at(artifact, {"energy", "left_out"}));
    if (source.empty()) continue;
    const std::string parts = source == "NVML" ? "GPUs" : source == "RAPL" ? "processors and memory" : "processors, memory and GPUs";
    return parts + (left_out.empty() ? "" : " (" + left_out + ")");
  }
  return "the machine";
}

}  // namespace

std::string quality_section(const Json& report) {
  size_t sized = 0;
  for (const auto& [id, artifact] : artifacts_of(report).items())
    sized += number_of(find_at(artifact, {"bytes"})) && (main_metric(artifact) || number_of(find_at(artifact, {"perplexity"}))
        || number_of(find_at(artifact, {"kld"})));
  if (sized < 2) return "";
  return section_html("quality", "Quality and size",
      "Each point is an artifact; further up and further left is better. The line joins those that no other one beats in both.",
                      "<p class=choose hidden><label>Up: <select id=quality-of></select></label></p>\n" + figure("Quality against size",
                          "data-chart=quality", "large"));
}

std::string tasks_section(const Json& report) {
  std::string body;
  for (const std::string& task : task_names(report, "tasks")) {
    body += "<h3>" + escape_html(task) + "</h3>\n" + metrics_table(report, task);
    bool first = true;
    std::string folded;
    for (const std::string& id : by_interest(report)) {
      const Json* details = find_at(artifacts_of(report), {id, "task_details", task});
      if (!details) continue;
      const std::string bins = reliability_html(*details);
      std::string parts = confusion_html(*details);
      if (first && !bins.empty()) {
        const std::string chart = figure("Reliability: how often it is right where it is so sure", "data-chart=reliability " + attribute("data-task",
            task), "square");
        parts = "<div class=pair><div>" + parts + "</div>" + chart + "</div>\n";
      }
      if (const std::string classes = per_class_html(*details); !classes.empty()) parts += details_html("F1 of every class, lowest first", classes);
      if (!bins.empty()) parts += details_html("Confidence and accuracy, bin by bin", bins);
      parts += fields_html(*details) + mistakes_html(*details);
      if (parts.empty()) continue;
      if (first) body += "<h4>" + escape_html(id) + (find_at(*details, {"confusion"}) ? ": who is taken for whom" : "") + "</h4>\n" + parts;
      else folded += details_html(id, parts);
      first = false;
    }
    if (!folded.empty()) body += "<h4>The same of the other artifacts</h4>\n" + folded;
  }
  return section_html("tasks", "Tasks", "", body);
}

std::string running_section(const Json& report) {
  std::vector<std::vector<HtmlCell>> rows;
  bool energy = false, cost = false, next = false, load = false;
  std::string conditions;
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json* measured = find_at(artifact, {"energy"});
    energy = energy || number_of(measured);
    cost = cost || find_at(artifact, {"cost"});
    const Json* latency = find_at(artifact, {"latency"});
    next = next || number_of(find_at(latency, {"time_per_token_s"}));
    load = load || number_of(find_at(latency, {"load_s"}));
    const Json* pinned = find_at(latency, {"pinned"});
    const Json *prompt = number_of(find_at(latency, {"prompt_tokens"})), *fresh = number_of(find_at(latency, {"new_tokens"})),
        *runs = number_of(find_at(latency, {"runs"})),
               *threads = number_of(find_at(latency, {"threads"}));
    if (conditions.empty() && prompt && fresh && runs && threads)
      conditions = "Greedy generation for one user: a prompt of " + to_line(*prompt) + " tokens, " + to_line(*fresh) + " new ones, " + to_line(*runs)
          + " runs after warm-up, " +
                   to_line(*threads) + (threads->get<double>() == 1 ? " thread" : " threads")
                       + (pinned && *pinned == true ? ", each on a core of its own" : "")
                       + ". Medians, and in brackets what 10% and 90% of the runs stay below.";
  }
  for (const auto& [id, artifact] : artifacts_of(report).items()) {
    const Json *latency = find_at(artifact, {"latency"}), *peak = number_of(find_at(artifact, {"memory", "peak_rss_bytes"}));
    if (!number_of(find_at(latency, {"tokens_per_s"})) && !number_of(find_at(latency, {"ttft_s"})) && !peak) continue;
    const auto spread = [&](const char* key, const auto& show) {
      const Json *value = number_of(find_at(latency, {key})), *low = number_of(find_at(latency, {key, "p10"})), *high = number_of(find_at(latency,
          {key, "p90"}));
      std::string out = number_html(value, value ? show(value->get<double>()) : "");
      if (value && low && high)
        out += " <span class=interval>[" + number_html(low, show(low->get<double>())) + ", " + number_html(high, show(high->get<double>()))
            + "]</span>";
      return HtmlCell{out, "number"};
    };
    const auto milliseconds = [](double s) { return significant(1000 * s, 3); };
    const auto three = [](double v) { return significant(v, 3); };
    std::vector<HtmlCell> row = {{escape_html(id), "name"}, spread("tokens_per_s", three), spread("ttft_s", milliseconds)};
    const Json* slow = number_of(find_at(latency, {"ttft_s", "p99"}));
    row.push_back({number_html(slow, slow ? milliseconds(slow->get<double>()) : ""), "number"});
    if (next) row.push_back(spread("time_per_token_s", milliseconds));
    const Json* loading = number_of(find_at(latency, {"load_s"}));
    if (load) row.push_back({number_html(loading, loading ? milliseconds(loading->get<double>()) : ""), "number"});
    row.push_back({number_html(peak, peak ? human_bytes(peak->get<double>()) : ""), "number"});
    const auto other = [&](const char* key) {
      const Json* value = find_at(artifact, {key});
      if (const Json* conversations = find_at(value, {"per_million_conversations"})) value = conversations;
      const Json* number = number_of(value);
      row.push_back({number ? number_html(number, significant(number->get<double>(), 3)) : escape_html(text_of(value)), "number"});
    };
    if (energy) other("energy");
    if (cost) other("cost");
    rows.push_back(std::move(row));
  }
  if (rows.empty()) return section_html("running", "Running it", "", kv_cache_html(report));
  std::vector<std::string> header = {"artifact", "tokens/s", "first token, ms", "99% below, ms"};
  if (next) header.push_back("next token, ms");
  if (load) header.push_back("load, ms");
  header.push_back("peak memory");
  if (energy) header.push_back("joules a token");
  if (cost) header.push_back("cost of a million conversations");
  std::string out = table_html(header, rows, true);
  std::string why = "not measured";
  for (const auto& [id, artifact] : artifacts_of(report).items())
    if (const std::string text = text_of(find_at(artifact, {"energy"})); why == "not measured" && text.starts_with(why)) why = text;
  out += "<p class=note>" + std::string(load ? "The load is attar's own, of files that had just been read. " : "")
      + "Peak memory is that of the whole evaluating process. "
      + escape_html(energy ? "Energy is what " + energy_of(report) + " used meanwhile, whoever used it." : "Energy was " + why + ".") + "</p>\n";
  return section_html("running", "Running it", conditions, out + latency_grid_html(report) + kv_cache_html(report));
}

std::string training_section(const Json& report) {
  const Json* curves = find_at(report, {"curves"});
  if (!curves || !curves->is_object() || curves->empty()) return "";
  std::string charts;
  std::vector<std::vector<HtmlCell>> rows;
  for (const auto& [id, series] : curves->items()) {
    charts += figure(id, "data-chart=curves " + attribute("data-stage", id));
    const Json* stage = find_at(report, {"lineage", id});
    const auto cell = [&](std::initializer_list<std::string_view> path, const auto& show) {
      const Json* number = number_of(find_at(stage, path));
      return HtmlCell{number_html(number, number ? show(number->get<double>()) : ""), "number"};
    };
    const auto three = [](double v) { return significant(v, 3); };
    rows.push_back({{escape_html(id), "name"},
                    cell({"facts", "steps"}, [](double v) { return fixed(v, 0); }),
                    cell({"facts", "rows"}, human_count),
                    cell({"facts", "learned_tokens"}, human_count),
                    cell({"facts", "training_loss"}, three),
                    cell({"facts", "held_out_loss"}, three),
                    cell({"facts", "throughput", "tokens_per_s"}, human_count),
                    cell({"facts", "throughput", "mfu"}, [](double v) { return percent(v, 0); }),
                    cell({"seconds"}, human_seconds)});
  }
  return section_html("training", "Training", "Nats a token. Full lines: rows that are learned from; points: rows held apart.",
                      "<div class=grid>\n" + charts + "</div>\n" + table_html({"stage", "steps", "rows", "learned tokens", "loss at the end",
                          "held-out loss", "tokens/s", "MFU", "took"}, rows, true));
}

std::string surgery_section(const Json& report) {
  const Json* lineage = find_at(report, {"lineage"});
  if (!lineage || !lineage->is_object()) return "";
  std::string body;
  for (const auto& [id, stage] : lineage->items()) {
    body += pruning_html(id, stage);
    const Json *pruned = find_at(stage, {"facts", "pruned"}), *layers = find_at(pruned, {"layers"});
    if (!layers || !layers->is_array() || layers->empty()) continue;
    const Json *before = number_of(find_at(stage, {"facts", "parameters_before"})), *after = number_of(find_at(stage, {"facts", "parameters"}));
    body += "<h3>" + escape_html(id) + ": what was pruned where</h3>\n<p class=note>By " + escape_html(text_of(find_at(pruned, {"criterion"})));
    if (before && after) body += "; " + number_html(before, human_count(before->get<double>())) + " parameters became " + number_html(after,
        human_count(after->get<double>()));
    body += ". The bar is the share of the layer's importance that stayed.</p>\n";
    std::string rows;
    for (const Json& layer : *layers) {
      const auto part = [&](const char* key) {
        const Json* number = number_of(find_at(layer, {key}));
        return "<td class=number>" + number_html(number, number ? to_line(*number) : "") + "</td>";
      };
      const Json* kept = number_of(find_at(layer, {"kept_importance"}));
      rows += "<tr>" + part("layer") + part("ffn_before") + part("ffn") + "<td class=number>" + number_html(kept, kept ? percent(kept->get<double>())
          : "") +
              "</td><td class=bar><span style=\"width:" + fixed(kept ? 100 * std::clamp(kept->get<double>(), 0.0, 1.0) : 0, 1)
                  + "%\"></span></td></tr>\n";
    }
    body += "<div class=wide><table class=bars><thead><tr><th scope=col class=number>layer</th><th scope=col class=number>FFN "
        "before</th><th scope=col class=number>FFN</th>"
            "<th scope=col class=number>kept</th><th></th></tr></thead><tbody>\n" + rows + "</tbody></table></div>\n";
  }
  for (const auto& [id, stage] : lineage->items()) {
    const Json* types = find_at(report, {"summary", "tensor_types", id});
    if (!types || !types->is_array()) continue;
    std::vector<std::vector<HtmlCell>> rows, all;
    bool has_errors = false;
    for (const Json& type : *types) {
      const Json *count = number_of(find_at(type, {"tensors"})), *bytes = number_of(find_at(type, {"bytes"}));
      rows.push_back({{escape_html(text_of(find_at(type, {"type"}))), "name"}, {number_html(count, count ? to_line(*count) : ""), "number"},
                      {number_html(bytes, bytes ? human_bytes(bytes->get<double>()) : ""), "number"}});
    }
    for (const Json& tensor : *find_at(stage, {"facts", "tensors"})) {
      const Json *shape = find_at(tensor, {"shape"}), *bytes = number_of(find_at(tensor, {"bytes"}));
      std::string dims;
      if (shape && shape->is_array())
        for (const Json& dim : *shape) dims += (dims.empty() ? "" : " × ") + number_html(number_of(&dim), to_line(dim));
      all.push_back({{"<code>" + escape_html(text_of(find_at(tensor, {"name"}))) + "</code>", "name"}, {escape_html(text_of(find_at(tensor,
          {"type"}))), ""},
                     {dims, "number"}, {number_html(bytes, bytes ? human_bytes(bytes->get<double>()) : ""), "number"}});
      const Json* error = number_of(find_at(tensor, {"error"}));
      has_errors |= error != nullptr;
      all.back().push_back({number_html(error, error ? fixed(100 * error->get<double>(), 3) + "%" : ""), "number"});
    }
    std::vector<std::string> columns = {"tensor", "type", "shape", "bytes", "error"};
    if (!has_errors) {
      columns.pop_back();
      for (auto& row : all) row.pop_back();
    }
    body += "<h3>" + escape_html(id) + ": types of its tensors</h3>\n";
    if (const Json* proven = number_of(find_at(stage, {"facts", "elements_proven"})))
      body += "<p class=note>Written, read back and dequantized: " + number_html(proven, human_count(proven->get<double>()))
          + " elements equal the model's.</p>\n";
    if (const Json* notes = find_at(stage, {"facts", "notes"}); notes && notes->is_array() && !notes->empty()) {
      body += "<ul class=notes>\n";
      for (const Json& note : *notes) body += "<li>" + escape_html(text_of(&note)) + "</li>\n";
      body += "</ul>\n";
    }
    body += table_html({"type", "tensors", "bytes"}, rows) + details_html("Every tensor", table_html(columns, all))
        + (has_errors ? "<p class=note>Error: how far the tensor's values lie from the weights before, as a share of their norm.</p>\n" : "");
  }
  return section_html("surgery", "What was done to the weights", "", body);
}

}  // namespace attar
