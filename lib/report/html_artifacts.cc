#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

/// "[94.1%, 96.2%]" of a {value, low, high}, each with its number.
std::string interval_html(const Json* measure, const std::string& metric) {
  const Json *low = number_of(find_at(measure, {"low"})), *high = number_of(find_at(measure, {"high"}));
  if (!low || !high) return "";
  const auto show = [&](const Json* end) { return is_share(metric) ? fixed(100 * end->get<double>(), 1) : significant(end->get<double>(), 3); };
  return " <span class=\"interval under\">[" + number_html(low, show(low)) + ", " + number_html(high, show(high)) + "]</span>";
}

std::string error_html(const Json* measure, int digits) {
  const Json *value = number_of(measure), *error = number_of(find_at(measure, {"stderr"}));
  if (!value) return number_html(nullptr, "");
  std::string out = number_html(value, significant(value->get<double>(), digits));
  if (error && error->get<double>() > 0) out += " <span class=\"interval under\">±" + number_html(error, significant(error->get<double>(), 2))
      + "</span>";
  return out;
}

std::string times(double value) { return significant(value, value >= 100 ? 4 : 3) + "×"; }

/// "31.6× smaller" or "1.4× the size" of what `than` names, from an artifact's against_base.
std::string size_html(const Json* against, const std::string& than) {
  const Json *smaller = number_of(find_at(against, {"times_smaller"})), *share = number_of(find_at(against, {"bytes_share"}));
  if (!smaller || !share) return "";
  if (smaller->get<double>() >= 1) return number_html(smaller, times(smaller->get<double>())) + " smaller" + (than.empty() ? "" : " than " + than);
  return number_html(share, times(share->get<double>())) + " the size" + (than.empty() ? "" : " of " + than);
}

/// "−0.6 pts [−1.2, 0.0]" against the base.
std::string difference_html(const Json* difference) {
  const Json* value = number_of(difference);
  if (!value) return "";
  const bool share = is_share(text_of(find_at(difference, {"metric"})));
  const auto show = [&](const Json* number) {
    const double v = number->get<double>();
    return share ? points(v) : (v >= 0 ? "+" : "") + significant(v, 3);
  };
  std::string out = number_html(value, show(value));
  const Json *low = number_of(find_at(difference, {"low"})), *high = number_of(find_at(difference, {"high"}));
  const auto end = [&](const Json* number) {
    const double v = share ? 100 * number->get<double>() : number->get<double>();
    const std::string text = share ? fixed(v, 1) : significant(v, 3);
    return text[0] == '-' ? "−" + text.substr(1) : v > 0 ? "+" + text : text;
  };
  if (low && high) out += " <span class=\"interval under\">[" + number_html(low, end(low)) + ", " + number_html(high, end(high)) + "]</span>";
  return out;
}

std::string tile(const std::string& label, const std::string& value, const std::string& under) {
  return "<div class=tile><div class=label>" + escape_html(label) + "</div><div class=value>" + value + "</div><div class=under>" + under
      + "</div></div>\n";
}

/// The chosen artifact's tiles: size, quality, distance, speed.
std::string tiles(const Json& artifact, const Json* base, const std::string& base_id) {
  std::string out;
  const Json* against = find_at(artifact, {"against_base"});
  if (const Json* bytes = number_of(find_at(artifact, {"bytes"}))) {
    const std::string ratio = size_html(against, escape_html(base_id));
    out += tile("Size", number_html(bytes, human_bytes(bytes->get<double>())), ratio.empty() ? "bytes of all weights" : ratio);
  }
  if (const auto main = main_metric(artifact)) {
    std::string under = difference_html(find_at(against, {"difference"}));
    under = under.empty() ? "95% interval" + interval_html(main->measure, main->metric) : under + " against " + escape_html(base_id);
    out += tile(main->task + " " + main->metric, number_html(number_of(main->measure), shown_metric(main->metric, *double_of(main->measure))), under);
  }
  if (const Json* kld = find_at(artifact, {"kld"}); number_of(kld)) {
    const Json* top1 = number_of(find_at(artifact, {"top1_agreement"}));
    out += tile("KL to " + base_id, number_html(number_of(kld), significant(*double_of(kld), 3)),
                top1 ? "same top token " + number_html(top1, percent(top1->get<double>())) : "nats a token");
  } else if (const Json* perplexity = find_at(artifact, {"perplexity"}); number_of(perplexity)) {
    out += tile("Perplexity", number_html(number_of(perplexity), significant(*double_of(perplexity), 4)), escape_html(text_of(find_at(artifact,
        {"text"}))));
  }
  if (const Json* speed = number_of(find_at(artifact, {"latency", "tokens_per_s"}))) {
    const Json* faster = number_of(find_at(against, {"times_faster"}));
    out += tile("Tokens/s", number_html(speed, significant(speed->get<double>(), 3)),
                faster && base ? number_html(faster, times(faster->get<double>())) + " as fast as " + escape_html(base_id) : "greedy, one user");
  }
  return "<div class=tiles>\n" + out + "</div>\n";
}

