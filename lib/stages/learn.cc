#include "stages/learn.h"

#include <ATen/ATen.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "device/device.h"
#include "device/same_bytes.h"
#include "distill/distill_loss.h"
#include "formats/event_file.h"
#include "report/facts.h"
#include "spec/training_cost.h"
#include "stages/fixed_batch.h"
#include "stages/hidden_terms.h"
#include "stages/row_order.h"
#include "teacher/capture.h"
#include "train/lr_scale.h"

namespace attar {
namespace {

/// Sends the ids, which the embedding reads, to the model's device without waiting for it. The other columns stay: what is checked, counted or made
/// into an attention's plan is done here, while the device works.
void to_device(Batch& batch, at::Device device) {
  at::Tensor& ids = batch.columns.at("ids");
  if (device.is_cuda()) ids = ids.pin_memory().to(device, /*non_blocking=*/true);
}

/// Products of bfloat16: everywhere if asked for, on a GPU unless it is refused.
bool brain_products(const TrainConfig& config, at::Device device) {
  return config.precision == "bf16" || (config.precision == "auto" && device.is_cuda());
}

/// Every id is one that both models know: a GPU says nothing of one that is not.
void check_ids(const TokenRows& rows, int64_t vocab) {
  const int64_t highest = rows.rows() > 0 ? rows.ids.max().item<int64_t>() : 0;
  check(highest < vocab, "token ids of the data", str("below the models' vocabulary of ", vocab), str(highest), "is the tokenizer the model's own?");
}

/// Where the teacher's word comes from: nobody, a model, or a cache. One call, whatever it is.
class Teacher {
 public:
  Teacher(const StageRun& run, const Learning& learning, const TokenRows& rows, double temperature) {
    const Checkpoint& student = *learning.student;
    if (learning.live_teacher) {
      decoder_ = std::make_unique<Decoder>(learning.live_teacher->spec, learning.live_teacher->weights);
      vocab_ = learning.live_teacher->spec.vocab;
    } else if (learning.teacher && is_cache(*learning.teacher)) {
      cache_ = std::make_unique<CacheReader>(*learning.teacher);
      CacheIdentity wanted = cache_->identity();
      wanted.tokenizer = student.tokenizer->fingerprint();
      wanted.data = rows.data_hash;
      wanted.rows = rows.fingerprint;
      wanted.temperature = temperature;
      cache_->check_identity(wanted);
      vocab_ = cache_->identity().vocab;
    } else if (learning.teacher) {
      Checkpoint model = load_model(*learning.teacher, true);
      check(model.tokenizer->fingerprint() == student.tokenizer->fingerprint(), "teacher " + learning.teacher->string(), "the student's tokenizer",
            model.tokenizer->fingerprint().substr(0, 12) + " instead of " + student.tokenizer->fingerprint().substr(0, 12),
            "train the student with tokens: of the teacher");
      vocab_ = model.spec.vocab;
      decoder_ = std::make_unique<Decoder>(model.spec, std::move(model.weights));
    }
    if (decoder_) {
      decoder_->autocast_bf16 = run.device.is_cuda() && brain_products(learning.train, run.device);
      // Nothing is learned here: matrices are kept as they are multiplied.
      for (auto& [name, tensor] : decoder_->weights())
        tensor = decoder_->autocast_bf16 && tensor.dim() == 2 ? tensor.to(run.device, at::kBFloat16) : tensor.to(run.device);
    }
  }
  bool there() const { return decoder_ || cache_; }
  /// Whether it can speak of rows that no cache holds.
  bool live() const { return decoder_ != nullptr; }
  int64_t vocab() const { return vocab_; }
  const Decoder* decoder() const { return decoder_.get(); }
  /// Draws a position of a sampled cache; 0: the whole distribution, or its top.
  int64_t draws() const { return cache_ && cache_->identity().codec.kind == "sampled" ? cache_->identity().codec.samples : 0; }
  /// Operations that a live teacher needs for so many tokens in rows of `seq`.
  double flops(int64_t tokens, int64_t seq) const { return decoder_ ? forward_flops(decoder_->spec(), tokens, seq) : 0; }
  /// Its loss on each of the rows [first, end).
  std::vector<double> row_losses(const TokenRows& rows, int64_t first, int64_t end, int64_t vocab) const {
    if (decoder_) return live_row_losses(*decoder_, rows, first, end, vocab);
    const std::vector<double> all = cache_->row_losses();
    return {all.begin() + first, all.begin() + end};
  }
  /// Targets of a batch, and the outputs (N, Dt) of the layers that `states` has as keys.
  LogitTargets targets(const Batch& batch, std::map<int64_t, at::Tensor>* states = nullptr) const {
    if (decoder_) return live_targets(*decoder_, batch, states);
    if (!cache_) return {};
    if (states && !states->empty()) {
      Batch wide = batch;
      cache_->add_hidden(wide);
      for (auto& [layer, tensor] : *states) tensor = wide.at(str("teacher_hidden_", layer));
    }
    return cache_->targets(batch);
  }
  /// Width of the outputs of its layers. Error if it has not the layers, or the cache does not hold them.
  int64_t hidden_width(const std::map<int64_t, at::Tensor>& layers, const TokenRows& rows) const {
    check(there(), "loss.hidden", "a teacher", "none", "name one, or leave the term out");
    for (const auto& [layer, none] : layers) {
      if (decoder_) {
        const auto last = static_cast<int64_t>(decoder_->spec().layers.size());
        check(layer <= last, "loss.hidden.layers", str("teacher's layers from 1 to ", last), std::to_string(layer));
        continue;
      }
      const std::vector<int64_t>& held = cache_->identity().codec.hidden_layers;
      check(std::find(held.begin(), held.end(), layer) != held.end(), str("loss.hidden.layers: teacher's layer ", layer),
            "a layer that the cache holds", held.empty() ? "a cache without hidden states" : "others",
            str("capture with codec: {hidden_layers: [", layer, "]}"));
    }
    if (decoder_) return decoder_->spec().hidden;
    // A row without a label tells nothing of the width.
    for (int64_t row = 0; row < rows.rows(); ++row) {
      Batch batch = make_batch(rows, {row});
      if (!batch.at("labels").ne(-100).any().item<bool>()) continue;
      cache_->add_hidden(batch);
      return batch.at(str("teacher_hidden_", layers.begin()->first)).size(1);
    }
    fail("loss.hidden", "rows with something to learn", "none");
  }

