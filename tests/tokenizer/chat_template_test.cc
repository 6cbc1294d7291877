#include "tokenizer/chat_template.h"

#include "base/check.h"
#include "byte_tokenizer.h"
#include "data_path.h"
#include "tokenizer/gguf_vocab.h"

namespace attar {
namespace {

constexpr const char* kChatMl = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
constexpr const char* kMistral = "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% elif m.role == 'assistant' %}{{ ' ' + m.content|trim + eos_token }}{% else %}{{ raise_exception('two roles only') }}{% endif %}{% endfor %}";

class TemplatedTokenizer : public ByteTokenizer {
 public:
  explicit TemplatedTokenizer(std::string text) : text_(std::move(text)) {}
  std::string chat_template() const override { return text_; }

 private:
  std::string text_;
};

/// Its BOS is a token that text can name.
class StartingTokenizer : public TemplatedTokenizer {
 public:
  using TemplatedTokenizer::TemplatedTokenizer;
  std::optional<int32_t> bos() const override { return 3; }
};

Json talk(const std::vector<std::pair<std::string, std::string>>& turns) {
  Json out = Json::array();
  for (const auto& [role, content] : turns) out.push_back({{"role", role}, {"content", content}});
  return out;
}

std::string marked(const std::vector<ChatPiece>& pieces) {
  std::string out;
  for (const ChatPiece& piece : pieces)
    out += (piece.apart ? "|" : "") + std::string(piece.learn ? "[" : "(") + piece.text + (piece.learn ? "]" : ")");
  return out;
}

std::string chat_error(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Chat, TheAssistantsTurnsAndTheirEndsAreLearned) {
  const TemplatedTokenizer chatml(kChatMl), mistral(kMistral);
  const Json turns = talk({{"user", "hi"}, {"assistant", "hello"}, {"user", "bye"}, {"assistant", " so long\n"}});
  EXPECT_EQ(marked(Chat(chatml).pieces(turns)),
            "(<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n)[hello<|im_end|>](\n<|im_start|>user\nbye<|im_end|>\n<|im_start|>assistant\n)"
            "[ so long\n<|im_end|>](\n)");
  EXPECT_EQ(marked(Chat(mistral).pieces(turns)), "(<s>[INST] hi [/INST])[ hello</s>]([INST] bye [/INST])[ so long</s>]");
  EXPECT_EQ(marked(Chat(mistral).pieces(turns, true)), "[<s>[INST] hi [/INST] hello</s>[INST] bye [/INST] so long</s>]");
  const std::string plain =
      "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}";
  EXPECT_EQ(marked(Chat(TemplatedTokenizer(plain)).pieces(talk({{"user", "hi"}, {"assistant", "yes"}}))), "(user: hi\nassistant: )[yes\n]");
}

TEST(Chat, TurnsThatLaterOnesChangeAreRefused) {
  const std::string last_only =
      "{% for m in messages %}{{ '<' + m.role + '>' }}{{ '(thought)' if loop.last and m.role == 'assistant' }}{{ m.content }}{% endfor %}"
      "{% if add_generation_prompt %}<assistant>{% endif %}";
  const TemplatedTokenizer tokenizer(last_only);
  const Chat chat(tokenizer);
  EXPECT_EQ(marked(chat.pieces(talk({{"user", "a"}, {"assistant", "b"}}))), "(<user>a<assistant>)[(thought)b]");
  const std::string error = chat_error([&] { chat.pieces(talk({{"user", "a"}, {"assistant", "b"}, {"user", "c"}, {"assistant", "d"}})); });
  EXPECT_NE(error.find("message 2"), std::string::npos) << error;
  EXPECT_NE(error.find("data.chat"), std::string::npos) << error;
  const TemplatedTokenizer mistral(kMistral);
  EXPECT_NE(chat_error([&] {
              Chat(mistral).pieces(talk({{"system", "s"}, {"user", "a"}, {"assistant", "b"}}));
            }).find("two roles only"),
            std::string::npos);
}

TEST(Chat, MessagesAreNeverSpecialTokens) {
  const TemplatedTokenizer tokenizer(kChatMl);
  const Chat chat(tokenizer);
  const Json turns = talk({{"user", "<|im_end|>x<|im_start|>"}, {"assistant", "<|im_end|>"}});
  const std::vector<int32_t> ids = chat.ids(turns, true);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 3), 3);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 4), 2);
  EXPECT_EQ(chat.render(turns, false), "<|im_start|>user\n<|im_end|>x<|im_start|><|im_end|>\n<|im_start|>assistant\n<|im_end|><|im_end|>\n");
  EXPECT_EQ(marked(chat.pieces(turns)),
            "(<|im_start|>user\n<)|(|im_end|>x<)|(|im_start|><|im_end|>\n<|im_start|>assistant\n)[<]|[|im_end|><|im_end|>](\n)");
}

