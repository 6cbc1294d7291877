#include "eval/written_rows.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/log.h"
#include "base/signals.h"
#include "model/generate.h"
#include "spec/task_check.h"

namespace attar {
namespace {

constexpr int64_t kWrittenTokens = 8192;  ///< positions of a batch, prompts and answers
constexpr int64_t kWrittenRows = 64;

}  // namespace

std::string until_stop(const std::string& text, const std::vector<std::string>& stop, bool& ended) {
  size_t end = text.size();
  for (const std::string& word : stop) end = std::min(end, text.find(word));
  ended = end < text.size();
  return text.substr(0, end);
}

TaskResult write_rows(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples,
                      const TaskOptions& options) {
  TaskResult out;
  const int64_t longest = task_max_tokens(task);
  const std::vector<int64_t> room(examples.size(), longest);
  auto prompts = prompts_of(tokenizer, examples);
  out.shortened = fit_prompts(model, tokenizer, task, examples, room, options, prompts);
  out.written.resize(examples.size());
  out.confidence.resize(examples.size());
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a].size() > prompts[b].size(); });
  Progress progress("task", static_cast<int64_t>(prompts.size()), "answers");
  int64_t unfinished = 0;
  for (size_t done = 0; done < order.size();) {
    const int64_t each = static_cast<int64_t>(prompts[order[done]].size()) + longest;
    const size_t many = std::min(order.size() - done, static_cast<size_t>(std::clamp<int64_t>(kWrittenTokens / each, 1, kWrittenRows)));
    std::vector<std::vector<int32_t>> chosen;
    for (size_t i = 0; i < many; ++i) chosen.push_back(prompts[order[done + i]]);
    WriteOptions write;
    write.generate.max_tokens = longest;
    write.vocab = std::min(tokenizer.size(), model.spec().vocab);
    write.log_probs = true;
    if (tokenizer.eos()) write.generate.stop.push_back(*tokenizer.eos());
    if (!task.stop.empty())
      write.ended = [&](size_t, const std::vector<int32_t>& ids) {
        bool ended = false;
        until_stop(tokenizer.decode(ids), task.stop, ended);
        return ended;
      };
    const std::vector<WrittenText> texts = write_texts(model, chosen, std::vector<uint64_t>(many, 0), write);
    for (size_t i = 0; i < many; ++i) {
      bool ended = false;
      out.written[order[done + i]] = until_stop(tokenizer.decode(texts[i].ids), task.stop, ended);
      const double count = static_cast<double>(texts[i].ids.size()) + (texts[i].finished && !ended ? 1 : 0);
      out.confidence[order[done + i]] = count > 0 ? std::exp(texts[i].log_prob / count) : 1;
      unfinished += !texts[i].finished;
    }
    done += many;
    progress.update(static_cast<int64_t>(done));
    stop_if_asked();
  }
  progress.finish();
  if (unfinished > 0 && task.kind != "next_word") out.more["unfinished"] = unfinished;
  return out;
}

}  // namespace attar
