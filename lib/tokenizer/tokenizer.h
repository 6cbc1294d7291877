#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "formats/gguf.h"

namespace attar {

/// A file that belongs to a tokenizer and is copied with a model.
struct TokenizerFile {
  std::string name;     ///< "tokenizer.model"
  std::string content;
};

/// Text <-> ids. Thread-safe once built.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Ids of `text`; no BOS or EOS. Special tokens' text is taken literally unless `specials`.
  virtual std::vector<int32_t> encode(std::string_view text, bool specials = false) const = 0;
  virtual std::string decode(const std::vector<int32_t>& ids) const = 0;
  virtual int64_t size() const = 0;                 ///< number of tokens
  virtual std::string piece(int32_t id) const = 0;  ///< as stored
  virtual std::optional<int32_t> id_of(const std::string& piece) const = 0;
  virtual std::optional<int32_t> bos() const = 0;
  virtual std::optional<int32_t> eos() const = 0;
  virtual std::optional<int32_t> pad() const = 0;
  virtual bool add_bos() const = 0;                 ///< sequences of this model begin with BOS
  virtual bool add_eos() const { return false; }    ///< they end with EOS
  /// Files of the Hugging Face layout (tokenizer.model and/or tokenizer.json, tokenizer_config.json, chat template).
  virtual std::vector<TokenizerFile> files() const = 0;
  /// tokenizer.ggml.* of a GGUF file, `vocab` entries long (padded as llama.cpp's converter does).
  /// `deviations`: why a GGUF reader's ids may differ from ours; empty if they cannot.
  virtual void to_gguf(GgufMetadata& metadata, int64_t vocab, std::vector<std::string>& deviations) const = 0;
  /// SHA-256 over what decides ids; equal tokenizers have equal fingerprints whatever file they came from.
  virtual std::string fingerprint() const = 0;
  virtual std::string kind() const = 0;             ///< "sentencepiece bpe", "byte-level bpe", ... for inspect
  virtual std::string chat_template() const = 0;    ///< Jinja text, "" if none
};

/// From a folder (tokenizer.model before tokenizer.json before vocab.json + merges.txt), one of these files, or a .gguf file.
std::shared_ptr<const Tokenizer> load_tokenizer(const fs::path& path);
bool has_tokenizer(const fs::path& path);

/// Bytes of a SentencePiece model -> tokenizer. `config` is tokenizer_config.json's content or "".
std::shared_ptr<const Tokenizer> sentencepiece_tokenizer(std::string model, std::string config, const std::string& name);

/// Trains a SentencePiece model: byte fallback, identity normalizer, whitespace kept; same input and options give the same bytes.
/// ids: 0 unk, 1 bos, 2 eos. Returns the .model file's bytes. Error if the text cannot give so many tokens.
std::string train_sentencepiece(const std::function<bool(std::string&)>& next_line, int64_t vocab_size, const std::string& model);

/// Splits off an incomplete UTF-8 character at the end of `bytes` (for streaming output of a decoder); returns what is complete.
std::string complete_utf8(std::string& bytes);

}  // namespace attar
