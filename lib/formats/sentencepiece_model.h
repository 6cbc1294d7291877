#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace attar {

/// A SentencePiece `.model` file (sentencepiece_model.proto) as far as attar needs it; the rest is kept as raw bytes.
struct SentencePieceModel {
  enum class Type : int32_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece { std::string text; float score = 0; Type type = Type::normal; };
  std::vector<Piece> pieces;
  enum class Algorithm : int32_t { unigram = 1, bpe = 2, word = 3, character = 4 };
  Algorithm algorithm = Algorithm::unigram;
  bool byte_fallback = false;
  int32_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;
  std::string normalizer_name;            ///< "identity", "nmt_nfkc", ...
  bool has_charsmap = false;              ///< a compiled normalization map is there
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  std::string trainer_spec, normalizer_spec;  ///< the messages as they were, for writing back
  std::string rest;                           ///< other fields (denormalizer, self tests), as they were
};

SentencePieceModel parse_sentencepiece(std::string_view bytes, const std::string& name);
/// The file again; the pieces may have changed, the specs are written back as they were (vocab_size updated).
std::string write_sentencepiece(const SentencePieceModel& model);

}  // namespace attar