TEST(Chat, BosStandsOnce) {
  const TemplatedTokenizer writes_none(kChatMl);
  const StartingTokenizer writes("{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}");
  const std::vector<int32_t> added = Chat(writes_none).ids(talk({{"user", "a"}}), true), own = Chat(writes).ids(talk({{"user", "a"}}), true);
  EXPECT_EQ(added[0], 1);
  EXPECT_EQ(added[1], 3);
  EXPECT_EQ(std::count(added.begin(), added.end(), 1), 1);
  EXPECT_EQ(own, (std::vector<int32_t>{3, 'a' + 5}));
}

TEST(Chat, ATokenizerWithoutATemplateSaysSo) {
  EXPECT_NE(chat_error([] { Chat{ByteTokenizer()}; }).find("chat template"), std::string::npos);
}

Json small_tokenizer(const Json& normalizer, const std::string& pattern) {
  Json vocab = Json::object();
  for (const auto& [piece, id] : std::vector<std::pair<std::string, int>>{{"a", 0}, {"b", 1}, {"ab", 2}}) vocab[piece] = id;
  const Json split = {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  return {{"version", "1.0"},
          {"added_tokens", Json::array({{{"id", 3}, {"content", "<|im_end|>"}, {"special", true}}})},
          {"normalizer", normalizer},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array({split, bytes})}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array({"a b"})}}}};
}

constexpr const char* kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

/// Files of the tokenizer as read from a folder of these.
std::shared_ptr<const Tokenizer> with_files(const std::vector<TokenizerFile>& files) {
  TestFolder folder;
  for (const TokenizerFile& file : files) {
    make_folder((folder / file.name).parent_path());
    write_file(folder / file.name, file.content);
  }
  return load_tokenizer(folder.path());
}

const std::string* content_of(const std::vector<TokenizerFile>& files, const std::string& name) {
  for (const TokenizerFile& file : files)
    if (file.name == name) return &file.content;
  return nullptr;
}

constexpr const char* kOddTemplate = "{# odd \xC3\xA9 #}{%- macro x() %}\r\n\t{{ 'kept' }}  {% endmacro %}\n\n";

TEST(ChatTemplates, KeptVerbatimWhereverTheyStood) {
  const TokenizerFile tokenizer{"tokenizer.json", small_tokenizer(nullptr, kQwenPattern).dump()};
  const Json config = {{"tokenizer_class", "Qwen2Tokenizer"}, {"chat_template", kOddTemplate}, {"eos_token", "<|im_end|>"}};
  const auto inside = with_files({tokenizer, {"tokenizer_config.json", config.dump()}});
  EXPECT_EQ(inside->chat_template(), kOddTemplate);
  EXPECT_EQ(*content_of(inside->files(), "tokenizer_config.json"), config.dump());
  const auto beside = with_files({tokenizer, {"tokenizer_config.json", config.dump()}, {"chat_template.jinja", "beside\r\n"},
                                  {"additional_chat_templates/rag.jinja", "rag {{ x }}"}});
  EXPECT_EQ(beside->chat_template(), "beside\r\n") << "the file wins over the configuration";
  EXPECT_EQ(*content_of(beside->files(), "chat_template.jinja"), "beside\r\n");
  EXPECT_EQ(*content_of(beside->files(), "additional_chat_templates/rag.jinja"), "rag {{ x }}");
  for (const auto& from : {inside, beside}) {
    GgufMetadata metadata;
    std::vector<std::string> deviations;
    from->to_gguf(metadata, 4, deviations);
    EXPECT_EQ(metadata.text("tokenizer.chat_template"), from->chat_template());
    const auto reader = gguf_tokenizer(read_gguf_vocabulary(metadata, "m"), "m");
    EXPECT_EQ(reader->chat_template(), from->chat_template());
    EXPECT_EQ(with_files(reader->files())->chat_template(), from->chat_template());
  }
}

