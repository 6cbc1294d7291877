// attar data dedup, split, decontaminate: rows that are worth learning from.
#include "data/curate.h"

#include <iostream>

#include "base/check.h"
#include "engine_tools.h"

namespace attar {
namespace {

void say(const CurationResult& result, const Words& words) {
  if (words.has("json")) {
    std::cout << to_json(result).dump(2) << "\n";
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

}  // namespace attar
