#include "plan/estimate.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <thread>

#include "base/check.h"
#include "formats/ggml_types.h"
#include "formats/gguf.h"
#include "spec/gguf_names.h"
#include "spec/model_config.h"
#include "spec/pruned_spec.h"
#include "spec/training_cost.h"

namespace attar {
namespace {

fs::path machine_file() {
  const char* home = std::getenv("ATTAR_HOME");
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* user = std::getenv("HOME");
  if (home && *home) return fs::path(home) / "machine.json";
  if (cache && *cache) return fs::path(cache) / "attar" / "machine.json";
  return fs::path(user ? user : "/tmp") / ".cache" / "attar" / "machine.json";
}

/// What is known of a stage's result before it exists.
struct Planned {
  std::optional<ModelSpec> spec;
  int64_t vocab = 0;
  int64_t bytes = 0;
  bool cache = false;
  bool at_most = false;  ///< rows of the vocabulary go by what the data holds, which no plan reads: sizes are upper bounds
};

/// Bytes of text a path stands for; compressed text is taken as three times its size.
double text_bytes(const fs::path& path) {
  double total = 0;
  const auto add = [&](const fs::path& file) { total += static_cast<double>(fs::file_size(file)) * (file.extension() == ".zst" ? 3 : 1); };
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.is_regular_file()) add(entry.path());
  } else if (fs::exists(path)) {
    add(path);
  }
  return total;
}

constexpr double kBytesPerToken = 3.5, kBytesPerRow = 180;

class Estimator {
 public:
  Estimator(const Recipe& recipe, const fs::path& folder) : recipe_(recipe), folder_(folder), flops_(machine_flops()) {}

  std::vector<StageEstimate> all() {
    std::vector<StageEstimate> out;
    for (const Stage& stage : recipe_.stages) out.push_back(one(stage));
    return out;
  }

 private:
  StageEstimate one(const Stage& stage) {
    StageEstimate e;
    e.id = stage.id, e.kind = stage.kind;
    e.state = stage_state(stage, folder_, e.reason) == StageState::done ? "done" : "needed";
    Planned planned;
    const Node node = from_json(stage.effective);
    if (stage.kind == "train_tokenizer") {
      planned.vocab = read_fields<TrainTokenizerConfig>(node, stage.id).vocab_size;
      e.disk_bytes = planned.vocab * 20;
      e.peak_bytes = static_cast<int64_t>(data_bytes(stage, "data") * 12) + (int64_t{64} << 20);
      e.seconds = data_bytes(stage, "data") / 2e6;
    } else if (stage.kind == "distill") {
      const auto config = read_fields<DistillConfig>(node, stage.id);
      planned = student(stage);
      training(e, stage, planned, config.data, config.train, input(stage, "teacher"), config.lora);
    } else if (stage.kind == "capture") {
      capture(e, stage, read_fields<CaptureConfig>(node, stage.id), planned);
    } else if (stage.kind == "synthesize") {
      synthesize(e, stage, read_fields<SynthesizeConfig>(node, stage.id), planned);
    } else if (stage.kind == "prune") {
      planned = input(stage, "model");
      if (planned.spec) pruning(e, stage, read_fields<PruneConfig>(node, stage.id), planned);
    } else if (stage.kind == "calibrate") {
      planned = input(stage, "model");
      const auto config = read_fields<CalibrateConfig>(node, stage.id);
      if (planned.spec) {
        const auto [tokens, length] = calibration(stage, config.data, config.calibration_rows, *planned.spec);
        e.tokens = tokens;
        e.flops = forward_flops(*planned.spec, tokens, length);
        e.peak_bytes = 4 * parameter_count(*planned.spec) + forward_bytes(*planned.spec, kForwardRows * length) + text_memory(stage) + kBase;
        e.disk_bytes = 20 * inputs_of(*planned.spec);
      }
    } else if (stage.kind == "quantize") {
      planned = input(stage, "model");
      if (planned.spec) quantization(e, stage, read_fields<QuantConfig>(node, stage.id), planned);
    } else if (stage.kind == "export") {
      exported(e, stage, read_fields<ExportConfig>(node, stage.id), planned);
    } else if (stage.kind == "route") {
      e.disk_bytes = 64 << 10;
    } else {
      evaluated(e, stage, read_fields<EvaluateConfig>(node, stage.id));
    }
    if (planned.spec) e.parameters = parameter_count(*planned.spec);
    e.at_most = planned.at_most;
    if (e.seconds == 0) e.seconds = e.flops / flops_ + 0.5;
    if (e.peak_bytes == 0) e.peak_bytes = kBase;
    if (e.state == "done") e.seconds = 0;
    known_[stage.id] = planned;
    return e;
  }

