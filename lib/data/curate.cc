#include "data/curate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "base/check.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/signals.h"
#include "base/utf8.h"
#include "data/row_reader.h"

namespace attar {
namespace {

/// A 64-bit mixer (splitmix64's finalizer): close inputs give unrelated outputs.
uint64_t mixed_bits(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

/// FNV-1a; runs of words are told apart by 64 bits.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (const char byte : text) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3ull;
  return mixed_bits(hash);
}

std::string joined_words(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

/// How many rows a band has, so that texts of the threshold's similarity share a band with a probability of 0.95 at least.
int band_rows(double threshold, int hashes) {
  int best = 1;
  for (int rows = 1; rows <= hashes; ++rows)
    if (hashes % rows == 0 && 1 - std::pow(1 - std::pow(threshold, rows), hashes / rows) >= 0.95) best = rows;
  return best;
}

void all_texts(const Json& value, std::string& out) {
  if (value.is_string()) out += (out.empty() ? "" : "\n") + value.get<std::string>();
  if (value.is_object() || value.is_array())
    for (const Json& item : value) all_texts(item, out);
}

/// Every row of a path's files with its place.
void each_row(const fs::path& path, const std::function<void(const Json&, const std::string&)>& take) {
  int64_t rows = 0;
  for (const fs::path& file : data_files(path)) {
    RecordReader records(file);
    for (Json row; records.next(row); ++rows) {
      if (rows % 1024 == 0) stop_if_asked();
      take(row, records.place());
    }
  }
  check(rows > 0, path.string(), "rows of data", "none");
}

}  // namespace

std::vector<std::string> compared_words(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) out.push_back(std::move(word));
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<uint8_t>(text[at]);
    const size_t length = byte < 0x80 ? 1 : std::max<size_t>(1, utf8_length(text, at));
    if (byte >= 0x80) word += text.substr(at, length);
    else if (byte >= 'A' && byte <= 'Z') word += static_cast<char>(byte + 32);
    else if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9')) word += static_cast<char>(byte);
    else end_word();
    at += length;
  }
  end_word();
  return out;
}

std::vector<uint64_t> word_runs(std::string_view text, int64_t count) {
  check(count >= 1, "words of a run", "1 or more", str(count));
  const std::vector<std::string> words = compared_words(text);
  std::vector<uint64_t> out;
  if (words.empty()) return out;
  const size_t length = std::min(words.size(), static_cast<size_t>(count));
  for (size_t begin = 0; begin + length <= words.size(); ++begin) {
    std::string run;
    for (size_t i = begin; i < begin + length; ++i) run += words[i] + " ";
    out.push_back(hash_of(run));
  }
  return out;
}

std::string row_text(const Json& row, const std::string& field, const std::string& place) {
  std::string out;
  if (field.empty()) {
    all_texts(row, out);
    return out;
  }
  const auto found = row.find(field);
  check(found != row.end(), place + ": field '" + field + "'", "in every row", "nothing");
  all_texts(*found, out);
  return out;
}

SeenTexts::SeenTexts(const DedupOptions& options) : options_(options), rows_of_a_band_(band_rows(std::min(options.threshold, 1.0), kHashes)) {
  check(options.threshold > 0.1, "threshold", "above 0.1: texts less alike are no duplicates", str(options.threshold));
  bands_.resize(static_cast<size_t>(kHashes / rows_of_a_band_));
}