 private:
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<CacheReader> cache_;
  int64_t vocab_ = 0;
};

/// Weight of each position, (N) float32; undefined where all count the same.
at::Tensor position_weights(const Batch& batch, double prompt_weight) {
  if (prompt_weight == 1) return {};
  return at::where(batch.at("prompt").reshape({-1}), at::scalar_tensor(prompt_weight, at::kFloat), at::scalar_tensor(1.0, at::kFloat));
}

DistillLoss batch_loss(const Decoder& student, const Batch& batch, const LogitTargets& targets, const at::Tensor& position_weights,
                       const LossWeights& weights, int64_t vocab, std::map<int64_t, at::Tensor>* states = nullptr) {
  const at::Tensor hidden = student.hidden({batch.at("ids"), batch.at("segments"), {}, {}}, nullptr, states);
  return states_loss(student, hidden, targets, batch.at("labels").reshape({-1}), position_weights, weights, vocab);
}

/// Says what the noise of a sampled cache will cost this student, in nats a token (excess_of_draws).
void say_cost_of_draws(StageRun& run, const std::vector<TrainParameter>& trained, const TokenRows& rows, const TrainConfig& config, int64_t draws) {
  int64_t parameters = 0;
  for (const TrainParameter& parameter : trained) parameters += parameter.tensor.numel();
  // A row that comes again brings the same draws.
  const double read = static_cast<double>(config.steps) * static_cast<double>(config.batch * config.accumulate);
  const double positions = static_cast<double>(rows.learned_tokens()) * std::min(1.0, read / static_cast<double>(std::max<int64_t>(rows.rows(), 1)));
  const double excess = excess_of_draws(parameters, positions, draws);
  run.facts["excess_of_draws_nats"] = excess;
  log_info(str(run.label, ": ", draws, " draws a token cost about ", significant(excess, 2),
               " nats a token against the whole distribution: parameters / (2 x tokens x draws)"));
}

/// What the optimizer changes: the adapters if there are any, else every weight; the projections; the scales of a grid that learns them.
std::vector<TrainParameter> train_parameters(Decoder& student, const LoraAdapters* adapters, const HiddenTerms& hidden, const Learning& learning) {
  std::vector<TrainParameter> out;
  if (adapters) {
    for (const auto& [name, pair] : adapters->pairs()) {
      out.push_back({name + ".lora_A", pair.a, true});
      out.push_back({name + ".lora_B", pair.b, true});
    }
  } else {
    for (auto& [name, tensor] : student.weights()) out.push_back({name, tensor, tensor.dim() == 2 && name != "model.embed_tokens.weight"});
  }
  for (const TrainParameter& parameter : hidden.parameters()) out.push_back(parameter);
  for (TrainParameter& parameter : out) parameter.lr_scale = lr_scale_of(parameter.name, learning.train.lr_scale);
  if (learning.grid)
    for (const auto& [name, scales] : learning.grid->parameters()) out.push_back({name, scales, false, learning.scale_lr});
  return out;
}

/// Held-out loss per token: cross-entropy always, the teacher's terms when it can speak of these rows.
std::vector<std::pair<std::string, double>> held_out(const Decoder& student, const Teacher& teacher, const TokenRows& rows,
                                                     const LossWeights& weights, int64_t vocab, int64_t batch_rows, at::Device device) {
  at::NoGradGuard no_grad;
  LossWeights used = weights;
  if (!teacher.live()) used = LossWeights{.ce = 1};
  double ce = 0, kl = 0, tokens = 0;
  for (int64_t first = 0; first < rows.rows(); first += batch_rows) {
    std::vector<int64_t> numbers;
    for (int64_t r = first; r < std::min(first + batch_rows, rows.rows()); ++r) numbers.push_back(r);
    Batch batch = make_batch(rows, numbers);
    to_device(batch, device);
    const DistillLoss loss = batch_loss(student, batch, teacher.live() ? teacher.targets(batch) : LogitTargets{}, {}, used, vocab);
    ce += loss.ce(), kl += loss.kl();
    tokens += batch.at("labels").ne(-100).sum().item<double>();
  }
  tokens = std::max(tokens, 1.0);
  const double chosen = teacher.live() && weights.needs_teacher() ? kl / tokens : ce / tokens;
  std::vector<std::pair<std::string, double>> out = {{"loss", chosen}, {"ce", ce / tokens}};
  if (teacher.live()) out.push_back({"teacher", kl / tokens});
  return out;
}

/// How steps are recorded, without the halves of their loss; nothing where train.cuda_graph does not want it or it cannot be, which is said.
std::optional<FixedStep> recordings(const Learning& learning, at::Device device, int64_t ranks, bool hidden_terms) {
  const std::string& wanted = learning.train.cuda_graph;
  check(wanted == "off" || wanted == "auto" || wanted == "on", "train.cuda_graph", "off, auto or on", wanted);
  if (wanted == "off") return std::nullopt;
  FixedStep step;
  step.device = device, step.must = wanted == "on";
  std::string why;
  if (ranks > 1) why = str("gradients are summed over ", ranks, " processes while backward runs");
  else if (hidden_terms) why = "loss.hidden reads the teacher's layers as each batch has them";
  else if (learning.grid && learning.grid->changes()) why = "delay changes in mid-training what a step computes";
  else step.make_graph = learning.make_graph ? learning.make_graph : cuda_graphs(device, &why);
  if (why.empty()) return step;
  check(!step.must, "train.cuda_graph: on", "steps that can be recorded", why, "take auto or off");
  log_info("cuda_graph: steps are done as they stand: " + why);
  return std::nullopt;
}

}  // namespace

void learn(StageRun& run, Learning& learning) {
  Checkpoint& model = *learning.student;
  const PreparedRows rows = prepare_rows(run, learning.data, *model.tokenizer, model.spec.context);
  const bool with_teacher = learning.teacher || learning.live_teacher;
  const LossWeights weights = loss_weights(learning.loss, with_teacher);
  const Teacher teacher(run, learning, rows.train, weights.temperature);
  // Vocabularies may be padded differently; what counts is what the tokenizer can give.
  int64_t vocab = std::min(model.spec.vocab, model.tokenizer->size());
  if (teacher.there()) vocab = std::min(vocab, teacher.vocab());

  promise_same_bytes(learning.train.deterministic, run.device);
  check_ids(rows.train, teacher.live() ? std::min(model.spec.vocab, teacher.vocab()) : model.spec.vocab);
  Decoder student(model.spec, model.weights);
  for (auto& [name, tensor] : student.weights()) tensor = tensor.detach().to(run.device).clone();
  std::shared_ptr<LoraAdapters> adapters;
  check(learning.lora.rank >= 0, "lora.rank", "1 or more, or 0: no adapters", std::to_string(learning.lora.rank));
  if (learning.lora.rank > 0) {
    adapters = std::make_shared<LoraAdapters>(model.spec, learning.lora, run.seed_of("adapters"), run.device);
    adapters->require_grad(true);
    if (learning.grid) learning.grid->set_adapters(adapters);  // added before the rounding
    else student.set_adapters(adapters);
  }
  check(!learning.masks || !adapters, "lora", "a model without masks", "masks (" + (learning.masks ? learning.masks->method : "") + ")",
        "merged adapters would fill the zeros: leave lora out, or prune again afterwards");
  if (learning.masks) apply_masks(*learning.masks, student.weights());
  student.require_grad(!adapters);
  student.recompute_layers = learning.train.recompute_layers;
  const FreedMemoryGivenBack given_back(learning.train.recompute_layers && run.device == at::kCPU);
  HiddenTerms hidden(learning.loss.hidden, static_cast<int64_t>(model.spec.layers.size()));
  if (hidden.there())
    hidden.prepare(model.spec.hidden, teacher.hidden_width(hidden.teacher_slots(), rows.train), run.seed_of("projections"), run.device);
  student.set_weight_hook(learning.grid ? learning.grid->hook() : learning.weight_hook);
  student.set_input_hook(learning.input_hook);
  student.autocast_bf16 = brain_products(learning.train, run.device);

  const auto group = process_group_from_environment();
  RowLosses losses;
  if (teacher.there()) losses = [&](int64_t first, int64_t end) { return teacher.row_losses(rows.train, first, end, vocab); };
  const RowOrder order = row_order(run, rows.train, learning.data, learning.train, *group, losses);

  TrainerOptions options;
  options.config = learning.train;
  options.label = run.label;
  options.folder = run.work;
  options.device = run.device;
  options.bf16 = student.autocast_bf16;
  Json training = write_fields(learning.train);
  if (learning.train.cuda_graph == "off") training.erase("cuda_graph");  // the same as no such key: the same fingerprint
  options.fingerprint = sha256(run.key + rows.train.fingerprint + to_line(training) + checkpoint_fingerprint(model) + order.fingerprint);
  if (learning.masks) options.after_step = [&](int64_t) { apply_masks(*learning.masks, student.weights()); };
  if (learning.grid) options.before_step = [&](int64_t step) { learning.grid->begin_step(step, student.weights()); };
  options.evaluate = [&] {
    if (learning.grid) learning.grid->judge();
    return held_out(student, teacher, rows.held, weights, vocab, learning.train.batch, run.device);
  };

  // What the host knows of a batch's loss.
  struct Numbers {
    at::Tensor position;  ///< weights, or undefined
    double total = 0, share = 0, read = 0, flops = 0;
  };
  const auto numbers_of = [&](const Batch& batch) {
    const at::Tensor valid = batch.at("labels").reshape({-1}).ne(-100);
    Numbers out{position_weights(batch, learning.loss.prompt_weight)};
    const double count = valid.sum().item<double>();
    out.total = out.position.defined() ? (out.position * valid).sum().item<double>() : count;
    // The log's terms are means over positions, the step's sum is divided by the positions' weights.
    out.share = out.total / std::max(count, 1.0);
    // Padding is no work: a row counts as long as it is.
    const auto read = batch.at("segments").ge(0).sum().item<int64_t>(), mean = read / std::max<int64_t>(batch.at("segments").size(0), 1);
    out.read = static_cast<double>(read);
    out.flops = training_flops(model.spec, read, mean, learning.lora) + teacher.flops(read, mean);
    return out;
  };
  const auto targets_of = [&](const Batch& batch, std::map<int64_t, at::Tensor>* taught) {
    LogitTargets targets = teacher.targets(batch, taught);
    if (learning.loss.top_k == "dropped") targets.tail = at::Tensor();
    return targets;
  };

  options.fixed = recordings(learning, run.device, group->size(), hidden.there());
  if (options.fixed) {
    const FixedLoss fixed{&student, teacher.decoder(), weights, vocab, with_teacher};
    options.fixed->fix = [&, fixed](const Batch& given) {
      Batch batch = given;
      to_device(batch, run.device);
      const Numbers numbers = numbers_of(batch);
      FixedBatch out = fixed_batch(fixed, batch, fixed.teacher ? LogitTargets{} : targets_of(batch, nullptr), numbers.position, numbers.share);
      out.tokens = numbers.total, out.positions = numbers.read, out.flops = numbers.flops;
      return out;
    };
  }

  const std::vector<TrainParameter> trained = train_parameters(student, adapters.get(), hidden, learning);
  if (teacher.draws() > 0 && weights.needs_teacher()) say_cost_of_draws(run, trained, rows.train, learning.train, teacher.draws());
  const TrainResult result = train(
      trained,
      [&](const Batch& given) {
        Batch batch = given;
        std::map<int64_t, at::Tensor> taught = hidden.teacher_slots(), learned = hidden.student_slots();
        to_device(batch, run.device);
        const LogitTargets targets = targets_of(batch, &taught);
        for (auto& [layer, tensor] : taught) tensor = tensor.to(run.device, /*non_blocking=*/true);
        const Numbers numbers = numbers_of(batch);
        const DistillLoss loss = batch_loss(student, batch, targets, numbers.position, weights, vocab, &learned);
        StepLoss out{loss.sum, numbers.total, {{"ce", loss.terms[1] * numbers.share}}};
        out.positions = numbers.read, out.flops = numbers.flops;
        if (with_teacher) out.sums.push_back({"teacher", loss.terms[0] * numbers.share});
        if (hidden.there()) {
          const at::Tensor term = hidden.loss(learned, taught, batch.at("labels").reshape({-1})) * numbers.share;
          out.sums.push_back({"hidden", term.detach()});
          out.sum = out.sum + term;
        }
        return out;
      },
      *order.source, *group, options);

  student.require_grad(false);
  if (adapters) {
    adapters->require_grad(false);
    adapters->merge_into(student.weights());
    int64_t count = 0;
    for (const auto& [name, pair] : adapters->pairs()) count += pair.a.numel() + pair.b.numel();
    run.facts["adapter_parameters"] = count;
    if (learning.grid)
      log_info(run.label + ": the adapters are merged and then rounded; adapter/ is not written");
    else if (model.spec.fused_projections)
      log_warn("lora: this family's files join projections that the adapters have apart; adapter/ is not written, the merged model is");
    else
      adapters->save(run.out / "adapter", model.base_model);
  }
  for (auto& [name, tensor] : student.weights()) model.weights[name] = tensor.detach().to(at::kCPU);
  model.codes.clear();
  run.facts["steps"] = result.steps;
  run.facts["training_loss"] = result.loss;
  for (const auto& [name, value] : result.held_out) run.facts["held_out_" + name] = value;
  run.facts["throughput"] = {{"tokens_per_s", result.tokens_per_s}, {"peak_bytes", result.peak_bytes}, {"training_seconds", result.seconds}};
  if (result.mfu > 0)
    run.facts["throughput"].update(
        {{"mfu", result.mfu}, {"mfu_is_a_share_of_flops", result.peak_flops}, {"mfu_is_a_share_of", result.peak_flops_from}});
  if (options.fixed) run.facts["replayed_batches"] = result.replayed;
  run.facts["learned_tokens"] = rows.train.learned_tokens();
  run.facts["rows"] = rows.train.rows();
  run.facts["data_sha256"] = rows.train.data_hash;
  // A further rank has no log.
  for (const char* name : {"log.jsonl", kEventFileName})
    if (fs::exists(run.work / name)) fs::copy_file(run.work / name, run.out / name, fs::copy_options::overwrite_existing);
}

}  // namespace attar