bool gate_passed(const Json& gate) {
  const Json* passed = find_at(gate, {"passed"});
  return passed && passed->is_boolean() && passed->get<bool>();
}

}  // namespace

std::string verdict_section(const Json& report) {
  const std::string verdict = text_of(find_at(report, {"verdict"})), base_id = text_of(find_at(report, {"summary", "base"}));
  const std::string choice = text_of(find_at(report, {"summary", "choice"}));
  const std::string kind = verdict == "pass" ? "pass" : verdict == "fail" ? "fail" : "open";
  std::string out = "<header>\n<p class=eyebrow>attar report</p>\n<h1>" + escape_html(text_of(find_at(report, {"name"}))) + " <span class=\"verdict "
      + kind + "\">" +
                    escape_html(verdict == "pass" ? "pass" : verdict == "fail" ? "fail" : verdict.empty() ? "no verdict" : verdict)
                        + "</span></h1>\n";
  const Json* artifact = choice.empty() ? nullptr : find_at(artifacts_of(report), {choice});
  const bool gated = find_at(report, {"gates"}) && !report["gates"].empty();
  size_t missed = 0;
  if (gated && report["gates"].is_array())
    for (const Json& gate : report["gates"]) missed += !gate_passed(gate);
  if (artifact) {
    out += "<p class=lead>" + std::string(gated ? "The smallest artifact that meets its gates is " : "The smallest artifact is ") + "<strong>"
        + escape_html(choice) + "</strong>";
    const Json* against = find_at(*artifact, {"against_base"});
    if (const Json* bytes = number_of(find_at(*artifact, {"bytes"}))) out += ": " + number_html(bytes, human_bytes(bytes->get<double>()));
    if (const std::string ratio = size_html(against, escape_html(base_id)); !ratio.empty()) out += ", " + ratio;
    if (const auto main = main_metric(*artifact)) {
      out += ", at " + number_html(number_of(main->measure), shown_metric(main->metric, *double_of(main->measure))) + " " + escape_html(main->metric);
      if (const std::string cost = difference_html(find_at(against, {"difference"})); !cost.empty()) out += " (" + cost + ")";
    }
    out += ".</p>\n";
  } else if (gated) {
    out += "<p class=lead>No artifact meets all of its gates.</p>\n";
  }
  if (missed) out += "<p class=\"lead missed\">" + std::string(missed == 1 ? "One gate is" : "Several gates are")
      + " not met: see <a href=\"#gates\">Gates</a>.</p>\n";
  if (artifact) out += tiles(*artifact, find_at(artifacts_of(report), {base_id}), base_id);
  return out + "</header>\n";
}

std::string gates_section(const Json& report) {
  const Json* gates = find_at(report, {"gates"});
  if (!gates || !gates->is_array() || gates->empty()) return "";
  std::vector<std::vector<HtmlCell>> rows;
  for (const Json& gate : *gates) {
    std::string limits;
    if (const Json* limit = find_at(gate, {"limit"}); limit && limit->is_object()) {
      for (const auto& [key, value] : limit->items()) {
        if (value.is_null()) continue;
        std::string words = key;
        for (char& c : words)
          if (c == '_') c = ' ';
        if (const Json* margin = number_of(find_at(value, {"margin"})))
          limits += (limits.empty() ? "" : ", ") +
                    ("within " + number_html(margin, gate_number(gate, margin->get<double>())) + " of "
                     + escape_html(text_of(find_at(value, {"of"}))));
        else limits += (limits.empty() ? "" : ", ") + escape_html(words) + " "
            + (number_of(&value) ? number_html(&value, gate_number(gate, value.get<double>())) : escape_html(text_of(&value)));
      }
    } else {
      limits = escape_html(text_of(limit));
    }
    const Json* value = number_of(find_at(gate, {"value"}));
    const bool passed = gate_passed(gate);
    std::string shown = value ? number_html(value, gate_number(gate, value->get<double>(), 4)) : "not measured";
    if (const Json *low = number_of(find_at(gate, {"difference", "low"})), *high = number_of(find_at(gate, {"difference", "high"})); low && high)
      shown += "<span class=\"interval under\">difference [" + number_html(low, gate_number(gate, low->get<double>(), 3)) + ", "
          + number_html(high, gate_number(gate, high->get<double>(), 3)) + "]</span>";
    if (const std::string note = text_of(find_at(gate, {"note"})); !note.empty() && value)
      shown += "<span class=\"interval under\">" + escape_html(note) + "</span>";
    rows.push_back({{"<code>" + escape_html(text_of(find_at(gate, {"path"}))) + "</code>", "name"},
                    {limits, ""},
                    {shown, "number"},
                    {passed ? "<span class=\"verdict pass\">met</span>" : "<span class=\"verdict fail\">not met</span>", ""}});
  }
  return section_html("gates", "Gates", "", table_html({"number", "limit", "value", ""}, rows, true));
}