SeenTexts::Found SeenTexts::add(std::string_view text) {
  const std::vector<std::string> words = compared_words(text);
  // Texts without a word are compared as they are.
  const std::string identity = sha256(words.empty() ? std::string(text) : joined_words(words)).substr(0, 32);
  if (!exact_.insert(identity).second) return Found::exact;
  const std::vector<uint64_t> runs = word_runs(text, options_.words);
  if (options_.threshold > 1 || runs.empty()) return Found::fresh;
  std::vector<uint32_t> signature(kHashes, UINT32_MAX);
  for (const uint64_t run : runs)
    for (int hash = 0; hash < kHashes; ++hash) {
      const auto value = static_cast<uint32_t>(mixed_bits(run + static_cast<uint64_t>(hash) * 0xD1342543DE82EF95ull) >> 32);
      signature[static_cast<size_t>(hash)] = std::min(signature[static_cast<size_t>(hash)], value);
    }
  std::vector<uint64_t> keys(bands_.size());
  for (size_t band = 0; band < bands_.size(); ++band) {
    uint64_t key = band;
    const size_t first = band * static_cast<size_t>(rows_of_a_band_), last = first + static_cast<size_t>(rows_of_a_band_);
    for (size_t row = first; row < last; ++row) key = mixed_bits(key ^ signature[row]);
    keys[band] = key;
    const auto found = bands_[band].find(key);
    if (found == bands_[band].end()) continue;
    for (const uint32_t other : found->second) {
      int equal = 0;
      for (int hash = 0; hash < kHashes; ++hash) equal += signature[static_cast<size_t>(hash)] == signatures_[other][static_cast<size_t>(hash)];
      if (equal >= options_.threshold * kHashes) return Found::near;
    }
  }
  const auto number = static_cast<uint32_t>(signatures_.size());
  for (size_t band = 0; band < bands_.size(); ++band) bands_[band][keys[band]].push_back(number);
  signatures_.push_back(std::move(signature));
  return Found::fresh;
}

CurationResult dedup_rows(const fs::path& in, const fs::path& out, const std::string& field, const DedupOptions& options) {
  SeenTexts seen(options);
  AtomicFile file(out);
  CurationResult result;
  int64_t exact = 0, near = 0;
  each_row(in, [&](const Json& row, const std::string& place) {
    ++result.read;
    const SeenTexts::Found found = seen.add(row_text(row, field, place));
    if (found != SeenTexts::Found::fresh) {
      ++(found == SeenTexts::Found::exact ? exact : near);
      return;
    }
    ++result.kept;
    file.write(to_line(row) + "\n");
  });
  file.commit();
  result.more = {{"exact", exact}, {"near", near}};
  return result;
}

CurationResult decontaminate_rows(const fs::path& in, const fs::path& against, const fs::path& out, const std::string& field, int64_t words) {
  std::unordered_set<uint64_t> known;
  each_row(against, [&](const Json& row, const std::string& place) {
    for (const uint64_t run : word_runs(row_text(row, field, place), words)) known.insert(run);
  });
  AtomicFile file(out);
  CurationResult result;
  each_row(in, [&](const Json& row, const std::string& place) {
    ++result.read;
    const std::vector<uint64_t> runs = word_runs(row_text(row, field, place), words);
    if (std::any_of(runs.begin(), runs.end(), [&](uint64_t run) { return known.count(run) > 0; })) return;
    ++result.kept;
    file.write(to_line(row) + "\n");
  });
  check(result.kept > 0, out.string(), "rows that the held-out ones do not contain", "none", "is the same file given twice?");
  file.commit();
  result.more = {{"contaminated", result.read - result.kept}};
  return result;
}

CurationResult split_into(const fs::path& in, const fs::path& folder, const std::string& field, double test_share, uint64_t seed) {
  check(test_share > 0 && test_share < 1, "share of the test rows", "above 0, below 1", str(test_share));
  make_folder(folder);
  AtomicFile train(folder / "train.jsonl"), test(folder / "test.jsonl");
  CurationResult result;
  int64_t held = 0;
  each_row(in, [&](const Json& row, const std::string& place) {
    ++result.read;
    const bool apart = Rng(seed, hash_of(joined_words(compared_words(row_text(row, field, place))))).uniform() < test_share;
    held += apart;
    (apart ? test : train).write(to_line(row) + "\n");
  });
  check(held > 0 && held < result.read, in.string(), "rows for both sides of the split", str(held, " of ", result.read, " for the test"),
        "another share or seed");
  train.commit();
  test.commit();
  result.kept = result.read;
  result.more = {{"train", result.read - held}, {"test", held}};
  return result;
}

Json to_json(const CurationResult& result) {
  Json out = {{"read", result.read}, {"kept", result.kept}};
  out.update(result.more);
  return out;
}

}  // namespace attar
