#include "tokenizer/bpe.h"

#include <algorithm>
#include <queue>

#include "base/check.h"
#include "base/utf8.h"
#include "tokenizer/spm_bpe.h"
#include "tokenizer/word_cache.h"

namespace attar {
namespace {

constexpr size_t kFewSymbols = 40;

}  // namespace

const std::array<std::string, 256>& byte_alphabet() {
  // Printable Latin-1 stands for itself, the other bytes for the characters from U+0100 on, in order.
  static const std::array<std::string, 256> kAlphabet = [] {
    std::array<std::string, 256> out;
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const int point = printable ? byte : next++;
      out[byte] = point < 0x80 ? std::string(1, static_cast<char>(point))
                               : std::string{static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))};
    }
    return out;
  }();
  return kAlphabet;
}

bool from_byte_alphabet(std::string_view text, std::string& bytes) {
  static const std::array<int16_t, 512> kBytes = [] {
    std::array<int16_t, 512> out;
    out.fill(-1);
    for (int byte = 0; byte < 256; ++byte) {
      const std::string& spelled = byte_alphabet()[byte];
      out[spelled.size() == 1 ? static_cast<uint8_t>(spelled[0]) : (spelled[0] & 0x1F) << 6 | (spelled[1] & 0x3F)] = static_cast<int16_t>(byte);
    }
    return out;
  }();
  bytes.clear();
  for (size_t at = 0; at < text.size(); ++at) {
    int point = static_cast<uint8_t>(text[at]);
    if (point >= 0x80) {
      if (point >= 0xC8 || at + 1 >= text.size()) return false;
      point = (point & 0x1F) << 6 | (text[++at] & 0x3F);
    }
    if (point >= 512 || kBytes[point] < 0) return false;
    bytes += static_cast<char>(kBytes[point]);
  }
  return true;
}

BpeModel::BpeModel(std::vector<std::string> vocabulary, const std::vector<std::pair<std::string, std::string>>& merges, Options options, bool lenient,
                   const std::string& name)
    : vocabulary_(std::move(vocabulary)), options_(options) {
  serial_ = WordCache::new_serial();
  ids_.reserve(vocabulary_.size() * 2);
  for (size_t id = 0; id < vocabulary_.size(); ++id)
    if (!vocabulary_[id].empty()) ids_.emplace(vocabulary_[id], static_cast<int32_t>(id));
  for (int byte = 0; byte < 256; ++byte) bytes_[byte] = find(options_.byte_level ? byte_alphabet()[byte] : byte_piece(static_cast<uint8_t>(byte)));
  if (!options_.byte_level) options_.byte_fallback = options_.byte_fallback && std::find(bytes_.begin(), bytes_.end(), -1) == bytes_.end();
  if (options_.ignore_merges) {
    std::string bytes;
    for (const auto& [text, id] : ids_) {
      if (!options_.byte_level) words_.emplace(text, id);
      else if (from_byte_alphabet(text, bytes)) words_.emplace(bytes, id);
    }
  }
  size_t slots = 16;
  while (slots < merges.size() * 2) slots *= 2;
  rules_.resize(slots);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const int32_t left_id = find(left), right_id = find(right), joined = find(left + right);
    if (left_id < 0 || right_id < 0 || joined < 0) {
      if (lenient) continue;
      fail(str(name, ": merge rule ", rank), "parts and product that are tokens", "'" + left + "' '" + right + "'");
    }
    add_rule(left_id, right_id, static_cast<uint32_t>(rank), joined);
  }
}

