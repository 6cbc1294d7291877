#pragma once
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// Everything a model's reader does with a tokenizer. `text`: a piece of the input, so that its own tokens are met.
inline void use_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  const int64_t size = tokenizer.size();
  const std::string own(text.substr(0, 200));
  for (const std::string& words :
       {std::string(" Hello, wor1d!  \n\t don't"), std::string("caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb"),
        std::string("\xff\xc3 \xed\xa0\x80\0z", 8), std::string("<s>a</s><|endoftext|>"), own}) {
    for (const bool specials : {false, true}) {
      const std::vector<int32_t> ids = tokenizer.encode(words, specials);
      for (const int32_t id : ids) expect(id >= 0 && id < size, "an id outside the vocabulary");
      (void)tokenizer.decode(ids);
    }
  }
  for (int64_t id = 0; id < std::min<int64_t>(size, 300); ++id) {
    (void)tokenizer.id_of(tokenizer.piece(static_cast<int32_t>(id)));
    (void)tokenizer.decode({static_cast<int32_t>(id)});
  }
  for (const auto& id : {tokenizer.bos(), tokenizer.eos(), tokenizer.pad()})
    if (id) expect(*id >= 0 && *id < size, "a special id outside the vocabulary");
  (void)tokenizer.add_bos();
  (void)tokenizer.files();
  (void)tokenizer.fingerprint();
  (void)tokenizer.chat_template();
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  tokenizer.to_gguf(metadata, size + 3, deviations);
}

}  // namespace attar