TEST(ChatTemplates, NamedOnesGoAlong) {
  const Json named = Json::array({{{"name", "tool_use"}, {"template", "tools {{ a }}"}}, {{"name", "default"}, {"template", "main"}},
                                  {{"name", "rag-2"}, {"template", "rag\n"}}});
  const Json config = {{"chat_template", named}};
  const auto tokenizer = with_files({{"tokenizer.json", small_tokenizer(nullptr, kQwenPattern).dump()}, {"tokenizer_config.json", config.dump()}});
  EXPECT_EQ(tokenizer->chat_template(), "main");
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  tokenizer->to_gguf(metadata, 4, deviations);
  EXPECT_EQ(metadata.text("tokenizer.chat_template"), "main");
  EXPECT_EQ(metadata.text("tokenizer.chat_template.tool_use"), "tools {{ a }}");
  EXPECT_EQ(metadata.text("tokenizer.chat_template.rag_2"), "rag\n");
  EXPECT_EQ(std::get<std::vector<std::string>>(*metadata.find("tokenizer.chat_templates")), (std::vector<std::string>{"tool_use", "rag_2"}));
  const auto again = with_files(gguf_tokenizer(read_gguf_vocabulary(metadata, "m"), "m")->files());
  EXPECT_EQ(again->chat_template(), "main");
  GgufMetadata second;
  again->to_gguf(second, 4, deviations);
  EXPECT_EQ(second.text("tokenizer.chat_template.rag_2"), "rag\n");
  EXPECT_NE(chat_error([] { chat_templates_of(Json{{"chat_template", 3}}, "c"); }).find("chat_template"), std::string::npos);
  EXPECT_NE(chat_error([] { chat_templates_of(Json{{"chat_template", Json::array({1})}}, "c"); }).find("template"), std::string::npos);
}

TEST(GgufVocabulary, NfcAloneIsSaidAndOtherNormalizersAreDeviations) {
  GgufMetadata metadata;
  std::vector<std::string> nfc, lower;
  with_files({{"tokenizer.json", small_tokenizer({{"type", "NFC"}}, kQwenPattern).dump()}})->to_gguf(metadata, 4, nfc);
  EXPECT_EQ(nfc, std::vector<std::string>{kUncomposedDeviation});
  EXPECT_EQ(metadata.text("tokenizer.ggml.pre"), "qwen2");
  const Json both = {{"type", "Sequence"}, {"normalizers", Json::array({{{"type", "NFC"}}, {{"type", "Lowercase"}}})}};
  with_files({{"tokenizer.json", small_tokenizer(both, kQwenPattern).dump()}})->to_gguf(metadata, 4, lower);
  ASSERT_EQ(lower.size(), 1u);
  EXPECT_NE(lower[0], kUncomposedDeviation);
}

TEST(GgufVocabulary, UnknownSplitsAreRefusedWithTheirPattern) {
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  const auto tokenizer = with_files({{"tokenizer.json", small_tokenizer(nullptr, "[a-z]+ZZ").dump()}});
  const std::string error = chat_error([&] { tokenizer->to_gguf(metadata, 4, deviations); });
  EXPECT_NE(error.find("[a-z]+ZZ"), std::string::npos) << error;
  EXPECT_NE(error.find("pre-tokenizer"), std::string::npos) << error;
}

TEST(GgufVocabulary, LongerEmbeddingsArePaddedShorterOnesRefused) {
  GgufMetadata metadata;
  std::vector<std::string> deviations;
  const auto tokenizer = with_files({{"tokenizer.json", small_tokenizer(nullptr, kQwenPattern).dump()}});
  tokenizer->to_gguf(metadata, 6, deviations);
  EXPECT_EQ(std::get<std::vector<std::string>>(*metadata.find("tokenizer.ggml.tokens")),
            (std::vector<std::string>{"a", "b", "ab", "<|im_end|>", "[PAD4]", "[PAD5]"}));
  EXPECT_EQ(std::get<std::vector<int32_t>>(*metadata.find("tokenizer.ggml.token_type")),
            (std::vector<int32_t>{GgufVocabulary::kNormal, GgufVocabulary::kNormal, GgufVocabulary::kNormal, GgufVocabulary::kControl,
                                  GgufVocabulary::kUnused, GgufVocabulary::kUnused}));
  const std::string error = chat_error([&] { tokenizer->to_gguf(metadata, 3, deviations); });
  EXPECT_NE(error.find("3 embedding rows"), std::string::npos) << error;
  EXPECT_NE(error.find("4 tokens"), std::string::npos) << error;
}

}  // namespace
}  // namespace attar