std::string artifacts_section(const Json& report) {
  const Json& artifacts = artifacts_of(report);
  if (artifacts.empty()) return "";
  const std::string choice = text_of(find_at(report, {"summary", "choice"})), base = text_of(find_at(report, {"summary", "base"}));
  const std::string metric = text_of(find_at(report, {"summary", "metric"}));
  const auto any = [&](std::initializer_list<std::string_view> path) {
    for (const auto& [id, artifact] : artifacts.items())
      if (number_of(find_at(artifact, path))) return true;
    return false;
  };
  const bool parameters = any({"parameters"}), bits = any({"bits_per_weight"}), perplexity = any({"perplexity"}), kld = any({"kld"}),
      top1 = any({"top1_agreement"}),
             speed = any({"latency", "tokens_per_s"});
  std::vector<std::string> header = {"artifact", "size"};
  if (parameters) header.push_back("parameters");
  if (bits) header.push_back("bits/weight");
  if (!metric.empty()) header.push_back(metric + " [95%]"), header.push_back(base.empty() ? "difference" : "against " + base);
  if (perplexity) header.push_back("perplexity");
  if (kld) header.push_back("KL to " + (base.empty() ? "base" : base));
  if (top1) header.push_back("same top token");
  if (speed) header.push_back("tokens/s");
  std::vector<std::vector<HtmlCell>> rows;
  std::vector<std::string> classes;
  for (const auto& [id, artifact] : artifacts.items()) {
    const std::string kind = text_of(find_at(report, {"lineage", text_of(find_at(artifact, {"stage"})), "kind"}));
    std::string name = escape_html(id);
    if (id == base) name += " <span class=tag>base</span>";
    if (id == choice) name += " <span class=\"tag chosen\">choice</span>";
    if (!kind.empty()) name += " <span class=kind>" + escape_html(kind) + "</span>";
    std::vector<HtmlCell> row = {{name, "name"}};
    const Json* bytes = number_of(find_at(artifact, {"bytes"}));
    const std::string ratio = size_html(find_at(artifact, {"against_base"}), "");
    row.push_back({number_html(bytes, bytes ? human_bytes(bytes->get<double>()) : "") + (ratio.empty() ? "" : " <span class=under>" + ratio
        + "</span>"), "number"});
    const auto plain = [&](std::initializer_list<std::string_view> path, const auto& show) {
      const Json* number = number_of(find_at(artifact, path));
      row.push_back({number_html(number, number ? show(number->get<double>()) : ""), "number"});
    };
    if (parameters) plain({"parameters"}, human_count);
    if (bits) plain({"bits_per_weight"}, [](double v) { return fixed(v, 2); });
    if (!metric.empty()) {
      const auto main = main_metric(artifact);
      row.push_back({main ? number_html(number_of(main->measure), shown_metric(main->metric, *double_of(main->measure)))
          + interval_html(main->measure, main->metric)
                          : number_html(nullptr, ""),
                     "number"});
      const std::string cost = difference_html(find_at(artifact, {"against_base", "difference"}));
      row.push_back({cost.empty() ? number_html(nullptr, "") : cost, "number"});
    }
    if (perplexity) row.push_back({error_html(find_at(artifact, {"perplexity"}), 4), "number"});
    if (kld) row.push_back({error_html(find_at(artifact, {"kld"}), 3), "number"});
    if (top1) {
      plain({"top1_agreement"}, [](double v) { return percent(v); });
      if (const Json* delta = number_of(find_at(artifact, {"rms_delta_p"})))
        row.back().html += " <span class=under>RMS Δp " + number_html(delta, percent(delta->get<double>(), 2)) + "</span>";
    }
    if (speed) plain({"latency", "tokens_per_s"}, [](double v) { return significant(v, 3); });
    rows.push_back(std::move(row));
    classes.push_back(id == choice ? "chosen" : "");
  }
  std::string protocol;
  for (const auto& [id, artifact] : artifacts.items()) {
    if (protocol.empty()) protocol = text_of(find_at(artifact, {"perplexity", "protocol"}));
    if (const std::string text = text_of(find_at(artifact, {"text"})); !protocol.empty() && !text.empty()) {
      protocol = "Perplexity and KL over " + text + ": " + protocol + ".";
      break;
    }
  }
  std::string notes;
  for (const auto& [id, artifact] : artifacts.items())
    if (const Json* list = find_at(artifact, {"notes"}); list && list->is_array())
      for (const Json& note : *list) notes += "<li>" + escape_html(id) + ": " + escape_html(text_of(&note)) + "</li>\n";
  return section_html("artifacts", "Artifacts", protocol, table_html(header, rows, true, classes) + (notes.empty() ? "" : "<ul class=notes>\n"
      + notes + "</ul>\n"));
}

}  // namespace attar
