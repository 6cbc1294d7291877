#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/files.h"
#include "base/json.h"

namespace attar {

/// The words of a text as curation compares them: letters and digits of any script, ASCII in lower case, everything else between words.
std::vector<std::string> compared_words(std::string_view text);
/// Hashes of all runs of `count` words; of a text with fewer words, the hash of all of them. Empty text: none.
std::vector<uint64_t> word_runs(std::string_view text, int64_t count);
/// What curation reads of a row: the named field, or every text in it, in order.
std::string row_text(const Json& row, const std::string& field, const std::string& place);

struct DedupOptions {
  double threshold = 0.8;   ///< Jaccard similarity of runs of words from which rows are near duplicates; above 1: exact ones only
  int64_t words = 5;        ///< of a run
};

/// Finds texts that have been there before: equal words exactly, similar ones by MinHash (Broder 1997): 128 least hashes of a text's runs in bands,
/// whose share of equal ones estimates the similarity. The standard error of that estimate is at most 0.045. Memory: about 1 KiB a text kept.
class SeenTexts {
 public:
  enum class Found { fresh, exact, near };
  /// Error unless the threshold is above 0.1.
  explicit SeenTexts(const DedupOptions& options);
  /// Whether it was there before; what is fresh is remembered.
  Found add(std::string_view text);

 private:
  static constexpr int kHashes = 128;
  DedupOptions options_;
  int rows_of_a_band_;
  std::unordered_set<std::string> exact_;
  std::vector<std::vector<uint32_t>> signatures_;
  std::vector<std::unordered_map<uint64_t, std::vector<uint32_t>>> bands_;
};

/// What a tool of curation did, by words for its JSON: rows read and rows kept, and why others were not.
struct CurationResult {
  int64_t read = 0, kept = 0;
  Json more = Json::object();
};
Json to_json(const CurationResult& result);  ///< {read, kept} and what stands in `more`
/// Rows of a file or folder (.jsonl, .csv, each also .zst) as JSON lines into `out`, without duplicates; the first of alike ones stays.
CurationResult dedup_rows(const fs::path& in, const fs::path& out, const std::string& field, const DedupOptions& options);
/// Rows that share a run of `words` words with none of the rows in `against`. Rows shorter than that are compared whole.
CurationResult decontaminate_rows(const fs::path& in, const fs::path& against, const fs::path& out, const std::string& field, int64_t words);
/// train.jsonl and test.jsonl in `folder`: a row's text and the seed decide where it goes, so that equal texts never part and order does not matter.
CurationResult split_into(const fs::path& in, const fs::path& folder, const std::string& field, double test_share, uint64_t seed);

}  // namespace attar
