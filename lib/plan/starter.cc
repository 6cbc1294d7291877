#include "plan/starter.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "base/rng.h"
#include "base/yaml.h"
#include "formats/text_lines.h"

namespace attar {
namespace {

using ExampleRow = std::map<std::string, std::string>;

std::vector<ExampleRow> read_examples(const fs::path& from) {
  std::vector<ExampleRow> rows;
  const std::string ending = text_ending(from);
  if (ending == ".csv") {
    CsvReader reader(from);
    for (std::vector<std::string> cells; reader.next(cells);) {
      ExampleRow row;
      for (size_t i = 0; i < cells.size(); ++i) row[reader.columns()[i]] = cells[i];
      rows.push_back(std::move(row));
    }
  } else if (ending == ".jsonl") {
    LineReader reader(from);
    for (std::string line; reader.next(line);) {
      if (line.empty()) continue;
      const std::string name = str(from.string(), ":", reader.number());
      const Json json = parse_json(line, name);
      check(json.is_object(), name, "a JSON object", line.substr(0, 60));
      ExampleRow row;
      for (const auto& [key, value] : json.items())
        if (value.is_string() || value.is_number()) row[key] = value.is_string() ? value.get<std::string>() : value.dump();
      rows.push_back(std::move(row));
    }
  } else {
    fail(from.string(), ".csv or .jsonl", ending.empty() ? "a file without an ending" : ending);
  }
  return rows;
}

struct FieldFacts {
  std::set<std::string> values;
  double length = 0;
};

/// The label has the fewest distinct values (two at least, each seen more than once on average); the text is the longest other field.
std::pair<std::string, std::string> guess_fields(const std::vector<ExampleRow>& rows, std::string text, std::string label) {
  std::map<std::string, FieldFacts> facts;
  for (const ExampleRow& row : rows)
    for (const auto& [key, value] : row) facts[key].values.insert(value), facts[key].length += static_cast<double>(value.size());
  const auto refuse_unknown = [&](const std::string& name) {
    std::vector<std::string> known;
    for (const auto& [key, f] : facts) known.push_back(key);
    check(facts.count(name) > 0, "field '" + name + "'", "a field of the examples", "none", nearest_hint(name, known));
  };
  if (!text.empty()) refuse_unknown(text);
  if (!label.empty()) refuse_unknown(label);
  if (label.empty())
    for (const auto& [key, f] : facts)
      if (key != text && f.values.size() >= 2 && f.values.size() * 2 <= rows.size() &&
          (label.empty() || f.values.size() < facts[label].values.size()))
        label = key;
  check(!label.empty(), "the label's field", "one with few distinct values", "none", "name it with --label");
  if (text.empty())
    for (const auto& [key, f] : facts)
      if (key != label && (text.empty() || f.length > facts[text].length)) text = key;
  check(!text.empty(), "the text's field", "one beside the label", "none", "name it with --text");
  return {text, label};
}

void write_rows(const fs::path& file, const std::vector<const ExampleRow*>& rows, const std::string& text, const std::string& label) {
  std::string out;
  for (const ExampleRow* row : rows) out += to_line({{"text", row->at(text)}, {"label", row->at(label)}}) + "\n";
  write_file(file, out);
}

std::string in_quotes(const std::string& text) { return Json(text).dump(); }

std::string recipe_text(const std::string& name, const fs::path& folder, int64_t rows) {
  const int64_t steps = std::clamp<int64_t>(rows / 12, 150, 1500);
  return "# attar run " + (folder / "recipe.yaml").string() + "\n# attar run " + (folder / "recipe.yaml").string() +
         " stages.teacher.train.steps=20 stages.student.train.steps=20\nname: " + in_quotes(name) +
         "\nseed: 7\ntask: task.yaml\ndata: {learn: all, pack: false, seq: 256}\nstages:\n"
         "  tokenizer: {kind: train_tokenizer, vocab_size: 1024}\n"
         "  teacher:   {kind: distill, model: teacher.yaml, tokens: tokenizer, loss: {ce: 1.0, prompt_weight: 0.1}, train: {steps: " +
         std::to_string(steps) +
         ", lr: 1.5e-3}}\n"
         "  logits:    {kind: capture, teacher: teacher, codec: {kind: sampled, samples: 50}}\n"
         "  student:   {kind: distill, model: student.yaml, teacher: logits, loss: {kl: 1.0, prompt_weight: 0.1}, train: {steps: " +
         std::to_string(steps) +
         ", lr: 2.0e-3}}\n"
         "  qat:       {kind: quantize, model: student, scheme: q4_0, method: qat, loss: {kl: 1.0, prompt_weight: 0.1}, train: {steps: " +
         std::to_string(steps / 4) +
         "}}\n"
         "  gguf:      {kind: export, model: qat, format: gguf}\n"
         "  onnx:      {kind: export, model: qat, format: onnx, type: int4}\n"
         "  report:    {kind: evaluate, of: [teacher, student, gguf, onnx], base: teacher}\n"
         "gates:\n  gguf.tasks." +
         name + ".accuracy: {at_least: 0.8}\n";
}

}  // namespace

Starter make_starter(const fs::path& folder, const fs::path& from, const std::string& text_field, const std::string& label_field, uint64_t seed) {
  check(!fs::exists(folder) || (fs::is_directory(folder) && fs::is_empty(folder)), folder.string(), "a new or empty folder", "something in it");
  const std::vector<ExampleRow> rows = read_examples(from);
  check(rows.size() >= 20, from.string(), "20 examples or more", std::to_string(rows.size()));
  Starter out;
  std::tie(out.text, out.label) = guess_fields(rows, text_field, label_field);
  std::vector<const ExampleRow*> train, test;
  std::set<std::string> labels, seen;
  const int64_t held = std::max<int64_t>(5, static_cast<int64_t>(rows.size()) / 10);
  for (int64_t i : permutation(static_cast<int64_t>(rows.size()), seed, stream_of("init"))) {
    const ExampleRow& row = rows[static_cast<size_t>(i)];
    if (!row.count(out.text) || !row.count(out.label) || row.at(out.text).empty() || !seen.insert(row.at(out.text)).second) continue;
    labels.insert(row.at(out.label));
    (static_cast<int64_t>(test.size()) < held ? test : train).push_back(&row);
  }
  check(labels.size() >= 2, from.string() + ": field '" + out.label + "'", "two labels or more", str(labels.size()));
  check(!train.empty(), from.string(), "examples with different texts", "too few");
  std::string name = folder.filename().string();
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  make_folder(folder);
  write_rows(folder / "train.jsonl", train, out.text, out.label);
  write_rows(folder / "test.jsonl", test, out.text, out.label);
  std::string task = "name: " + in_quotes(name) +
                     "\ntrain: train.jsonl\ntest: test.jsonl\ntext: text\nlabel: label\nprompt: \"{text}\\n\"\nanswer: \"{label}\"\nlabels:\n";
  for (const std::string& label : labels) task += "  - " + in_quotes(label) + "\n";
  write_file(folder / "task.yaml", task);
  write_file(
      folder / "teacher.yaml",
      "model_type: llama\nhidden_size: 256\nintermediate_size: 704\nnum_hidden_layers: 4\nnum_attention_heads: 4\nnum_key_value_heads: 2\nmax_position_embeddings: 512\n");
  write_file(
      folder / "student.yaml",
      "model_type: llama\nhidden_size: 128\nintermediate_size: 352\nnum_hidden_layers: 3\nnum_attention_heads: 4\nnum_key_value_heads: 2\nmax_position_embeddings: 512\n");
  write_file(folder / "recipe.yaml", recipe_text(name, folder, static_cast<int64_t>(train.size())));
  out.task = folder / "task.yaml", out.recipe = folder / "recipe.yaml";
  out.rows = static_cast<int64_t>(rows.size()), out.labels = static_cast<int64_t>(labels.size());
  out.train = static_cast<int64_t>(train.size()), out.test = static_cast<int64_t>(test.size());
  return out;
}

}  // namespace attar
