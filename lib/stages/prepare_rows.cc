#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "data/packed.h"
#include "stages/stage.h"

namespace attar {
namespace {

/// A twentieth is held apart, 512 rows at most: enough to steer by, little enough to lose.
double held_share(int64_t rows) { return std::min(0.05, 512.0 / static_cast<double>(std::max<int64_t>(rows, 1))); }

/// The configuration of one part: the data's, with the part's own keys on top.
DataConfig part_config(const DataConfig& data, const MixPartConfig& part) {
  DataConfig out = data;
  const auto own = [](auto& value, const auto& given) {
    if (given) value = *given;
  };
  own(out.kind, part.kind);
  own(out.text, part.text);
  own(out.prompt, part.prompt);
  own(out.answer, part.answer);
  own(out.messages, part.messages);
  own(out.learn, part.learn);
  own(out.limit, part.limit);
  return out;
}

/// One data set, whole, and the task's rows for validation where there are such.
struct WholeRows {
  TokenRows all;
  std::optional<TokenRows> valid;
};

/// Rows that attar data pack made: what their text was read by is settled.
TokenRows packed_rows(const DataSet& data, const Tokenizer& tokenizer, int64_t context) {
  check(data.config.limit == 0, "data.limit", "0 for packed rows", str(data.config.limit), "give the limit to attar data pack");
  TokenRows rows = read_packed(data.path, tokenizer.fingerprint());
  check(rows.seq() <= context, data.path.string(), str("rows within the model's context of ", context), str(rows.seq(), " tokens a row"),
        "pack the text with a smaller --seq");
  return rows;
}

WholeRows read_rows(const DataSet& data, const Tokenizer& tokenizer, int64_t context) {
  if (is_packed(data.path)) return {packed_rows(data, tokenizer, context), {}};
  const auto read = [&](const fs::path& path) {
    DocumentReader documents(path, data.config, data.task, &tokenizer);
    return make_rows(documents, tokenizer, data.config);
  };
  WholeRows out{read(data.path), {}};
  if (data.task && !data.task->valid.empty()) out.valid = read(data.task->valid);
  return out;
}

std::pair<TokenRows, TokenRows> apart(WholeRows rows, double share, uint64_t seed) {
  if (rows.valid) return {std::move(rows.all), std::move(*rows.valid)};
  return split_rows(rows.all, share, seed);
}

}  // namespace

std::vector<DataSet> data_sets(const StageRun& run, const DataConfig& config) {
  const auto one = [&run](const std::string& key, std::string name, DataConfig own) {
    const fs::path* given = run.input(key);
    check(given || run.task, key, "a path, or a task", "neither");
    if (!given) return DataSet{run.task->name, run.task->train, &*run.task, std::move(own)};
    return DataSet{std::move(name), *given, nullptr, std::move(own)};
  };
  if (config.mix.empty()) return {one("data.path", config.path, config)};
  std::vector<DataSet> out;
  for (size_t i = 0; i < config.mix.size(); ++i) {
    const MixPartConfig& part = config.mix[i];
    out.push_back(one(str("data.mix[", i, "].path"), part.path, part_config(config, part)));
  }
  return out;
}

PreparedRows prepare_rows(const StageRun& run, const DataConfig& config, const Tokenizer& tokenizer, int64_t context) {
  DataConfig used = config;
  if (used.seq > context) {
    log_warn(str("data.seq ", used.seq, " is longer than the model's context of ", context, "; rows have ", context, " tokens"));
    used.seq = context;
  }
  std::vector<WholeRows> parts;
  std::vector<std::string> names;
  int64_t total = 0;
  for (const DataSet& data : data_sets(run, used)) {
    parts.push_back(read_rows(data, tokenizer, context));
    names.push_back(data.name);
    total += parts.back().all.rows();
  }
  // Every part has its own rows held apart, so that each is seen in the held-out loss.
  std::vector<TokenRows> train, held;
  for (WholeRows& part : parts) {
    auto [rest, aside] = apart(std::move(part), held_share(total), run.seed);
    train.push_back(std::move(rest));
    held.push_back(std::move(aside));
  }
  if (config.mix.empty()) return {std::move(train[0]), std::move(held[0])};
  return {join_rows(train, names), join_rows(held, names)};
}

}  // namespace attar
