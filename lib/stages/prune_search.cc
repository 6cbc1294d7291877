#include "stages/prune_search.h"

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "prune/file_bytes.h"
#include "prune/search.h"
#include "prune/vocabulary.h"
#include "quant/quantize.h"
#include "report/terminal.h"
#include "stages/joint_types.h"
#include "stages/latency.h"
#include "stages/learn.h"

namespace attar {
namespace {

constexpr int64_t kSearchBatch = 16;

/// The model's tokens under one least count.
struct Vocabulary {
  std::shared_ptr<const Tokenizer> tokenizer;
  int64_t size = 0, metadata_bytes = 0;
  PreparedRows rows;        ///< cut by this tokenizer; empty: the stage's own
  double tokens_ratio = 1;  ///< its tokens of the text over the whole tokenizer's
};

class Search {
 public:
  Search(StageRun& run, const PruneConfig& config, const PruneInput& input, ProcessGroup& group)
      : run_(run), config_(config), input_(input), group_(group) {}

  PruneConfig found() {
    SearchLimit limit = search_limit(config_.search);
    check_types(config_.search);
    counts_ = all_counts(*input_.rows, model().spec.vocab);
    std::vector<int64_t> leasts = config_.search.vocabulary;
    if (leasts.empty()) leasts = {config_.vocabulary};
    check(config_.vocabulary == 0 || config_.search.vocabulary.empty(), "vocabulary", "vocabulary or search.vocabulary", "both");
    std::map<int64_t, int64_t> sizes;
    for (int64_t least : leasts) {
      check(least >= 0, "search.vocabulary", "counts of 0 or more", str(least));
      sizes[least] = add_vocabulary(least, limit.unit == "bytes").size;
    }
    std::string table_hash;
    if (limit.unit == "parameters") {
      limit.cost = [](const ModelSpec& spec, int64_t, const std::string&) { return static_cast<double>(parameter_count(spec)); };
    } else if (limit.unit == "bytes") {
      limit.cost = [this](const ModelSpec& spec, int64_t least, const std::string& type) {
        const int64_t tensors = type.empty() ? gguf_tensor_bytes(spec, config_.search.type)
                                             : gguf_tensor_bytes(spec, one_type(spec, ggml_type_named(type)));
        return static_cast<double>(tensors + vocabularies_.at(least).metadata_bytes);
      };
    } else {
      const fs::path* given = run_.input("search.latency");
      // One table for all ranks: rank 0 measures where there is none.
      if (group_.rank() > 0) group_.barrier();
      const LatencyTable table = latency_table(given ? *given : fs::path(config_.search.latency));
      if (group_.rank() == 0) group_.barrier();
      run_.facts["latency_machine"] = table.machine;
      table_hash = sha256(to_line(Json(table.linear_ms)) + to_line(Json({table.layer_ms, table.token_ms})));
      limit.cost = [table](const ModelSpec& spec, int64_t, const std::string&) { return table.token(spec); };
    }
    std::vector<Candidate> candidates = search_candidates(model().spec, config_, sizes, limit, run_.seed_of("search"));
    const SearchJudges judges{[this](Candidate& c) { return first_loss(c); },
                              [this](const Candidate& c, size_t number) { return recovered(c, number); }};
    const size_t best = search_best(candidates, config_.search, judges, run_.work / "search.json", run_.key + table_hash, group_.rank() == 0);
    const Json table = search_table(candidates, best, limit);
    run_.facts["search"] = table;
    show(table);
    if (!candidates[best].types.empty()) save_types(candidates[best].types, run_.out);
    return candidates[best].config;
  }

 private:
  const Checkpoint& model() const { return *input_.model; }

  const Vocabulary& add_vocabulary(int64_t least, bool measure) {
    Vocabulary v;
    v.tokenizer = model().tokenizer, v.size = model().spec.vocab;
    ModelSpec spec = model().spec;
    if (least > 0) {
      const Checkpoint pruned = prune_vocabulary(model(), counts_, least);
      v.tokenizer = pruned.tokenizer, v.size = pruned.spec.vocab, spec = pruned.spec;
      v.rows = prepare_rows(run_, config_.data, *v.tokenizer, spec.context);
      v.tokens_ratio = static_cast<double>(v.rows.train.learned_tokens()) / std::max(1.0, static_cast<double>(input_.rows->train.learned_tokens()));
    }
    if (measure) v.metadata_bytes = gguf_metadata_bytes(spec, v.tokenizer.get(), run_.out / ".metadata.gguf");
    return vocabularies_[least] = std::move(v);
  }

