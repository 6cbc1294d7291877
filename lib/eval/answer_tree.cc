#include "eval/answer_tree.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "eval/positions.h"

namespace attar {
namespace {

/// Prompts of one forward pass, padded to the longest, each followed by its tree of answers: (B, P + M).
struct TreeBatch {
  TokenBatch tokens;
  std::vector<int64_t> lengths;  ///< of the prompts
  int64_t width = 0;             ///< P
};

/// Who sees whom inside the tree: (M, M), true for the node itself and those above it.
at::Tensor tree_mask(const LabelTrie& tree) {
  const int64_t count = tree.inputs();
  at::Tensor mask = at::zeros({count, count}, at::kBool);
  bool* data = mask.data_ptr<bool>();
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = i; j >= 0; j = tree.input_parents()[static_cast<size_t>(j)]) data[i * count + j] = true;
  return mask;
}

/// A tree with its mask and where its edges are scored: edge e at the hidden state of the input it follows, column 0 the prompt's end, column
/// m + 1 input m.
struct PreparedTree {
  const LabelTrie* tree;
  at::Tensor above, columns, ids;
  explicit PreparedTree(const LabelTrie& given) : tree(&given), above(tree_mask(given)) {
    std::vector<int64_t> edge_columns, edge_ids;
    for (const auto& edge : given.edges()) {
      edge_columns.push_back(edge.from + 1);
      edge_ids.push_back(edge.id);
    }
    columns = at::tensor(edge_columns, at::kLong), ids = at::tensor(edge_ids, at::kLong);
  }
};

/// One row of a batch.
struct TreeRow {
  const std::vector<int32_t>* prompt;
  const PreparedTree* prepared;
  const LabelTrie& tree() const { return *prepared->tree; }
};

TreeBatch tree_batch(const std::vector<TreeRow>& rows) {
  TreeBatch out;
  const int64_t batch = static_cast<int64_t>(rows.size());
  int64_t most = 0;
  for (const TreeRow& row : rows) {
    out.lengths.push_back(static_cast<int64_t>(row.prompt->size()));
    out.width = std::max(out.width, out.lengths.back());
    most = std::max(most, row.tree().inputs());
  }
  const int64_t total = out.width + most;
  at::Tensor ids = at::zeros({batch, total}, at::kLong), positions = at::zeros({batch, total}, at::kLong);
  const at::Tensor order = at::arange(out.width, at::kLong);
  at::Tensor mask = at::zeros({batch, total, total}, at::kBool);
  mask.slice(1, 0, out.width).slice(2, 0, out.width).copy_(order.unsqueeze(0).le(order.unsqueeze(1)));  // prompts: causal, padding sees what is there
  for (int64_t b = 0; b < batch; ++b) {
    const auto& prompt = *rows[static_cast<size_t>(b)].prompt;
    const LabelTrie& tree = rows[static_cast<size_t>(b)].tree();
    const int64_t length = out.lengths[static_cast<size_t>(b)], count = tree.inputs();
    mask[b].slice(0, out.width, out.width + count).slice(1, out.width, out.width + count).copy_(rows[static_cast<size_t>(b)].prepared->above);
    int64_t* id = ids[b].data_ptr<int64_t>();
    int64_t* position = positions[b].data_ptr<int64_t>();
    std::copy(prompt.begin(), prompt.end(), id);
    std::iota(position, position + out.width, int64_t{0});
    for (int64_t m = 0; m < count; ++m) {
      id[out.width + m] = tree.input_ids()[static_cast<size_t>(m)];
      position[out.width + m] = length - 1 + tree.input_depths()[static_cast<size_t>(m)];
    }
    mask[b].slice(0, out.width).slice(1, 0, length).fill_(true);
  }
  out.tokens.ids = ids;
  out.tokens.positions = positions;
  out.tokens.mask = mask;
  return out;
}

/// `ends` (1 + M, D): hidden states of the prompt's end and of the tree's inputs.
EdgeScores scores_of(const Decoder& model, const at::Tensor& ends, const PreparedTree& places) {
  const int64_t nodes = ends.size(0), edges = places.ids.numel(), step = slice_rows(model.spec().vocab);
  at::Tensor normal = at::empty({nodes}, at::kDouble), most = at::empty({nodes}, at::kDouble), found = at::empty({edges}, at::kDouble);
  for (int64_t begin = 0; begin < nodes; begin += step) {
    const int64_t end = std::min(begin + step, nodes);
    const at::Tensor logits = model.logits(ends.slice(0, begin, end)).to(at::kDouble).cpu();
    normal.slice(0, begin, end).copy_(at::logsumexp(logits, {1}));
    most.slice(0, begin, end).copy_(at::amax(logits, {1}));
    const at::Tensor here = places.columns.ge(begin).logical_and(places.columns.lt(end)).nonzero().squeeze(1);
    found.index_put_({here}, logits.index({places.columns.index_select(0, here) - begin, places.ids.index_select(0, here)}));
  }
  const at::Tensor score = found - normal.index_select(0, places.columns), best = found.ge(most.index_select(0, places.columns));
  EdgeScores out;
  out.log_probs.assign(score.const_data_ptr<double>(), score.const_data_ptr<double>() + edges);
  out.likeliest.assign(best.const_data_ptr<bool>(), best.const_data_ptr<bool>() + edges);
  return out;
}

}  // namespace

