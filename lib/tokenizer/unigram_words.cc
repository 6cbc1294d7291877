#include "tokenizer/unigram_words.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "tokenizer/spm_bpe.h"
#include "tokenizer/word_cache.h"

namespace attar {

UnigramWords::UnigramWords(const std::vector<std::string>& vocabulary, const UnigramPart& part, const std::string& name)
    : unk_(part.unk), serial_(WordCache::new_serial()) {
  std::vector<UnigramModel::Piece> pieces;
  for (size_t id = 0; id < part.scores.size(); ++id) {
    if (!std::isfinite(part.scores[id])) fail(str(name, ": score of token ", id), "a number", str(part.scores[id]));
    // Of two equal texts the later one holds.
    const auto [place, fresh] = ids_.emplace(vocabulary[id], static_cast<int32_t>(id));
    if (!fresh) {
      pieces[place->second].usable = false;
      place->second = static_cast<int32_t>(id);
    }
    pieces.push_back({.text = vocabulary[id], .score = part.scores[id], .usable = !vocabulary[id].empty()});
  }
  model_ = UnigramModel(pieces, unk_, UnigramModel::Sums::twice);
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(byte_piece(static_cast<uint8_t>(byte)));
    bytes_[byte] = found == ids_.end() ? -1 : found->second;
  }
  byte_fallback_ = part.byte_fallback;
}

void UnigramWords::encode(std::string_view word, std::vector<int32_t>& out) const {
  WordCache::encode(serial_, word, out, [this](std::string_view text, std::vector<int32_t>& ids) { encode_word(text, ids); });
}

void UnigramWords::put_unknown(std::string_view run, std::vector<int32_t>& out) const {
  const auto found = ids_.find(std::string(run));
  if (found != ids_.end()) return out.push_back(found->second);
  const bool spelled = byte_fallback_ && std::all_of(run.begin(), run.end(), [this](char byte) { return bytes_[static_cast<uint8_t>(byte)] >= 0; });
  if (!spelled) return out.push_back(unk_);
  for (const char byte : run) out.push_back(bytes_[static_cast<uint8_t>(byte)]);
}

void UnigramWords::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  static thread_local std::vector<UnigramModel::Cut> cuts;
  model_.cut(word, cuts);
  for (size_t i = 0; i < cuts.size(); ++i) {
    if (cuts[i].id != unk_) {
      out.push_back(cuts[i].id);
      continue;
    }
    const size_t begin = cuts[i].begin;
    while (i + 1 < cuts.size() && cuts[i + 1].id == unk_) ++i;
    put_unknown(word.substr(begin, cuts[i].end - begin), out);
  }
}

}  // namespace attar