  const Reference* stage_of(const Stage& stage, const std::string& key) const {
    for (const Reference& r : stage.references)
      if (r.key == key) return &r;
    return nullptr;
  }

  /// What a reference gives: a planned stage, or the headers of what lies at its path.
  Planned input(const Stage& stage, const std::string& key) {
    const Reference* r = stage_of(stage, key);
    if (!r) return {};
    if (!r->stage.empty()) return known_[r->stage];
    Planned planned;
    if (fs::exists(r->path / "config.json")) {
      planned.spec = spec_from_config(read_json(r->path / "config.json"), (r->path / "config.json").string());
    } else if (r->path.extension() == ".gguf") {
      planned.spec = spec_from_gguf(GgufFile(r->path));
    } else {
      planned.cache = fs::exists(r->path / "manifest.json");
    }
    if (planned.spec) planned.vocab = planned.spec->vocab;
    if (fs::exists(r->path)) planned.bytes = static_cast<int64_t>(fs::is_directory(r->path) ? folder_bytes(r->path) : fs::file_size(r->path));
    return planned;
  }

  Planned student(const Stage& stage) {
    const Reference* model = stage_of(stage, "model");
    if (!model || !model->stage.empty() || (model->path.extension() != ".yaml" && model->path.extension() != ".yml")) return input(stage, "model");
    Planned planned;
    planned.vocab = input(stage, "tokens").vocab;
    if (!planned.vocab) planned.vocab = input(stage, "teacher").vocab;
    const auto config = read_fields<ModelConfig>(read_yaml(model->path), model->path.string());
    planned.spec = spec_from_model_config(config, planned.vocab ? planned.vocab : 32000);
    return planned;
  }

  static bool is_part(const Reference& r) { return r.key.starts_with("data.mix["); }
  bool names_data(const Stage& stage) const {
    return stage_of(stage, "data.path") || std::any_of(stage.references.begin(), stage.references.end(), is_part);
  }

  double data_bytes(const Stage& stage, const std::string& key) const {
    double sum = 0;
    bool named = false;
    for (const Reference& r : stage.references) {
      if (r.key != key && !(key == "data.path" && is_part(r))) continue;
      named = true;
      sum += r.stage.empty() ? text_bytes(r.path) : static_cast<double>(known_.at(r.stage).bytes);
    }
    if (named) return sum;
    return recipe_.task ? text_bytes(recipe_.task->train) : 0;
  }

  /// Rows and mean tokens a row that a stage's data will give.
  std::pair<double, double> rows(const Stage& stage, const DataConfig& data) const {
    const double bytes = data_bytes(stage, "data.path");
    const auto seq = static_cast<double>(data.seq);
    if (!recipe_.task || names_data(stage)) return {std::max(1.0, bytes / kBytesPerToken / seq), seq};
    const double length = std::min(static_cast<double>(data.seq), kBytesPerRow / kBytesPerToken);
    return {std::max(1.0, bytes / kBytesPerRow), length};
  }

