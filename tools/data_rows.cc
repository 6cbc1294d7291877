// attar data mix, pack: one file of many, and its ids once for all.
#include <iostream>

#include "base/check.h"
#include "data/mix_files.h"
#include "data/packed.h"
#include "engine_tools.h"
#include "report/terminal.h"

namespace attar {

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
    std::cout << to_json(result).dump(2) << "\n";
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