  Checkpoint small(const Candidate& candidate) const {
    Json ignored;
    const Checkpoint cut = prune(model(), candidate.config, input_.evidence, input_.saliency, group_, ignored);
    return candidate.config.vocabulary > 0 ? prune_vocabulary(cut, counts_, candidate.config.vocabulary) : cut;
  }

  const PreparedRows& rows_of(const Candidate& candidate) const {
    return candidate.config.vocabulary > 0 ? vocabularies_.at(candidate.config.vocabulary).rows : *input_.rows;
  }

  /// After surgery; where types share the limit, they are chosen now, and the loss is that of the rounded weights.
  double first_loss(Candidate& candidate) const {
    Checkpoint cut = small(candidate);
    if (!candidate.type.empty())
      choose_types(candidate, cut, config_.search, vocabularies_.at(candidate.config.vocabulary).metadata_bytes, config_.search.bytes,
                   rows_of(candidate).train, run_.work / "sensitivity.json", group_);
    return loss(std::move(cut), candidate, false);
  }

  /// Nats a token of the whole tokenizer, so that vocabularies compare. `held`: on the rows that no recovery learned from.
  double loss(Checkpoint small, const Candidate& candidate, bool held) const {
    const Vocabulary& v = vocabularies_.at(candidate.config.vocabulary);
    const PreparedRows& rows = rows_of(candidate);
    const bool apart = held && rows.held.rows() > 0;
    quantize_checkpoint(small, candidate.types);
    return v.tokens_ratio * calibration_loss(small, apart ? rows.held : rows.train, config_.search.rows, kSearchBatch);
  }

  double recovered(const Candidate& candidate, size_t number) const {
    Checkpoint student = small(candidate);
    StageRun inner = run_;
    inner.facts = Json::object();
    inner.key = str(run_.key, " candidate ", number);
    inner.label = str(run_.label, " candidate ", number + 1);
    inner.work = run_.work / str("candidate_", number);
    inner.out = run_.out / ".candidate";
    make_folder(inner.work), make_folder(inner.out);
    TrainConfig train;
    train.steps = config_.search.recovery_steps, train.batch = config_.search.recovery_batch, train.lr = config_.search.recovery_lr;
    train.warmup = std::max<int64_t>(1, train.steps / 10), train.eval_every = train.steps + 1;
    const int64_t least = candidate.config.vocabulary;
    Learning learning{&student, {}, std::make_shared<Checkpoint>(least > 0 ? prune_vocabulary(model(), counts_, least) : model()), config_.data, {},
                      train,    {}};
    learn(inner, learning);
    const double value = loss(student, candidate, true);
    fs::remove_all(inner.out);
    if (group_.rank() == 0) fs::remove_all(inner.work);
    return value;
  }

  void show(const Json& table) const {
    std::vector<std::vector<std::string>> lines;
    for (const Json& row : table["candidates"]) {
      std::vector<std::string> line;
      for (const char* key : {"vocab", "hidden", "layers", "heads", "kv_heads", "ffn", "cost", "loss", "recovered"})
        line.push_back(row[key].is_null() ? "" : row[key].is_number_float() ? str(row[key].get<double>()) : to_line(row[key]));
      line.push_back(row["chosen"].get<bool>() ? "chosen" : "");
      lines.push_back(std::move(line));
    }
    log_info(str("shapes within ", table["limit"].get<double>(), " ", table["unit"].get<std::string>(), ":\n",
                 format_table({"vocabulary", "hidden", "layers", "heads", "kv", "ffn", "cost", "loss", "recovered", ""}, lines)));
  }

  StageRun& run_;
  const PruneConfig& config_;
  const PruneInput& input_;
  ProcessGroup& group_;
  std::vector<int64_t> counts_;
  std::map<int64_t, Vocabulary> vocabularies_;
};

}  // namespace

std::vector<int64_t> all_counts(const PreparedRows& rows, int64_t vocab) {
  std::vector<int64_t> counts = token_counts(rows.train, vocab);
  const std::vector<int64_t> held = token_counts(rows.held, vocab);
  for (size_t id = 0; id < counts.size(); ++id) counts[id] += held[id];
  return counts;
}

PruneConfig searched(StageRun& run, const PruneConfig& config, const PruneInput& input, ProcessGroup& group) {
  return Search(run, config, input, group).found();
}

}  // namespace attar
