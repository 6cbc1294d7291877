#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/signals.h"
#include "data/prompts.h"
#include "model/generate.h"
#include "stages/stage.h"

namespace attar {
namespace {

/// One data set's prompts, and the file that will hold their texts.
struct PromptSet {
  std::vector<Prompt> prompts;
  DataConfig config;
  std::string file;
};

/// What became of the texts of a shard.
struct Tally {
  int64_t texts = 0, tokens = 0, unfinished = 0, empty = 0, broken = 0;
  void add(const Json& shard, const std::string& name) {
    texts += static_cast<int64_t>(shard.at("rows").size());
    tokens += get<int64_t>(shard, "tokens", name);
    unfinished += get<int64_t>(shard, "unfinished", name);
    empty += get<int64_t>(shard, "empty", name);
    broken += get<int64_t>(shard, "broken", name);
  }
};

class Writer {
 public:
  Writer(StageRun& run, const SynthesizeConfig& config) : run_(run), config_(config), model_(load_model(*run.input("teacher"), true)) {
    const auto at_least_one = [](const char* name, int64_t value) { check(value >= 1, name, "1 or more", str(value)); };
    at_least_one("samples", config.samples);
    at_least_one("max_tokens", config.max_tokens);
    at_least_one("batch", config.batch);
    at_least_one("shard_prompts", config.shard_prompts);
    check(config.temperature >= 0, "temperature", "0 or more", str(config.temperature));
    check(config.top_p > 0 && config.top_p <= 1, "top_p", "above 0, at most 1", str(config.top_p));
    check(config.temperature > 0 || config.samples == 1, "samples", "1 at temperature 0", str(config.samples), "they would all be the same text");
    const bool known = config.unfinished == "auto" || config.unfinished == "keep" || config.unfinished == "drop";
    check(known, "unfinished", "auto, keep or drop", config.unfinished);
    check(config.max_tokens < model_.spec.context, "max_tokens", str("fewer than the teacher's context of ", model_.spec.context),
          str(config.max_tokens));
  }

  void run() {
    read_prompts();
    Decoder decoder(model_.spec, model_.weights);
    if (run_.device != at::kCPU)
      for (auto& [name, tensor] : decoder.weights()) tensor = tensor.to(run_.device);
    const fs::path folder = run_.work / "texts";
    make_folder(folder);
    const FolderLock lock(folder);
    remove_leftovers(folder);
    int64_t total = 0, done = 0, number = 0;
    for (const PromptSet& set : sets_) total += static_cast<int64_t>(set.prompts.size());
    Progress progress("synthesize", total, "prompts");
    Tally tally;
    for (const PromptSet& set : sets_) {
      AtomicFile out(run_.out / set.file);
      const auto count = static_cast<int64_t>(set.prompts.size());
      for (int64_t first = 0; first < count; first += config_.shard_prompts) {
        const int64_t end = std::min(count, first + config_.shard_prompts);
        char name[32];
        std::snprintf(name, sizeof name, "texts-%08lld.json", static_cast<long long>(number));
        const fs::path file = folder / name;
        if (!fs::exists(file)) write_json(file, shard(decoder, set, first, end, number));
        const Json kept = read_json(file);
        for (const Json& row : kept.at("rows")) out.write(to_line(row) + "\n");
        tally.add(kept, file.string());
        number += end - first;
        done += end - first;
        progress.update(done);
      }
      out.commit();
    }
    progress.finish();
    finish(tally, total);
  }

 private:
  void read_prompts() {
    const int64_t room = model_.spec.context - config_.max_tokens;
    int64_t shortened = 0;
    const std::vector<DataSet> sets = data_sets(run_, config_.data);
    for (size_t i = 0; i < sets.size(); ++i) {
      const DataSet& data = sets[i];
      PromptSet set{{}, data.config, sets.size() == 1 ? "train.jsonl" : str("train-", i, ".jsonl")};
      PromptReader reader(data.path, data.config, data.task, *model_.tokenizer, config_.prefix);
      for (Prompt prompt; reader.next(prompt);) {
        check(!prompt.ids.empty(), "a prompt of " + data.path.string(), "one token at least", "none: the tokenizer has no BOS");
        const int64_t excess = static_cast<int64_t>(prompt.ids.size()) - room;
        if (excess > 0) {
          check(prompt.kind != Prompt::Kind::text && prompt.bos < room, "prefix + max_tokens",
                str("at most the teacher's context of ", model_.spec.context), str(prompt.ids.size(), " + ", config_.max_tokens));
          prompt.ids.erase(prompt.ids.begin() + prompt.bos, prompt.ids.begin() + prompt.bos + excess);
          ++shortened;
        }
        set.prompts.push_back(std::move(prompt));
      }
      check(!set.prompts.empty(), data.path.string(), "prompts", "none: the data is empty");
      sets_.push_back(std::move(set));
    }
    if (shortened > 0)
      log_warn(str(run_.label, ": ", shortened, " prompts shortened at their start: the teacher's context of ", model_.spec.context, " holds ",
                   config_.max_tokens, " new tokens too"));
  }

