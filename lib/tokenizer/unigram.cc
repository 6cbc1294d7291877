#include "tokenizer/unigram.h"

#include <algorithm>
#include <cfloat>

#include "base/check.h"
#include "tokenizer/spm_bpe.h"

namespace attar {

UnigramModel::UnigramModel(const std::vector<Piece>& pieces, int32_t unk, Sums sums) : unk_(unk), sums_(sums) {
  double lowest = sums == Sums::single ? FLT_MAX : DBL_MAX;
  highest_ = FLT_MIN;  // where SentencePiece begins to look for the highest
  std::vector<std::pair<std::string_view, int32_t>> texts;
  for (size_t id = 0; id < pieces.size(); ++id) {
    const Piece& piece = pieces[id];
    scores_.push_back(piece.score);
    always_.push_back(piece.always);
    any_always_ = any_always_ || piece.always;
    if (piece.usable) texts.emplace_back(piece.text, static_cast<int32_t>(id));
    if (!piece.counted) continue;
    lowest = std::min(lowest, piece.score);
    highest_ = std::max(highest_, piece.score);
  }
  unknown_ = sums == Sums::single ? static_cast<double>(static_cast<float>(lowest) - 10.0f) : lowest - 10.0;
  trie_ = PieceTrie(std::move(texts));
}

template <class Sum>
void UnigramModel::cut_by(std::string_view text, std::vector<Cut>& out) const {
  struct Best {
    Sum sum;
    uint32_t begin;
    int32_t id;
  };
  constexpr uint32_t kNone = UINT32_MAX;
  constexpr size_t kKept = size_t{1} << 20;
  static thread_local std::vector<Best> best;
  best.assign(text.size() + 1, Best{0, kNone, unk_});
  for (size_t at = 0; at < text.size();) {
    const size_t character = std::min(spm_character_bytes(static_cast<uint8_t>(text[at])), text.size() - at);
    const Sum here = best[at].sum;
    const size_t single = at + character;
    bool known = false;
    trie_.walk(text, at, [&](size_t end, int32_t id) {
      double score = scores_[id];
      if (any_always_ && always_[id]) score = static_cast<double>(static_cast<float>(end - at) * static_cast<float>(highest_)) - 0.1;
      const double sum = score + static_cast<double>(here);
      Best& last = best[end];
      if (last.begin == kNone || sum > static_cast<double>(last.sum)) last = {static_cast<Sum>(sum), static_cast<uint32_t>(at), id};
      known = known || end == single;
    });
    if (!known) {
      const auto sum = static_cast<Sum>(static_cast<Sum>(unknown_) + here);
      Best& last = best[single];
      if (last.begin == kNone || sum > last.sum) last = {sum, static_cast<uint32_t>(at), unk_};
    }
    at = single;
  }
  for (size_t end = text.size(); end > 0; end = best[end].begin) out.push_back({best[end].begin, end, best[end].id});
  std::reverse(out.begin(), out.end());
  if (best.capacity() > kKept) std::vector<Best>().swap(best);
}

void UnigramModel::cut(std::string_view text, std::vector<Cut>& out) const {
  if (text.size() > UINT32_MAX / 2) fail("text to tokenize in one piece", "below 2 GiB", human_bytes(static_cast<double>(text.size())));
  out.clear();
  if (sums_ == Sums::single) cut_by<float>(text, out);
  else cut_by<double>(text, out);
}

}  // namespace attar