  void training(StageEstimate& e, const Stage& stage, Planned& planned, const DataConfig& data, const TrainConfig& train, const Planned& teacher,
                const LoraConfig& lora) {
    if (!planned.spec) return;
    const ModelSpec& s = *planned.spec;
    const double mean = rows(stage, data).second;
    const auto length = static_cast<int64_t>(mean);
    e.tokens = static_cast<int64_t>(static_cast<double>(train.steps * train.batch * train.accumulate) * mean);
    e.trainable = lora.rank > 0 ? adapter_parameters(s, lora) : parameter_count(s);
    e.flops = training_flops(s, e.tokens, length, lora) + (train.recompute_layers ? recomputed_flops(s, e.tokens, length) : 0);
    e.peak_bytes = training_state_bytes(s, train, lora) + activation_bytes(s, train, train.batch, length) + kBase;
    if (teacher.spec && !teacher.cache) {
      e.flops += forward_flops(*teacher.spec, e.tokens, length);
      e.peak_bytes += 4 * parameter_count(*teacher.spec) + forward_bytes(*teacher.spec, train.batch * length);
    }
    e.peak_bytes += text_memory(stage);
    e.disk_bytes = planned.bytes = 4 * parameter_count(s) + 4 * (lora.rank > 0 ? e.trainable : 0);
  }

  /// Tokens of a stage's first rows, and how long a row is.
  std::pair<int64_t, int64_t> calibration(const Stage& stage, const DataConfig& data, int64_t most, const ModelSpec& spec) const {
    const auto [count, mean] = rows(stage, data);
    const int64_t length = std::min(static_cast<int64_t>(mean), spec.context);
    return {std::min(most, static_cast<int64_t>(std::ceil(count))) * length, length};
  }
  /// The data's text and its rows: ids, segments, what is learned.
  int64_t text_memory(const Stage& stage) const { return static_cast<int64_t>(data_bytes(stage, "data.path") * 3); }

  static bool is_matrix(const ParameterInfo& p) { return p.shape.size() == 2; }
  /// Inputs of all linears together.
  static int64_t inputs_of(const ModelSpec& spec) {
    int64_t sum = 0;
    for (const ParameterInfo& p : parameters_of(spec))
      if (is_linear_weight(p.name)) sum += p.shape[1];
    return sum;
  }

  /// A walk layer by layer in which every layer is run to be looked at and run again changed, with a Hessian for each linear's inputs where asked:
  /// sums of products, a factorization and an inverse (4/3 n^3 together), and the errors that go to later columns.
  static double walk_flops(const ModelSpec& spec, int64_t tokens, int64_t length, bool hessians) {
    double flops = 2 * forward_flops(spec, tokens, length);
    for (const ParameterInfo& p : parameters_of(spec)) {
      if (!hessians || !is_linear_weight(p.name)) continue;
      const double in = static_cast<double>(p.shape[1]), out = static_cast<double>(p.shape[0]);
      // Queries, keys and values share their inputs, and so do gate and up.
      const bool attention = p.name.ends_with("q_proj.weight") || p.name.ends_with("o_proj.weight");
      const bool first = attention || p.name.ends_with("gate_proj.weight") || p.name.ends_with("down_proj.weight");
      flops += out * in * in + (first ? 2 * static_cast<double>(tokens) * in * in + 4.0 / 3 * in * in * in : 0);
    }
    return flops;
  }
  /// What it holds: the rows' states, before and after a layer, a forward pass, and the largest Hessian with its factor and room to work in.
  static int64_t walk_bytes(const ModelSpec& spec, int64_t tokens, int64_t length, bool hessians) {
    int64_t widest = 0;
    for (const ParameterInfo& p : parameters_of(spec))
      if (is_linear_weight(p.name)) widest = std::max(widest, p.shape[1]);
    return 2 * 4 * tokens * spec.hidden + forward_bytes(spec, kWalkRows * length) + (hessians ? 3 * 8 * widest * widest : 0);
  }
  /// Block reconstruction: the walks of two models, the layers' steps forward and backward, and the times that all rows judge their codes.
  static double rounding_flops(const ModelSpec& spec, int64_t tokens, int64_t length, const RoundingConfig& rounding) {
    const double stepped = static_cast<double>(rounding.steps * std::min(rounding.rows * length, tokens));
    const double head = 2.0 * static_cast<double>(spec.vocab * spec.hidden);
    const double token = forward_flops(spec, length, length) / static_cast<double>(length) - head;
    return (3 * stepped + (2 + kRoundingJudgements) * static_cast<double>(tokens)) * token;
  }
  /// What it holds: the states of both walks, and a layer's steps.
  static int64_t rounding_bytes(const ModelSpec& spec, int64_t tokens, int64_t length, const RoundingConfig& rounding) {
    return 3 * 4 * tokens * spec.hidden + 4 * forward_bytes(spec, std::max(kWalkRows, rounding.rows) * length);
  }
  /// Every tensor with every type by itself: the model from that tensor's layer on, half of it in the mean, and the two models' logits.
  static double sensitivity_flops(const ModelSpec& spec, int64_t tokens, int64_t length, size_t types) {
    const auto parameters = parameters_of(spec);
    const auto tensors = std::count_if(parameters.begin(), parameters.end(), is_matrix);
    const double head = 2.0 * static_cast<double>(tokens) * static_cast<double>(spec.vocab * spec.hidden);
    const double whole = forward_flops(spec, tokens, length);
    return static_cast<double>(tensors) * static_cast<double>(types) * ((whole - head) / 2 + 2 * head) + 2 * whole;
  }

