// tokenizer.model: SentencePiece's own file, used through SentencePiece's library.
#include "formats/sentencepiece_model.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer_use.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 256, [&] {
    const std::string bytes(fuzz_text(data, size));
    const SentencePieceModel model = parse_sentencepiece(bytes, "tokenizer.model");
    const SentencePieceModel again = parse_sentencepiece(write_sentencepiece(model), "tokenizer.model");
    expect(again.pieces.size() == model.pieces.size(), "another number of pieces after writing");
    use_tokenizer(*sentencepiece_tokenizer(bytes, TokenizerSurroundings{}, "tokenizer.model"), fuzz_text(data, size).substr(size / 2));
  }, int64_t{8} << 20);
}
