#include "base/check.h"
#include "report/facts.h"
#include "report/html.h"

namespace attar {
namespace {

/// A search's limit or cost in the words of its unit.
std::string cost_text(const std::string& unit, double cost) {
  if (unit == "bytes") return human_bytes(cost);
  if (unit == "ms_per_token") return significant(cost, 3) + " ms a token";
  return human_count(cost) + " " + unit;
}

/// Columns of a search's table: key, title.
constexpr std::pair<const char*, const char*> kShapeColumns[] = {{"vocab", "vocabulary"}, {"hidden", "hidden"},     {"layers", "layers"},
                                                                 {"heads", "heads"},      {"kv_heads", "kv heads"}, {"ffn", "FFN"}};

/// What masks did, in one sentence; "" if there are none.
std::string masks_text(const Json& stage) {
  const Json* masks = find_at(stage, {"facts", "masks"});
  const auto sparsity = double_of(find_at(masks, {"sparsity"})), all = double_of(find_at(masks, {"sparsity_of_model"}));
  if (!sparsity) return "";
  std::string out = percent(*sparsity) + " of the linears' weights are zero by a mask (" + text_of(find_at(masks, {"method"})) + ", "
      + text_of(find_at(masks, {"pattern"})) + ")";
  if (all) out += ", " + percent(*all) + " of the whole model";
  out += ". Zeros are stored like any other weight: the exported files are no smaller and no faster for them.";
  if (const auto broken = double_of(find_at(masks, {"broken"})); broken && *broken > 0)
    out += " " + human_count(*broken) + " masked weights are no longer zero: the quantized grid has no zero there.";
  return out;
}

std::string search_text(const Json& search) {
  const std::string unit = text_of(find_at(search, {"unit"}));
  return "Shapes within " + cost_text(unit, double_of(find_at(search, {"limit"})).value_or(0))
      + ", the best first. Loss in nats a token of the whole model's text, after surgery and after a short recovery.";
}

}  // namespace

std::string pruning_html(const std::string& id, const Json& stage) {
  std::string out;
  if (const std::string masks = masks_text(stage); !masks.empty())
    out += "<h3>" + escape_html(id) + ": weights that are zero</h3>\n<p class=note>" + escape_html(masks) + "</p>\n";
  const Json *search = find_at(stage, {"facts", "search"}), *candidates = find_at(search, {"candidates"});
  if (!candidates || !candidates->is_array() || candidates->empty()) return out;
  const std::string unit = text_of(find_at(search, {"unit"}));
  std::vector<std::string> header;
  for (const auto& [key, title] : kShapeColumns) header.push_back(title);
  for (const char* title : {"parameters", "cost", "loss", "recovered", ""}) header.push_back(title);
  std::vector<std::vector<HtmlCell>> rows;
  for (const Json& one : *candidates) {
    std::vector<HtmlCell> row;
    const auto add = [&](const char* key, const auto& shown) {
      const Json* number = number_of(find_at(one, {key}));
      row.push_back({number_html(number, number ? shown(*number) : ""), "number"});
    };
    for (const auto& [key, title] : kShapeColumns) add(key, [](const Json& v) { return to_line(v); });
    add("parameters", [](const Json& v) { return human_count(v.get<double>()); });
    add("cost", [&](const Json& v) { return unit == "parameters" ? to_line(Json(v.get<int64_t>())) : cost_text(unit, v.get<double>()); });
    for (const char* key : {"loss", "recovered"}) add(key, [](const Json& v) { return significant(v.get<double>(), 4); });
    const Json* chosen = find_at(one, {"chosen"});
    row.push_back({chosen && chosen->is_boolean() && chosen->get<bool>() ? "chosen" : "", ""});
    rows.push_back(std::move(row));
  }
  return out + "<h3>" + escape_html(id) + ": shapes that were tried</h3>\n<p class=note>" + escape_html(search_text(*search)) + "</p>\n"
      + table_html(header, rows);
}

std::string pruning_markdown(const Json& report) {
  const Json* lineage = find_at(report, {"lineage"});
  if (!lineage || !lineage->is_object()) return "";
  std::string out;
  for (const auto& [id, stage] : lineage->items()) {
    if (const std::string masks = masks_text(stage); !masks.empty()) out += "\n`" + id + "`: " + masks + "\n";
    const Json *search = find_at(stage, {"facts", "search"}), *candidates = find_at(search, {"candidates"});
    if (!candidates || !candidates->is_array() || candidates->empty()) continue;
    out += "\n`" + id + "`: " + search_text(*search) + "\n\n|";
    std::string rule = "|";
    for (const auto& [key, title] : kShapeColumns) out += std::string(" ") + title + " |", rule += " --: |";
    out += " parameters | loss | recovered | |\n" + rule + " --: | --: | --: | :-- |\n";
    for (const Json& one : *candidates) {
      out += "|";
      for (const auto& [key, title] : kShapeColumns) out += " " + text_of(find_at(one, {key})) + " |";
      out += " " + human_count(double_of(find_at(one, {"parameters"})).value_or(0)) + " |";
      for (const char* key : {"loss", "recovered"}) {
        const auto value = double_of(find_at(one, {key}));
        out += " " + (value ? significant(*value, 4) : std::string("–")) + " |";
      }
      const Json* chosen = find_at(one, {"chosen"});
      out += std::string(chosen && chosen->is_boolean() && chosen->get<bool>() ? " chosen" : "") + " |\n";
    }
  }
  return out.empty() ? "" : "\n## Pruning\n" + out;
}

}  // namespace attar