  void pruning(StageEstimate& e, const Stage& stage, const PruneConfig& config, Planned& planned) {
    const ModelSpec whole = *planned.spec;
    const int64_t weights = 4 * parameter_count(whole);
    const auto [tokens, length] = calibration(stage, config.data, config.calibration_rows, whole);
    const double forward = forward_flops(whole, tokens, length);
    // Statistics that a calibrate stage has collected cost nothing here.
    const bool given = stage_of(stage, "calibration") != nullptr, structure = config.method == "structure";
    e.peak_bytes = 3 * weights + kBase;
    const auto reads = [&](double flops, int64_t bytes) { e.tokens = tokens, e.flops += flops, e.peak_bytes += bytes; };
    if (structure && config.criterion == "activation" && !given) reads(forward, forward_bytes(whole, kForwardRows * length));
    if (structure && config.criterion == "taylor") reads(3 * forward, weights + activation_bytes(whole, {}, kForwardRows, length));
    if (structure && config.merge_heads) reads(forward, 0);
    if (structure && config.depth < 1 && config.depth_by == "loss") reads(forward * static_cast<double>(whole.layers.size()), 0);
    if (config.method == "sparsegpt" || (config.method == "wanda" && !given))
      reads(walk_flops(whole, tokens, length, config.method == "sparsegpt"), walk_bytes(whole, tokens, length, config.method == "sparsegpt"));
    planned.spec = pruned_spec(whole, config);
    const SearchConfig& search = config.search;
    const bool searches = search.parameters > 0 || search.bytes > 0 || search.ms_per_token > 0;
    if (searches) searching(e, stage, config, whole);
    if (e.tokens > 0 || searches || config.vocabulary > 0) e.peak_bytes += text_memory(stage);
    planned.at_most = planned.at_most || config.vocabulary > 0 || searches;
    planned.bytes = e.disk_bytes = 4 * parameter_count(*planned.spec);
  }

  /// Losses of all shapes and recoveries of the best few, each counted as if nothing had been cut away.
  void searching(StageEstimate& e, const Stage& stage, const PruneConfig& config, const ModelSpec& whole) {
    const SearchConfig& search = config.search;
    const auto [tokens, length] = calibration(stage, config.data, search.rows, whole);
    const auto shapes = static_cast<double>(search.candidates);
    e.tokens += search.candidates * tokens;
    e.flops += shapes * forward_flops(whole, tokens, length);
    if (!search.types.empty()) {
      const int64_t measured = calibration(stage, config.data, search.type_rows, whole).first;
      e.flops += shapes * sensitivity_flops(whole, measured, length, search.types.size());
      e.peak_bytes += walk_bytes(whole, measured, length, false);
    }
    if (search.finalists < 2) return;
    TrainConfig train;
    train.batch = search.recovery_batch;
    const int64_t learned = search.finalists * search.recovery_steps * search.recovery_batch * length;
    e.tokens += learned;
    e.flops += training_flops(whole, learned, length, {}) + forward_flops(whole, learned, length);
    e.peak_bytes += training_state_bytes(whole, train, {}) + activation_bytes(whole, train, train.batch, length);
    e.peak_bytes += forward_bytes(whole, train.batch * length);
  }

