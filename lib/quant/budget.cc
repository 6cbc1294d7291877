#include "quant/budget.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "quant/knapsack.h"

namespace attar {
namespace {

constexpr int64_t kLogitsAtATime = int64_t{1} << 23;

/// Sum over positions of KL(base || other). base, other: hidden states (n, D) after the norm.
double summed_kl(const Decoder& base_model, const at::Tensor& base, const Decoder& other_model, const at::Tensor& other) {
  const int64_t n = base.size(0), step = std::max<int64_t>(1, kLogitsAtATime / base_model.spec().vocab);
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += step) {
    const int64_t count = std::min(step, n - begin);
    const at::Tensor p = at::log_softmax(base_model.logits(base.narrow(0, begin, count)), -1);
    const at::Tensor q = at::log_softmax(other_model.logits(other.narrow(0, begin, count)), -1);
    sum += (p.exp() * (p - q)).sum(-1).to(at::kDouble).sum().item<double>();
  }
  return sum;
}

int64_t layer_of(const TypeGroup& group) {
  const std::string prefix = "model.layers.";
  return group.weights[0].starts_with(prefix) ? std::stoll(group.weights[0].substr(prefix.size())) : -1;
}

/// What is measured, on disk, so that a killed run goes on.
class MeasuredFile {
 public:
  MeasuredFile(fs::path path, std::string fingerprint, ProcessGroup& group) : path_(std::move(path)), group_(&group) {
    known_ = {{"fingerprint", fingerprint}, {"kl", Json::object()}};
    if (!path_.empty() && fs::exists(path_)) {
      const Json read = read_json(path_);
      if (read.is_object() && read.value("fingerprint", "") == fingerprint) known_ = read;
    }
    group.barrier();  // all have read before the first writes
  }
  const Json* find(const std::string& tensor, GgmlType type) const {
    const Json& all = known_["kl"];
    const std::string key = ggml_type_info(type).name;
    return all.contains(tensor) && all[tensor].contains(key) ? &all[tensor][key] : nullptr;
  }
  void put(const std::string& tensor, GgmlType type, double kl) {
    known_["kl"][tensor][ggml_type_info(type).name] = kl;
    if (!path_.empty() && group_->rank() == 0) write_json(path_, known_);
  }

 private:
  fs::path path_;
  ProcessGroup* group_;
  Json known_;
};

/// One tensor's turn: rounds it, runs the rest of the model, puts it back.
class Trial {
 public:
  Trial(const Checkpoint& model, Decoder& base, Decoder& tried, LayerWalk& walk, std::vector<at::Tensor>& finished)
      : model_(&model), base_(&base), tried_(&tried), walk_(&walk), finished_(&finished) {}

  double kl(const TypeGroup& group, GgmlType type, const ImportanceMap& importance, Rounding rounding) {
    for (const std::string& name : group.weights) {
      const auto found = importance.find(name);
      tried_->weights().at(name) =
          dequantize_tensor(quantize_tensor(model_->weights.at(name), type, found == importance.end() ? nullptr : &found->second, rounding));
    }
    at::Tensor sum = at::zeros({1}, at::kDouble);
    for (size_t i = 0; i < walk_->parts().size(); ++i) {
      const LayerWalk::Part& part = walk_->parts()[i];
      at::Tensor x = layer_of(group) < 0 && group.weights[0] != "lm_head.weight" ? tried_->embedded(part.tokens) : part.states;
      const int64_t from = layer_of(group) >= 0 ? layer_of(group) : group.weights[0] == "lm_head.weight" ? walk_->layers() : 0;
      for (int64_t layer = from; layer < walk_->layers(); ++layer) x = tried_->after_layer(layer, x, part.tokens);
      sum += summed_kl(*base_, finished_->at(i), *tried_, valid_rows(*tried_, x, part));
    }
    walk_->group().all_reduce_sum(sum);
    for (const std::string& name : group.weights) tried_->weights().at(name) = model_->weights.at(name);
    return sum.item<double>() / static_cast<double>(walk_->tokens());
  }

  static at::Tensor valid_rows(const Decoder& model, const at::Tensor& states, const LayerWalk::Part& part) {
    return model.after_norm(states).reshape({-1, states.size(-1)}).index({part.valid});
  }

 private:
  const Checkpoint* model_;
  Decoder *base_, *tried_;
  LayerWalk* walk_;
  std::vector<at::Tensor>* finished_;
};

}  // namespace

bool has_budget(const BudgetConfig& budget) {
  check(budget.bits >= 0 && budget.bytes >= 0 && !(budget.bits > 0 && budget.bytes > 0), "budget", "bits or bytes, above 0",
        str("bits ", budget.bits, ", bytes ", budget.bytes));
  return budget.bits > 0 || budget.bytes > 0;
}

std::vector<GgmlType> budget_types(const BudgetConfig& budget) {
  std::vector<GgmlType> types;
  for (const std::string& name : budget.types) {
    types.push_back(ggml_type_named(name));
    check(ggml_type_info(types.back()).quantized || name == "f16" || name == "bf16", "budget.types", "types to quantize to", name);
  }
  check(!types.empty(), "budget.types", "a type or more", "none");
  return types;
}

