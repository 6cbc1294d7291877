// tokenizer.json of the Hugging Face layout.
#include "tokenizer/tokenizer_json.h"
#include "tokenizer_use.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 256, [&] {
    use_tokenizer(*json_tokenizer(std::string(fuzz_text(data, size)), {}, "tokenizer.json"), fuzz_text(data, size).substr(size / 2));
  }, int64_t{8} << 20);
}
