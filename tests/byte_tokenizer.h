#pragma once
#include <algorithm>

#include "base/check.h"
#include "tokenizer/tokenizer.h"

namespace attar {

/// One id per byte (byte + 5) plus 0 unk, 1 bos, 2 eos, 3 "<|im_start|>", 4 "<|im_end|>": what ids must be can be said by hand.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(bool add_bos = true, bool with_eos = true) : add_bos_(add_bos), with_eos_(with_eos) {}
  std::vector<int32_t> encode(std::string_view text, bool specials = false) const override {
    std::vector<int32_t> out;
    for (size_t i = 0; i < text.size();) {
      const std::string_view rest = text.substr(i);
      if (specials && rest.starts_with("<|im_start|>")) {
        out.push_back(3);
        i += 12;
      } else if (specials && rest.starts_with("<|im_end|>")) {
        out.push_back(4);
        i += 10;
      } else {
        out.push_back(static_cast<uint8_t>(text[i++]) + 5);
      }
    }
    return out;
  }
  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string out;
    for (const int32_t id : ids) out += id >= 5 ? std::string(1, static_cast<char>(id - 5)) : piece(id);
    return out;
  }
  int64_t size() const override { return 261; }
  std::string piece(int32_t id) const override {
    static const char* kNames[] = {"<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"};
    return id < 5 ? kNames[id] : std::string(1, static_cast<char>(id - 5));
  }
  std::optional<int32_t> id_of(const std::string& piece) const override {
    for (int32_t id = 0; id < size(); ++id)
      if (this->piece(id) == piece) return id;
    return std::nullopt;
  }
  std::optional<int32_t> bos() const override { return 1; }
  std::optional<int32_t> eos() const override { return with_eos_ ? std::optional<int32_t>(2) : std::nullopt; }
  std::optional<int32_t> pad() const override { return std::nullopt; }
  bool add_bos() const override { return add_bos_; }
  std::vector<TokenizerFile> files() const override { return {}; }
  void to_gguf(GgufMetadata&, int64_t, std::vector<std::string>&) const override { fail("ByteTokenizer", "no export"); }
  std::string fingerprint() const override { return add_bos_ ? "bytes with bos" : "bytes"; }
  std::string kind() const override { return "bytes"; }
  std::string chat_template() const override { return ""; }

 private:
  bool add_bos_, with_eos_;
};

}  // namespace attar
