#include "eval/task_eval.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "eval/label_trie.h"
#include "eval/positions.h"

namespace attar {

namespace {
/// Prompts of one forward pass, padded to the longest, each followed by the tree of answers: (B, P + M).
struct TreeBatch {
  TokenBatch tokens;
  std::vector<int64_t> lengths;  ///< of the prompts
  int64_t width = 0;             ///< P
};

/// Who sees whom inside the tree: (M, M), true for the node itself and those above it.
at::Tensor tree_mask(const LabelTrie& trie) {
  const int64_t count = trie.inputs();
  at::Tensor mask = at::zeros({count, count}, at::kBool);
  bool* data = mask.data_ptr<bool>();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = i; j >= 0; j = trie.input_parents()[static_cast<size_t>(j)]) data[i * count + j] = true;
  return mask;
}

TreeBatch tree_batch(const std::vector<const std::vector<int32_t>*>& prompts, const LabelTrie& trie, const at::Tensor& above) {
  TreeBatch out;
  const int64_t batch = static_cast<int64_t>(prompts.size()), count = trie.inputs();
  for (const auto* prompt : prompts) {
    out.lengths.push_back(static_cast<int64_t>(prompt->size()));
    out.width = std::max(out.width, out.lengths.back());
  }
  const int64_t total = out.width + count;
  at::Tensor ids = at::zeros({batch, total}, at::kLong), positions = at::zeros({batch, total}, at::kLong);
  const at::Tensor order = at::arange(out.width, at::kLong);
  at::Tensor mask = at::zeros({batch, total, total}, at::kBool);
  mask.slice(1, 0, out.width).slice(2, 0, out.width).copy_(order.unsqueeze(0).le(order.unsqueeze(1)));  // prompts: causal, padding sees what is there
  mask.slice(1, out.width).slice(2, out.width).copy_(above);
  for (int64_t b = 0; b < batch; ++b) {
    const auto& prompt = *prompts[static_cast<size_t>(b)];
    const int64_t length = out.lengths[static_cast<size_t>(b)];
    int64_t* id = ids[b].data_ptr<int64_t>();
    int64_t* position = positions[b].data_ptr<int64_t>();
    std::copy(prompt.begin(), prompt.end(), id);
    std::iota(position, position + out.width, int64_t{0});
    for (int64_t m = 0; m < count; ++m) {
      id[out.width + m] = trie.input_ids()[static_cast<size_t>(m)];
      position[out.width + m] = length - 1 + trie.input_depths()[static_cast<size_t>(m)];
    }
    mask[b].slice(0, out.width).slice(1, 0, length).fill_(true);
  }
  out.tokens.ids = ids;
  out.tokens.positions = positions;
  out.tokens.mask = mask;
  return out;
}
}  // namespace

