#include "data/task.h"

#include <algorithm>
#include <set>

#include "base/check.h"
#include "base/yaml.h"
#include "data/row_reader.h"
#include "spec/task_check.h"

namespace attar {

namespace {
/// A data path of a task file: from the working directory, else from the task's folder or one above it.
std::string task_path(const std::string& written, const fs::path& base) {
  if (written.empty()) return "";
  const fs::path path = expand_environment(written);
  std::error_code error;
  if (fs::exists(path, error)) return path.string();
  if (path.is_relative()) {
    for (fs::path folder = fs::absolute(base, error);; folder = folder.parent_path()) {
      if (fs::exists(folder / path, error)) return (folder / path).lexically_normal().string();
      if (folder == folder.parent_path()) break;
    }
  }
  fail(path.string(), "a data file", "nothing there", "looked in the working directory and upwards from " + base.string());
}

/// How many ids each of the pieces [begin, end) gives when they are encoded as one text: what a runtime does with a rendered conversation.
/// Where a token would reach over a piece's end, each piece is encoded alone.
std::vector<std::vector<int32_t>> encode_joined(const Document& document, size_t begin, size_t end, const Tokenizer& tokenizer) {
  std::string text;
  for (size_t i = begin; i < end; ++i) text += document.pieces[i].text;
  const std::vector<int32_t> all = tokenizer.encode(text, true);
  std::vector<std::vector<int32_t>> out;
  text.clear();
  size_t at = 0;
  for (size_t i = begin; i < end; ++i) {
    text += document.pieces[i].text;
    const std::vector<int32_t> part = i + 1 == end ? all : tokenizer.encode(text, true);
    if (part.size() < at || part.size() > all.size() || !std::equal(part.begin(), part.end(), all.begin())) {
      out.clear();
      for (size_t j = begin; j < end; ++j) out.push_back(tokenizer.encode(document.pieces[j].text, true));
      return out;
    }
    out.emplace_back(part.begin() + static_cast<int64_t>(at), part.end());
    at = part.size();
  }
  return out;
}

std::vector<std::vector<int32_t>> encode_pieces(const Document& document, const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> out;
  for (size_t begin = 0; begin < document.pieces.size();) {
    size_t end = begin + 1;
    while (document.joined && end < document.pieces.size() && !document.pieces[end].apart) ++end;
    if (document.joined)
      for (auto& ids : encode_joined(document, begin, end, tokenizer)) out.push_back(std::move(ids));
    else
      out.push_back(tokenizer.encode(document.pieces[begin].text, document.pieces[begin].special));
    begin = end;
  }
  return out;
}
}  // namespace

TaskConfig load_task(const fs::path& file) {
  return complete_task(read_fields<TaskConfig>(read_yaml(file), ""), file.parent_path());
}

TaskConfig complete_task(TaskConfig task, const fs::path& base) {
  if (std::vector<Fault> faults = task_faults(task); !faults.empty()) throw Error(std::move(faults));
  task.train = task_path(task.train, base);
  task.test = task_path(task.test, base);
  task.valid = task_path(task.valid, base);
  task.schema = task_path(task.schema, base);
  if (task.kind != "classification") return task;
  std::set<std::string> seen;
  for (const auto& label : task.labels)
    if (!seen.insert(label).second) fail("labels of task " + task.name, "each label once", "'" + label + "' twice");
  if (task.labels.empty()) {
    check(!task.train.empty(), "labels of task " + task.name, "a list, or training rows to take them from", "neither");
    RecordReader records(task.train);
    Json record;
    while (records.next(record)) seen.insert(records.text(record, task.label));
    task.labels.assign(seen.begin(), seen.end());
    check(!task.labels.empty(), task.train, "rows of data", "none");
  }
  check(task.labels.size() > 1, "labels of task " + task.name, "two or more", str(task.labels.size()));
  return task;
}

std::vector<std::string> task_answers(const TaskConfig& task) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const auto& label : task.labels) {
    out.push_back(fill_template(task.answer, {{"label", label}}));
    if (out.back().empty()) fail("answer of label '" + label + "' in task " + task.name, "text", "nothing");
    if (!seen.insert(out.back()).second)
      fail("answer of label '" + label + "' in task " + task.name, "another text than other labels'", out.back(), "put {label} into task.answer");
  }
  return out;
}

RenderedDocument render_document(const Document& document, const Tokenizer& tokenizer) {
  RenderedDocument out;
  const auto put = [&out](int32_t id, bool learn) {
    out.ids.push_back(id);
    out.learn.push_back(learn);
  };
  const std::vector<std::vector<int32_t>> pieces = encode_pieces(document, tokenizer);
  // A chat template may write BOS itself: there is one.
  const bool written = document.joined && tokenizer.bos() && !pieces.empty() && !pieces[0].empty() && pieces[0][0] == *tokenizer.bos();
  if (tokenizer.add_bos() && tokenizer.bos() && !written) put(*tokenizer.bos(), false);
  out.bos = written || !out.ids.empty();
  out.prompt = static_cast<int64_t>(out.ids.size());
  for (size_t i = 0; i < document.pieces.size(); ++i) {
    for (const int32_t id : pieces[i]) put(id, document.pieces[i].learn);
    if (i < document.prompt_pieces) out.prompt = static_cast<int64_t>(out.ids.size());
  }
  for (int64_t i = 0; i < out.prompt; ++i)
    if (out.learn[static_cast<size_t>(i)]) out.learn[static_cast<size_t>(i)] = kLearnPrompt;
  if (tokenizer.eos() && !document.joined) put(*tokenizer.eos(), true);
  return out;
}

std::vector<int32_t> prompt_ids(const std::string& prompt, const Tokenizer& tokenizer) {
  Document document;
  if (!prompt.empty()) document.pieces.push_back({prompt, false});
  std::vector<int32_t> ids = render_document(document, tokenizer).ids;
  if (tokenizer.eos()) ids.pop_back();
  return ids;
}

std::vector<int32_t> answer_ids(const std::string& answer, const Tokenizer& tokenizer) {
  Document document;
  document.pieces.push_back({answer, true});
  const RenderedDocument rendered = render_document(document, tokenizer);
  return {rendered.ids.begin() + rendered.bos, rendered.ids.end()};
}

bool shorten_prompt(RenderedDocument& rendered, int64_t length) {
  const int64_t excess = static_cast<int64_t>(rendered.ids.size()) - length;
  if (excess <= 0) return true;
  if (rendered.prompt - rendered.bos < excess) return false;
  rendered.ids.erase(rendered.ids.begin() + rendered.bos, rendered.ids.begin() + rendered.bos + excess);
  rendered.learn.erase(rendered.learn.begin() + rendered.bos, rendered.learn.begin() + rendered.bos + excess);
  rendered.prompt -= excess;
  return true;
}

}  // namespace attar
