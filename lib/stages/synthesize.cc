#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "data/prompts.h"
#include "dist/process_group.h"
#include "http/client.h"
#include "stages/authors.h"

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
  Writer(StageRun& run, const SynthesizeConfig& config) : run_(run), config_(config) {
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
    author_ = is_http_address(config.teacher) ? server_author(run, config) : model_author(run, config);
  }

  /// The ranks share the shards out; rank 0 puts them together in their order, so that the bytes are those of one rank.
  void run() {
    read_prompts();
    const auto group = process_group_from_environment();
    const fs::path folder = run_.work / "texts";
    std::optional<FolderLock> lock;
    if (group->rank() == 0) {
      make_folder(folder);
      lock.emplace(folder);
      remove_leftovers(folder);
    }
    group->barrier();
    int64_t done = 0;
    Progress progress("synthesize", prompts_, "prompts");
    for (const TextShard& shard : shards()) {
      stop_if_asked();
      const bool mine = shard.turn % group->size() == group->rank();
      if (mine && !fs::exists(folder / shard.file)) write_json(folder / shard.file, texts_of(shard));
      progress.update(done += shard.end - shard.first);
    }
    progress.finish();
    group->barrier();
    if (group->rank() == 0) put_together(folder);
  }

 private:
  /// Some prompts of a set and the file in the work folder that holds their texts.
  struct TextShard {
    const PromptSet* set;
    int64_t first, end;   ///< of the set's prompts
    int64_t number;       ///< of the first among all prompts
    int64_t turn;         ///< of the shard among all
    std::string file;
  };
  std::vector<TextShard> shards() const {
    std::vector<TextShard> out;
    int64_t number = 0;
    for (const PromptSet& set : sets_) {
      const auto count = static_cast<int64_t>(set.prompts.size());
      for (int64_t first = 0; first < count; first += config_.shard_prompts) {
        const int64_t end = std::min(count, first + config_.shard_prompts);
        char name[32];
        std::snprintf(name, sizeof name, "texts-%08lld.json", static_cast<long long>(number));
        out.push_back({&set, first, end, number, static_cast<int64_t>(out.size()), name});
        number += end - first;
      }
    }
    return out;
  }

  void put_together(const fs::path& folder) {
    std::map<const PromptSet*, std::unique_ptr<AtomicFile>> files;
    for (const PromptSet& set : sets_) files[&set] = std::make_unique<AtomicFile>(run_.out / set.file);
    Tally tally;
    for (const TextShard& shard : shards()) {
      const fs::path file = folder / shard.file;
      check(fs::exists(file), file.string(), "the texts that a rank wrote", "nothing there", "all ranks must see the folder of the result");
      const Json kept = read_json(file);
      for (const Json& row : kept.at("rows")) files[shard.set]->write(to_line(row) + "\n");
      tally.add(kept, file.string());
    }
    for (const PromptSet& set : sets_) files[&set]->commit();
    finish(tally);
  }

  void read_prompts() {
    const int64_t room = author_->context() - config_.max_tokens;
    int64_t shortened = 0;
    const std::vector<DataSet> sets = data_sets(run_, config_.data);
    for (size_t i = 0; i < sets.size(); ++i) {
      const DataSet& data = sets[i];
      PromptSet set{{}, data.config, sets.size() == 1 ? "train.jsonl" : str("train-", i, ".jsonl")};
      PromptReader reader(data.path, data.config, data.task, author_->tokenizer(), config_.prefix);
      for (Prompt prompt; reader.next(prompt);) {
        check(!prompt.ids.empty(), "a prompt of " + data.path.string(), "one token at least", "none: the tokenizer has no BOS");
        const int64_t excess = static_cast<int64_t>(prompt.ids.size()) - room;
        if (excess > 0) {
          check(prompt.kind != Prompt::Kind::text && prompt.bos < room, "prefix + max_tokens",
                str("at most the teacher's context of ", author_->context()), str(prompt.ids.size(), " + ", config_.max_tokens));
          prompt.ids.erase(prompt.ids.begin() + prompt.bos, prompt.ids.begin() + prompt.bos + excess);
          ++shortened;
        }
        set.prompts.push_back(std::move(prompt));
      }
      check(!set.prompts.empty(), data.path.string(), "prompts", "none: the data is empty");
      prompts_ += static_cast<int64_t>(set.prompts.size());
      sets_.push_back(std::move(set));
    }
    if (shortened > 0)
      log_warn(str(run_.label, ": ", shortened, " prompts shortened at their start: the teacher's context of ", author_->context(), " holds ",
                   config_.max_tokens, " new tokens too"));
  }

  bool drops_unfinished(const Prompt& prompt) const {
    return config_.unfinished == "drop" || (config_.unfinished == "auto" && prompt.kind != Prompt::Kind::text);
  }

  Json texts_of(const TextShard& shard) const {
    const DataConfig& data = shard.set->config;
    std::vector<const Prompt*> prompts;
    const auto copies = static_cast<size_t>(config_.samples);
    for (int64_t i = shard.first; i < shard.end; ++i) prompts.insert(prompts.end(), copies, &shard.set->prompts[static_cast<size_t>(i)]);
    const std::vector<AuthorText> texts = author_->write(prompts, data, shard.number * config_.samples);
    Json rows = Json::array();
    int64_t tokens = 0, unfinished = 0, empty = 0, broken = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      const Prompt& prompt = *prompts[i];
      Json row;
      std::string why;
      if (!texts[i].finished && drops_unfinished(prompt)) {
        ++unfinished;
      } else if (into_row(prompt, texts[i], data, row, why)) {
        rows.push_back(std::move(row));
        tokens += static_cast<int64_t>(texts[i].said ? author_->tokenizer().encode(*texts[i].said, false).size() : texts[i].ids.size());
      } else {
        ++(why == "empty" ? empty : broken);
      }
    }
    return {{"rows", std::move(rows)}, {"tokens", tokens}, {"unfinished", unfinished}, {"empty", empty}, {"broken", broken}};
  }

  bool into_row(const Prompt& prompt, const AuthorText& text, const DataConfig& data, Json& row, std::string& why) const {
    return text.said ? written_text_row(prompt, *text.said, author_->tokenizer(), data, row, why)
                     : written_row(prompt, text.ids, author_->tokenizer(), data, row, why);
  }

  void finish(const Tally& tally) {
    check(tally.texts > 0, run_.label, "texts to learn from",
          str("none: ", tally.unfinished, " unfinished, ", tally.empty, " empty, ", tally.broken, " broken"),
          tally.unfinished > 0 ? "raise max_tokens, or unfinished: keep" : "look at what the teacher writes with attar generate");
    if (const Json facts = author_->facts(); !facts.is_null()) run_.facts["server"] = facts;
    run_.facts["prompts"] = prompts_;
    run_.facts["texts"] = tally.texts;
    run_.facts["tokens"] = tally.tokens;
    run_.facts["dropped"] = {{"unfinished", tally.unfinished}, {"empty", tally.empty}, {"broken", tally.broken}};
    const int64_t dropped = tally.unfinished + tally.empty + tally.broken;
    log_info(str(run_.label, ": ", tally.texts, " texts of ", tally.tokens, " tokens for ", prompts_, " prompts; ", dropped, " dropped (",
                 tally.unfinished, " unfinished, ", tally.empty, " empty, ", tally.broken, " broken)"));
  }

  StageRun& run_;
  const SynthesizeConfig& config_;
  std::unique_ptr<Author> author_;
  int64_t prompts_ = 0;
  std::vector<PromptSet> sets_;
};

}  // namespace

void run_synthesize(StageRun& run, const SynthesizeConfig& config) { Writer(run, config).run(); }

}  // namespace attar