  void quantization(StageEstimate& e, const Stage& stage, const QuantConfig& config, Planned& planned) {
    const ModelSpec& spec = *planned.spec;
    const int64_t weights = 4 * parameter_count(spec);
    const auto [tokens, length] = calibration(stage, config.data, config.calibration_rows, spec);
    const bool trains = config.method == "qat";
    const std::string& solution = trains ? config.start : config.method;
    const bool learns = solution == "rounding", propagates = solution == "gptq" || (learns && config.rounding.start == "gptq");
    if (trains) training(e, stage, planned, config.data, config.train, stage_of(stage, "teacher") ? input(stage, "teacher") : planned, config.lora);
    e.peak_bytes = std::max(e.peak_bytes, 3 * weights + kBase);
    if (propagates) {
      e.tokens += tokens;
      e.flops += walk_flops(spec, tokens, length, true);
      e.peak_bytes = std::max(e.peak_bytes, 3 * weights + walk_bytes(spec, tokens, length, true) + text_memory(stage) + kBase);
    }
    if (learns) {
      e.tokens += tokens;
      e.flops += rounding_flops(spec, tokens, length, config.rounding);
      e.peak_bytes = std::max(e.peak_bytes, 5 * weights + rounding_bytes(spec, tokens, length, config.rounding) + text_memory(stage) + kBase);
    }
    if (config.budget.bits > 0 || config.budget.bytes > 0) {
      const int64_t measured = calibration(stage, config.data, config.budget.rows, spec).first;
      e.tokens += measured;
      e.flops += sensitivity_flops(spec, measured, length, config.budget.types.size());
      e.peak_bytes = std::max(e.peak_bytes, 3 * weights + walk_bytes(spec, measured, length, false) + text_memory(stage) + kBase);
    }
    e.seconds = e.flops / flops_ + static_cast<double>(parameter_count(spec)) / 50e6 + 0.5;
    e.disk_bytes = planned.bytes = 5 * parameter_count(spec);
  }

  void capture(StageEstimate& e, const Stage& stage, const CaptureConfig& config, Planned& planned) {
    const Planned teacher = input(stage, "teacher");
    planned.cache = true;
    planned.vocab = teacher.vocab;
    if (!teacher.spec) return;
    const auto [count, length] = rows(stage, config.data);
    e.tokens = static_cast<int64_t>(count * length);
    e.flops = forward_flops(*teacher.spec, e.tokens, static_cast<int64_t>(length));
    const int64_t per_token = config.codec.kind == "full" ? 2 * teacher.spec->vocab : config.codec.kind == "top_k" ? 6 * config.codec.k : 48;
    e.disk_bytes = planned.bytes = e.tokens * per_token;
    const int64_t shard = config.shard_rows * static_cast<int64_t>(length) * per_token,
                  logits = config.batch * config.data.seq * teacher.spec->vocab * 8;
    e.peak_bytes = 4 * parameter_count(*teacher.spec) + shard + logits + kBase;
    e.parameters = parameter_count(*teacher.spec);
  }

  void synthesize(StageEstimate& e, const Stage& stage, const SynthesizeConfig& config, Planned& planned) {
    const Planned teacher = input(stage, "teacher");
    planned.vocab = teacher.vocab;
    if (!teacher.spec) return;
    double prompts = std::max(1.0, data_bytes(stage, "data.path") / kBytesPerRow);
    if (config.data.limit > 0) prompts = std::min(prompts, static_cast<double>(config.data.limit));
    e.tokens = static_cast<int64_t>(prompts * static_cast<double>(config.samples * config.max_tokens));
    e.flops = forward_flops(*teacher.spec, e.tokens, config.max_tokens);
    e.disk_bytes = planned.bytes = static_cast<int64_t>(static_cast<double>(e.tokens) * kBytesPerToken);
    e.peak_bytes = 4 * parameter_count(*teacher.spec) + config.batch * teacher.spec->vocab * 16 + kBase;
    e.parameters = parameter_count(*teacher.spec);
  }

