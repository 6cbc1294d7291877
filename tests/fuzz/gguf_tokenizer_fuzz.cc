// The tokenizer of a GGUF file.
#include "formats/gguf.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer_use.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 256, [&] {
    const GgufFile file(fuzz_file("vocabulary.gguf", fuzz_text(data, size)));
    use_tokenizer(*gguf_tokenizer(read_gguf_vocabulary(file.metadata(), "vocabulary.gguf"), "vocabulary.gguf"),
                  fuzz_text(data, size).substr(size / 2));
  }, int64_t{8} << 20);
}
