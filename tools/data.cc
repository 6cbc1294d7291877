// attar data: dedup, split, decontaminate, mix, pack.
#include "data/curate.h"

#include <iostream>

#include "base/check.h"
#include "data/mix_files.h"
#include "data/packed.h"
#include "engine_tools.h"
#include "report/terminal.h"

namespace attar {
namespace {

void say(const CurationResult& result, const Words& words) {
  if (words.has("json")) {
    Json out = {{"read", result.read}, {"kept", result.kept}};
    out.update(result.more);
    std::cout << out.dump(2) << "\n";
    return;
  }
  std::cout << result.read << " rows read, " << result.kept << " kept";
  for (const auto& [name, count] : result.more.items()) std::cout << ", " << count << " " << name;
  std::cout << "\n";
}

/// A file that is read must not be the one that is written.
void check_apart(const Words& words, const std::string& in) {
  std::error_code none;
  check(!fs::equivalent(words.get(in), words.get("out"), none), "--out", "another file than --" + in, words.get("out"));
}

}  // namespace

int tool_data_dedup(const Words& words) {
  check_apart(words, "in");
  DedupOptions options;
  options.threshold = words.has("exact") ? 2 : words.number("threshold");
  options.words = words.integer("words");
  check(words.has("exact") || options.threshold <= 1, "--threshold", "above 0.1, at most 1", words.get("threshold"));
  say(dedup_rows(words.get("in"), words.get("out"), words.get("text"), options), words);
  return 0;
}

int tool_data_split(const Words& words) {
  say(split_into(words.get("in"), words.get("out"), words.get("text"), words.number("test"), static_cast<uint64_t>(words.integer("seed"))), words);
  return 0;
}

int tool_data_decontaminate(const Words& words) {
  check_apart(words, "in");
  check_apart(words, "against");
  say(decontaminate_rows(words.get("in"), words.get("against"), words.get("out"), words.get("text"), words.integer("words")), words);
  return 0;
}

int tool_data_mix(const Words& words) {
  const std::vector<std::string> paths = words.all("in"), weights = words.all("weight");
  check(weights.empty() || weights.size() == paths.size(), "--weight", str("one for each of the ", paths.size(), " --in, or none"),
        str(weights.size()));
  std::vector<MixFile> files;
  for (size_t i = 0; i < paths.size(); ++i) {
    std::error_code none;
    check(!fs::equivalent(paths[i], words.get("out"), none), "--out", "another file than --in", words.get("out"));
    files.push_back({paths[i], {}});
    if (weights.empty()) continue;
    Words one;
    one.values["weight"] = {weights[i]};
    files.back().weight = one.number("weight");
  }
  const CurationResult result =
      mix_files(files, words.get("out"), {words.number("temperature"), words.integer("rows"), static_cast<uint64_t>(words.integer("seed"))});
  if (words.has("json")) {
    say(result, words);
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const Json& file : result.more["files"])
    rows.push_back({file["path"].get<std::string>(), to_line(file["rows"]), to_line(file["written"]), str(file["share"].get<double>())});
  std::cout << format_table({"file", "rows", "written", "share"}, rows) << result.kept << " rows written\n";
  return 0;
}

int tool_data_pack(const Words& words) {
  DataConfig config;
  config.kind = words.get("kind"), config.learn = words.get("learn"), config.chat = words.get("chat");
  config.text = words.get("text"), config.prompt = words.get("prompt"), config.answer = words.get("answer"), config.messages = words.get("messages");
  config.seq = words.integer("seq"), config.limit = words.integer("limit"), config.pack = !words.has("one-a-row");
  const auto tokenizer = load_tokenizer(words.get("tokenizer"));
  DocumentReader documents(words.get("in"), config, nullptr, tokenizer.get());
  const TokenRows rows = make_rows(documents, *tokenizer, config);
  write_packed(rows, tokenizer->fingerprint(), words.get("out"), words.integer("shard-rows"));
  const Json result = {{"rows", rows.rows()}, {"seq", rows.seq()}, {"learned_tokens", rows.learned_tokens()}, {"data_sha256", rows.data_hash}};
  if (words.has("json")) std::cout << result.dump(2) << "\n";
  else std::cout << rows.rows() << " rows of " << rows.seq() << " tokens, " << rows.learned_tokens() << " of them to learn from\n";
  return 0;
}

}  // namespace attar