  bool drops_unfinished(const Prompt& prompt) const {
    return config_.unfinished == "drop" || (config_.unfinished == "auto" && prompt.kind != Prompt::Kind::text);
  }

  /// Texts of prompts [first, end) of a set; `number`: of the first prompt among all. Prompts of like length share a batch.
  Json shard(const Decoder& decoder, const PromptSet& set, int64_t first, int64_t end, int64_t number) const {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < (end - first) * config_.samples; ++i) order.push_back(i);
    const auto prompt_of = [&](int64_t i) -> const Prompt& { return set.prompts[static_cast<size_t>(first + i / config_.samples)]; };
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return prompt_of(a).ids.size() < prompt_of(b).ids.size(); });
    WriteOptions options;
    options.generate = {config_.max_tokens, config_.temperature, run_.seed_of("texts"), model_.spec.eos};
    for (const int64_t id : ending_ids(*model_.tokenizer, set.config)) options.generate.stop.push_back(id);
    options.top_p = config_.top_p;
    options.vocab = std::min(model_.spec.vocab, model_.tokenizer->size());
    std::vector<WrittenText> texts(order.size());
    for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(config_.batch)) {
      stop_if_asked();
      const size_t stop = std::min(order.size(), begin + static_cast<size_t>(config_.batch));
      std::vector<std::vector<int32_t>> prompts;
      std::vector<uint64_t> streams;
      for (size_t i = begin; i < stop; ++i) {
        prompts.push_back(prompt_of(order[i]).ids);
        streams.push_back(stream_of("text") + static_cast<uint64_t>(number * config_.samples + order[i]));
      }
      std::vector<WrittenText> written = write_texts(decoder, prompts, streams, options);
      for (size_t i = begin; i < stop; ++i) texts[static_cast<size_t>(order[i])] = std::move(written[i - begin]);
    }
    Json rows = Json::array();
    int64_t tokens = 0, unfinished = 0, empty = 0, broken = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const Prompt& prompt = prompt_of(static_cast<int64_t>(i));
      Json row;
      std::string why;
      if (!texts[i].finished && drops_unfinished(prompt)) {
        ++unfinished;
      } else if (written_row(prompt, texts[i].ids, *model_.tokenizer, set.config, row, why)) {
        rows.push_back(std::move(row));
        tokens += static_cast<int64_t>(texts[i].ids.size());
      } else {
        ++(why == "empty" ? empty : broken);
      }
    }
    return {{"rows", std::move(rows)}, {"tokens", tokens}, {"unfinished", unfinished}, {"empty", empty}, {"broken", broken}};
  }

  void finish(const Tally& tally, int64_t prompts) {
    check(tally.texts > 0, run_.label, "texts to learn from",
          str("none: ", tally.unfinished, " unfinished, ", tally.empty, " empty, ", tally.broken, " broken"),
          tally.unfinished > 0 ? "raise max_tokens, or unfinished: keep" : "look at what the teacher writes with attar generate");
    run_.facts["prompts"] = prompts;
    run_.facts["texts"] = tally.texts;
    run_.facts["tokens"] = tally.tokens;
    run_.facts["dropped"] = {{"unfinished", tally.unfinished}, {"empty", tally.empty}, {"broken", tally.broken}};
    const int64_t dropped = tally.unfinished + tally.empty + tally.broken;
    log_info(str(run_.label, ": ", tally.texts, " texts of ", tally.tokens, " tokens for ", prompts, " prompts; ", dropped, " dropped (",
                 tally.unfinished, " unfinished, ", tally.empty, " empty, ", tally.broken, " broken)"));
  }

  StageRun& run_;
  const SynthesizeConfig& config_;
  Checkpoint model_;
  std::vector<PromptSet> sets_;
};

}  // namespace

void run_synthesize(StageRun& run, const SynthesizeConfig& config) { Writer(run, config).run(); }

}  // namespace attar
