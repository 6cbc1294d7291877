#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "tokenizer/piece_trie.h"

namespace attar {

/// Unigram segmentation: of all ways to cut a text into pieces the one of the highest sum of scores, found in one pass over the text's places.
/// Equal sums: the last piece that begins first. A character that is no piece scores the lowest piece's score less 10.
/// Source: Kudo, arXiv 1804.10959; which of two nearly equal sums wins depends on rounding, so both originals' number types are here.
class UnigramModel {
 public:
  enum class Sums {
    single,  ///< as SentencePiece: kept in float, compared in double
    twice    ///< as Hugging Face tokenizers: double
  };
  struct Piece {
    std::string_view text;
    double score = 0;
    bool usable = true;        ///< can be met in a text
    bool always = false;       ///< taken wherever it stands: SentencePiece's user-defined pieces
    bool counted = true;       ///< its score counts among the lowest and highest
  };
  struct Cut {
    size_t begin, end;
    int32_t id;  ///< `unk` for a character that is no piece
  };
  UnigramModel() = default;
  /// Keeps no view into `pieces`.
  UnigramModel(const std::vector<Piece>& pieces, int32_t unk, Sums sums);
  /// Pieces of `text` in order, replacing `out`. Linear in the text's length.
  void cut(std::string_view text, std::vector<Cut>& out) const;

 private:
  template <class Sum>
  void cut_by(std::string_view text, std::vector<Cut>& out) const;
  PieceTrie trie_;
  std::vector<double> scores_;
  std::vector<bool> always_;
  bool any_always_ = false;
  double highest_ = 0, unknown_ = 0;
  int32_t unk_ = -1;
  Sums sums_ = Sums::single;
};

}  // namespace attar