int32_t BpeModel::find(const std::string& token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

void BpeModel::add_rule(int32_t left, int32_t right, uint32_t rank, int32_t id) {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  size_t slot = WordCache::mix(pair) & (rules_.size() - 1);
  while (rules_[slot].pair != ~uint64_t{0} && rules_[slot].pair != pair) slot = (slot + 1) & (rules_.size() - 1);
  // A pair given twice keeps its last rank, as a map that is filled in order does.
  rules_[slot] = {pair, rank, id};
}

const BpeModel::Rule* BpeModel::rule(int32_t left, int32_t right) const {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  for (size_t slot = WordCache::mix(pair) & (rules_.size() - 1);; slot = (slot + 1) & (rules_.size() - 1)) {
    if (rules_[slot].pair == pair) return &rules_[slot];
    if (rules_[slot].pair == ~uint64_t{0}) return nullptr;
  }
}

std::vector<int32_t> BpeModel::ranks() const {
  std::vector<int32_t> out(vocabulary_.size(), -1);
  for (const Rule& rule : rules_) {
    if (rule.pair == ~uint64_t{0}) continue;
    int32_t& rank = out[rule.id];
    if (rank < 0 || static_cast<int32_t>(rule.rank) < rank) rank = static_cast<int32_t>(rule.rank);
  }
  return out;
}

void BpeModel::symbols_of(std::string_view word, std::vector<int32_t>& out) const {
  if (options_.byte_level) {
    for (const char byte : word) {
      const int32_t id = bytes_[static_cast<uint8_t>(byte)];
      if (id >= 0) out.push_back(id);
      else if (options_.unk >= 0) out.push_back(options_.unk);
    }
    return;
  }
  bool after_unk = false;
  for (size_t at = 0; at < word.size();) {
    const size_t size = std::max<size_t>(utf8_length(word, at), 1);
    const std::string character(word.substr(at, size));
    at += size;
    const int32_t id = find(character);
    const bool known = id >= 0;
    if (known) {
      out.push_back(id);
    } else if (options_.byte_fallback) {
      for (const char byte : character) out.push_back(bytes_[static_cast<uint8_t>(byte)]);
    } else if (options_.unk >= 0 && !(options_.fuse_unk && after_unk)) {
      out.push_back(options_.unk);
    }
    after_unk = !known && !options_.byte_fallback;
  }
}

void BpeModel::merge_few(std::vector<int32_t>& symbols) const {
  const Rule* rules[kFewSymbols];
  size_t count = symbols.size();
  for (size_t i = 0; i + 1 < count; ++i) rules[i] = rule(symbols[i], symbols[i + 1]);
  while (count > 1) {
    uint32_t best = UINT32_MAX;
    size_t where = 0;
    for (size_t i = 0; i + 1 < count; ++i)
      if (rules[i] && rules[i]->rank < best) {
        best = rules[i]->rank;
        where = i;
      }
    if (best == UINT32_MAX) break;
    symbols[where] = rules[where]->id;
    for (size_t i = where + 1; i + 1 < count; ++i) symbols[i] = symbols[i + 1];
    for (size_t i = where + 1; i + 2 < count; ++i) rules[i] = rules[i + 1];
    --count;
    if (where > 0) rules[where - 1] = rule(symbols[where - 1], symbols[where]);
    if (where + 1 < count) rules[where] = rule(symbols[where], symbols[where + 1]);
  }
  symbols.resize(count);
}

void BpeModel::merge_many(std::vector<int32_t>& symbols) const {
  struct Link {
    int32_t left, right;
  };
  struct Candidate {
    uint32_t rank;
    int32_t at, left, right, id;  ///< place, its two symbols when this was queued, and what they make
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
  };
  if (symbols.size() > INT32_MAX) fail("text to tokenize in one word", "below 2 GiB", str(symbols.size()));
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<Link> links(symbols.size());
  for (int32_t i = 0; i < count; ++i) links[i] = {i - 1, i + 1 < count ? i + 1 : -1};
  std::priority_queue<Candidate> queue;
  const auto consider = [&](int32_t at) {
    const int32_t next = links[at].right;
    if (next < 0) return;
    if (const Rule* found = rule(symbols[at], symbols[next])) queue.push({found->rank, at, symbols[at], symbols[next], found->id});
  };
  for (int32_t i = 0; i + 1 < count; ++i) consider(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const int32_t next = links[best.at].right;
    if (symbols[best.at] != best.left || next < 0 || symbols[next] != best.right) continue;
    symbols[best.at] = best.id;
    symbols[next] = -1;  // gone: ids are never negative
    links[best.at].right = links[next].right;
    if (links[next].right >= 0) links[links[next].right].left = best.at;
    links[next].right = -1;
    consider(best.at);
    if (links[best.at].left >= 0) consider(links[best.at].left);
  }
  std::erase(symbols, -1);
}

void BpeModel::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  if (options_.ignore_merges) {
    const auto found = words_.find(std::string(word));
    if (found != words_.end()) {
      out.push_back(found->second);
      return;
    }
  }
  static thread_local std::vector<int32_t> symbols;
  symbols.clear();
  symbols_of(word, symbols);
  if (symbols.size() <= kFewSymbols) merge_few(symbols);
  else merge_many(symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

void BpeModel::encode(std::string_view word, std::vector<int32_t>& out) const {
  WordCache::encode(serial_, word, out, [this](std::string_view text, std::vector<int32_t>& ids) { encode_word(text, ids); });
}

}  // namespace attar