  void exported(StageEstimate& e, const Stage& stage, const ExportConfig& config, Planned& planned) {
    planned = input(stage, "model");
    if (!planned.spec) return;
    const double parameters = static_cast<double>(parameter_count(*planned.spec));
    const std::map<std::string, double> bits = {{"", 4.6},     {"f32", 32},   {"fp32", 32},  {"f16", 16},  {"fp16", 16},
                                                {"bf16", 16}, {"int8", 8.3}, {"int4", 5.1}, {"q8_0", 8.5}};
    const auto found = bits.find(config.type);
    e.disk_bytes = planned.bytes = static_cast<int64_t>(parameters * (found == bits.end() ? 4.9 : found->second) / 8);
    e.peak_bytes = static_cast<int64_t>(parameters * 8) + kBase;
    e.seconds = 1 + parameters / 30e6;
  }

  void evaluated(StageEstimate& e, const Stage& stage, const EvaluateConfig& config) {
    const Reference* text = stage_of(stage, "text");
    double tokens = text ? text_bytes(text->path) / kBytesPerToken : recipe_.task ? text_bytes(recipe_.task->test) / kBytesPerToken : 0;
    if (config.text_tokens > 0) tokens = std::min(tokens, static_cast<double>(config.text_tokens));
    const double task = recipe_.task ? text_bytes(recipe_.task->test) / kBytesPerToken * 1.5 : 0;
    for (const Reference& r : stage.references) {
      if (r.key.rfind("of", 0) != 0) continue;
      const Planned planned = input(stage, r.key);
      if (!planned.spec) continue;
      e.tokens += static_cast<int64_t>(tokens + task);
      e.flops += forward_flops(*planned.spec, static_cast<int64_t>(tokens + task), config.ctx);
      e.peak_bytes = std::max(e.peak_bytes, 8 * parameter_count(*planned.spec) + config.ctx * planned.spec->vocab * 16 + kBase);
    }
    e.disk_bytes = 1 << 20;
  }

  static constexpr int64_t kBase = int64_t{160} << 20;  ///< LibTorch itself
  static constexpr int64_t kForwardRows = 16, kWalkRows = 4;  ///< of a batch of a pass, and of a walk
  static constexpr double kRoundingJudgements = 5;            ///< times that all rows judge a layer's codes (quant/rounding.h)
  const Recipe& recipe_;
  fs::path folder_;
  double flops_;
  std::map<std::string, Planned> known_;
};

}  // namespace

double machine_flops() {
  try {
    if (fs::exists(machine_file())) return get<double>(read_json(machine_file()), "flops", machine_file().string());
  } catch (const Error&) {
    // A file that cannot be read is as good as none.
  }
  return 25e9 * std::max(1u, std::thread::hardware_concurrency());
}

void remember_machine_flops(double flops) {
  std::error_code ignored;
  fs::create_directories(machine_file().parent_path(), ignored);
  if (!ignored) write_json(machine_file(), {{"flops", flops}});
}

std::vector<StageEstimate> estimate(const Recipe& recipe, const fs::path& run_folder) { return Estimator(recipe, run_folder).all(); }

Json to_json(const std::vector<StageEstimate>& estimates) {
  Json stages = Json::array();
  for (const StageEstimate& e : estimates)
    stages.push_back({{"id", e.id},
                      {"kind", e.kind},
                      {"state", e.state},
                      {"reason", e.reason},
                      {"parameters", e.parameters},
                      {"at_most", e.at_most},
                      {"trainable", e.trainable},
                      {"peak_bytes", e.peak_bytes},
                      {"disk_bytes", e.disk_bytes},
                      {"tokens", e.tokens},
                      {"flops", e.flops},
                      {"seconds", e.seconds}});
  return {{"stages", std::move(stages)}};
}

}  // namespace attar