std::vector<EdgeScores> score_answers(const Decoder& model, const std::vector<std::vector<int32_t>>& prompts, const std::vector<LabelTrie>& trees,
                                      int64_t batch_tokens, const std::string& label) {
  check(trees.size() == 1 || trees.size() == prompts.size(), "trees of answers", "one, or one for each prompt", str(trees.size()));
  const at::NoGradGuard no_grad;
  const at::Device device = model.weights().begin()->second.device();
  const auto tree_of = [&](size_t i) -> size_t { return trees.size() == 1 ? 0 : i; };
  for (size_t i = 0; i < prompts.size(); ++i) {
    check(!prompts[i].empty(), str("prompt ", i), "one token at least (a tokenizer without BOS needs text)", "none");
    const int64_t length = static_cast<int64_t>(prompts[i].size()) + trees[tree_of(i)].depth() - 1;
    if (model.spec().context > 0 && length > model.spec().context)
      fail(str("prompt ", i, " with its longest answer"), str("at most ", model.spec().context, " tokens, the model's context"), str(length));
  }
  std::vector<size_t> order(prompts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a].size() > prompts[b].size(); });
  std::vector<EdgeScores> out(prompts.size());
  std::map<size_t, PreparedTree> prepared;
  Progress progress(label, static_cast<int64_t>(prompts.size()), "examples");
  for (size_t done = 0; done < order.size();) {
    std::vector<TreeRow> rows;
    if (trees.size() > 1) prepared.clear();
    int64_t widest = 0;
    while (done + rows.size() < order.size()) {
      const size_t i = order[done + rows.size()], t = tree_of(i);
      widest = std::max(widest, static_cast<int64_t>(prompts[order[done]].size()) + trees[t].inputs());
      if (!rows.empty() && widest * static_cast<int64_t>(rows.size() + 1) > batch_tokens) break;
      rows.push_back({&prompts[i], &prepared.try_emplace(t, trees[t]).first->second});
    }
    TreeBatch batch = tree_batch(rows);
    batch.tokens.ids = batch.tokens.ids.to(device);
    batch.tokens.positions = batch.tokens.positions.to(device);
    batch.tokens.mask = batch.tokens.mask.to(device);
    const at::Tensor hidden = model.hidden(batch.tokens);
    for (size_t r = 0; r < rows.size(); ++r) {
      const at::Tensor row = hidden[static_cast<int64_t>(r)];
      const at::Tensor ends = at::cat({row.slice(0, batch.lengths[r] - 1, batch.lengths[r]),
                                       row.slice(0, batch.width, batch.width + rows[r].tree().inputs())});
      out[order[done + r]] = scores_of(model, ends, *rows[r].prepared);
    }
    done += rows.size();
    progress.update(static_cast<int64_t>(done));
    stop_if_asked();
  }
  progress.finish();
  return out;
}

std::vector<double> answer_sums(const LabelTrie& tree, const EdgeScores& scores) {
  std::vector<double> out;
  for (const auto& path : tree.label_edges()) {
    double sum = 0;
    for (const int64_t edge : path) sum += scores.log_probs[static_cast<size_t>(edge)];
    out.push_back(sum);
  }
  return out;
}

ConstrainedChoice constrained_choice(const LabelTrie& tree, const EdgeScores& scores) {
  // Edges that leave one node stand for all that may be written there.
  std::map<int64_t, std::vector<size_t>> leaving;
  for (size_t e = 0; e < tree.edges().size(); ++e) leaving[tree.edges()[e].from].push_back(e);
  std::vector<double> allowed(tree.edges().size());
  std::vector<bool> taken(tree.edges().size(), false);
  for (const auto& [node, edges] : leaving) {
    const auto likelier = [&](size_t a, size_t b) { return scores.log_probs[a] < scores.log_probs[b]; };
    const size_t best = *std::max_element(edges.begin(), edges.end(), likelier);
    taken[best] = true;
    double sum = 0;
    for (const size_t e : edges) sum += std::exp(scores.log_probs[e] - scores.log_probs[best]);
    for (const size_t e : edges) allowed[e] = scores.log_probs[e] - scores.log_probs[best] - std::log(sum);
  }
  ConstrainedChoice out;
  size_t longest = 0;  // without an end token one answer may go on where another ends
  for (size_t i = 0; i < tree.label_edges().size(); ++i) {
    double sum = 0;
    bool all = true;
    for (const int64_t edge : tree.label_edges()[i]) {
      sum += allowed[static_cast<size_t>(edge)];
      all = all && taken[static_cast<size_t>(edge)];
    }
    out.log_probs.push_back(sum);
    if (all && tree.label_edges()[i].size() > longest) longest = tree.label_edges()[i].size(), out.answer = static_cast<int64_t>(i);
  }
  return out;
}

}  // namespace attar