std::vector<MeasuredTensor> type_candidates(const ModelSpec& spec, const std::vector<GgmlType>& types, bool embeddings) {
  std::vector<MeasuredTensor> out;
  for (const TypeGroup& group : type_groups(spec, embeddings)) {
    MeasuredTensor tensor{group, {}};
    for (const GgmlType wanted : types) {
      const GgmlType type = type_for_width(wanted, group.columns);
      const bool had = std::any_of(tensor.types.begin(), tensor.types.end(), [&](const MeasuredType& m) { return m.type == type; });
      if (!had) tensor.types.push_back({type, group.rows * ggml_row_bytes(type, group.columns), 0});
    }
    out.push_back(std::move(tensor));
  }
  return out;
}

std::vector<MeasuredTensor> measure_sensitivity(const Checkpoint& model, const std::vector<GgmlType>& types, bool embeddings, const TokenRows& rows,
                                                const ImportanceMap& importance, Rounding rounding, const SensitivityOptions& options,
                                                ProcessGroup& group) {
  at::NoGradGuard no_grad;
  Decoder base(model.spec, model.weights), tried(model.spec, model.weights);
  const LayerWalkOptions walked{options.rows, options.batch};
  std::vector<at::Tensor> finished;
  {
    LayerWalk walk(base, rows, walked, group);
    while (walk.layer() < walk.layers()) walk.advance();
    for (const LayerWalk::Part& part : walk.parts()) finished.push_back(Trial::valid_rows(base, part.states, part));
  }
  std::string what = str(rows.fingerprint, " ", options.rows, " ", options.batch, " ", group.size(), " ", checkpoint_fingerprint(model), " ",
                         static_cast<int>(rounding));
  for (const auto& [name, means] : importance)
    what += name + sha256(std::string(reinterpret_cast<const char*>(means.data()), means.size() * sizeof(float)));
  MeasuredFile file(options.partial, sha256(what), group);

  std::vector<MeasuredTensor> out = type_candidates(model.spec, types, embeddings);
  int64_t all = 0, done = 0;
  for (const MeasuredTensor& tensor : out) all += static_cast<int64_t>(tensor.types.size());
  LayerWalk walk(base, rows, walked, group);
  Trial trial(model, base, tried, walk, finished);
  Progress progress("sensitivity", all, "trials");
  const auto measure = [&](MeasuredTensor& tensor) {
    for (MeasuredType& type : tensor.types) {
      const Json* known = file.find(tensor.group.gguf, type.type);
      type.kl = known ? known->get<double>() : trial.kl(tensor.group, type.type, importance, rounding);
      if (!known) file.put(tensor.group.gguf, type.type, type.kl);
      progress.update(++done);
    }
  };
  for (; walk.layer() < walk.layers(); walk.advance())
    for (MeasuredTensor& tensor : out)
      if (layer_of(tensor.group) == walk.layer()) measure(tensor);
  for (MeasuredTensor& tensor : out)
    if (layer_of(tensor.group) < 0) measure(tensor);
  progress.finish();
  return out;
}

BudgetPlan plan_for_budget(const ModelSpec& spec, const std::vector<MeasuredTensor>& measured, const BudgetConfig& budget) {
  BudgetPlan out;
  out.limit = budget.bytes > 0 ? budget.bytes : static_cast<int64_t>(budget.bits * static_cast<double>(parameter_count(spec)) / 8);
  std::map<std::string, GgmlType> smallest;
  std::vector<std::vector<KnapsackOption>> items;
  int64_t least = 0;
  for (const MeasuredTensor& tensor : measured) {
    items.emplace_back();
    const MeasuredType* best = &tensor.types.front();
    for (const MeasuredType& type : tensor.types) {
      items.back().push_back({type.bytes, type.kl});
      if (type.bytes < best->bytes) best = &type;
    }
    least += best->bytes;
    for (const std::string& name : tensor.group.weights) smallest[name] = best->type;
  }
  const int64_t whole = tensor_bytes(spec, smallest), fixed = whole - least;
  const double bits = 8.0 * static_cast<double>(whole) / static_cast<double>(parameter_count(spec));
  check(whole <= out.limit, "budget", str(whole, " bytes (", bits, " bits a weight) or more: the smallest file of these types"),
        str(out.limit, " bytes"), "a larger budget, or smaller types in budget.types");
  const KnapsackChoice choice = solve_knapsack(items, out.limit - fixed);
  out.granularity = choice.granularity;
  out.bytes = choice.bytes + fixed;
  out.kl = choice.loss;
  for (size_t i = 0; i < measured.size(); ++i) {
    out.chosen.push_back(measured[i].types[choice.options[i]]);
    for (const std::string& name : measured[i].group.weights) out.plan.types[name] = out.chosen.back().type;
  }
  return out;
}

}  // namespace attar