std::vector<std::vector<double>> answer_likelihoods(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts,
                                                    const std::vector<std::vector<int32_t>>& answers, int64_t batch_tokens) {
  const at::NoGradGuard no_grad;
  const LabelTrie trie(answers);
  const at::Device device = model.weights().begin()->second.device();
  const at::Tensor above = tree_mask(trie);
  for (size_t i = 0; i < prompts.size(); ++i) {
    check(!prompts[i].empty(), str("prompt ", i), "one token at least (a tokenizer without BOS needs text)", "none");
    const int64_t length = static_cast<int64_t>(prompts[i].size()) + trie.depth() - 1;
    if (model.spec().context > 0 && length > model.spec().context)
      fail(str("prompt ", i, " with its longest answer"), str("at most ", model.spec().context, " tokens, the model's context"), str(length));
  }
  // Edge e is scored at the hidden state of the input it follows: column 0 the prompt's end, column m + 1 input m.
  std::vector<int64_t> edge_columns, edge_ids;
  for (const auto& edge : trie.edges()) {
    edge_columns.push_back(edge.from + 1);
    edge_ids.push_back(edge.id);
  }
  const at::Tensor columns = at::tensor(edge_columns, at::kLong), ids = at::tensor(edge_ids, at::kLong);

  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a].size() > prompts[b].size(); });
  std::vector<std::vector<double>> out(prompts.size());
  Progress progress("task", static_cast<int64_t>(prompts.size()), "examples");
  const int64_t nodes = trie.inputs() + 1;
  for (size_t done = 0; done < order.size();) {
    const int64_t each = static_cast<int64_t>(prompts[order[done]].size()) + trie.inputs();
    const size_t many = std::min(order.size() - done, static_cast<size_t>(std::max<int64_t>(1, batch_tokens / each)));
    std::vector<const std::vector<int32_t>*> chosen;
    for (size_t i = 0; i < many; ++i) chosen.push_back(&prompts[order[done + i]]);
    TreeBatch batch = tree_batch(chosen, trie, above);
    batch.tokens.ids = batch.tokens.ids.to(device);
    batch.tokens.positions = batch.tokens.positions.to(device);
    batch.tokens.mask = batch.tokens.mask.to(device);
    const at::Tensor hidden = model.hidden(batch.tokens);
    for (size_t i = 0; i < many; ++i) {
      const int64_t row = static_cast<int64_t>(i);
      const at::Tensor ends = at::cat({hidden[row].slice(0, batch.lengths[i] - 1, batch.lengths[i]), hidden[row].slice(0, batch.width)});
      std::vector<double> edges;
      const int64_t step = slice_rows(model.spec().vocab);
      at::Tensor normal = at::empty({nodes}, at::kDouble), found = at::empty({static_cast<int64_t>(edge_ids.size())}, at::kDouble);
      for (int64_t begin = 0; begin < nodes; begin += step) {
        const int64_t end = std::min(begin + step, nodes);
        const at::Tensor logits = model.logits(ends.slice(0, begin, end)).to(at::kDouble).cpu();
        normal.slice(0, begin, end).copy_(at::logsumexp(logits, {1}));
        const at::Tensor here = columns.ge(begin).logical_and(columns.lt(end)).nonzero().squeeze(1);
        found.index_put_({here}, logits.index({columns.index_select(0, here) - begin, ids.index_select(0, here)}));
      }
      const at::Tensor score = found - normal.index_select(0, columns);
      const double* value = score.data_ptr<double>();
      auto& sums = out[order[done + i]];
      for (const auto& path : trie.label_edges()) {
        double sum = 0;
        for (const int64_t edge : path) sum += value[edge];
        sums.push_back(sum);
      }
    }
    done += many;
    progress.update(static_cast<int64_t>(done));
    stop_if_asked();
  }
  progress.finish();
  return out;
}

std::vector<double> content_free_priors(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task,
                                        const std::vector<std::vector<int32_t>>& answers) {
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& text : task.content_free) prompts.push_back(prompt_ids(fill_template(task.prompt, {{"text", text}}), tokenizer));
  std::vector<double> out(answers.size(), 0);
  for (const std::vector<double>& likelihoods : answer_likelihoods(model, prompts, answers)) {
    const double most = *std::max_element(likelihoods.begin(), likelihoods.end());
    double sum = 0;
    for (const double l : likelihoods) sum += std::exp(l - most);
    for (size_t i = 0; i < out.size(); ++i) out[i] += std::exp(likelihoods[i] - most) / sum / static_cast<double>(prompts.size());
  }
  // A label without any share left would be chosen always: the smallest number keeps it finite.
  for (double& share : out) share = std::log(std::max(share, std::numeric_limits<double>::min()));
  return out;
}

TaskResult evaluate_task(const Decoder& model, const Tokenizer& tokenizer, const TaskConfig& task, const std::vector<TaskExample>& examples) {
  check(!examples.empty(), "examples of task " + task.name, "one at least", "none");
  TaskResult out;
  out.name = task.name;
  out.labels = task.labels;
  std::vector<std::vector<int32_t>> answers, prompts;
  size_t longest = 0;
  for (const auto& answer : task_answers(task)) {
    answers.push_back(answer_ids(answer, tokenizer));
    longest = std::max(longest, answers.back().size());
  }
  const int64_t room = model.spec().context > 0 ? model.spec().context - static_cast<int64_t>(longest) + 1 : 0;
  if (model.spec().context > 0) check(room >= 2, "context of the model", "room for a prompt and the longest answer", str(model.spec().context));
  for (const auto& example : examples) {
    std::vector<int32_t> ids = prompt_ids(example.prompt, tokenizer);
    if (model.spec().context > 0 && static_cast<int64_t>(ids.size()) > room) {
      const int64_t keep = tokenizer.add_bos() && tokenizer.bos() ? 1 : 0;
      ids.erase(ids.begin() + keep, ids.begin() + keep + (static_cast<int64_t>(ids.size()) - room));
      ++out.shortened;
    }
    prompts.push_back(std::move(ids));
    out.truth.push_back(example.label);
  }
  out.likelihoods = answer_likelihoods(model, prompts, answers);
  if (!task.content_free.empty()) {
    out.priors = content_free_priors(model, tokenizer, task, answers);
    for (auto& likelihoods : out.likelihoods)
      for (size_t i = 0; i < likelihoods.size(); ++i) likelihoods[i] -= out.priors[i];
  }
  score_task(out);
  return out;
}

}  // namespace attar
