#include "stages/authors.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "base/rng.h"
#include "base/signals.h"
#include "http/client.h"
#include "model/generate.h"
#include "teacher/server_writer.h"

namespace attar {
namespace {

class ModelAuthor : public Author {
 public:
  ModelAuthor(const StageRun& run, const SynthesizeConfig& config)
      : run_(run), config_(config), model_(load_model(*run.input("teacher"), true)), decoder_(model_.spec, model_.weights) {
    if (const fs::path* given = run.input("tokens"))
      fail("tokens", "nothing beside a model here", given->string(), "it has its own tokenizer");
    check(config.max_tokens < model_.spec.context, "max_tokens", str("fewer than the teacher's context of ", model_.spec.context),
          str(config.max_tokens));
    if (run.device != at::kCPU)
      for (auto& [name, tensor] : decoder_.weights()) tensor = tensor.to(run.device);
  }
  const Tokenizer& tokenizer() const override { return *model_.tokenizer; }
  int64_t context() const override { return model_.spec.context; }

  std::vector<AuthorText> write(const std::vector<const Prompt*>& prompts, const DataConfig& data, int64_t first) const override {
    std::vector<size_t> order(prompts.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return prompts[a]->ids.size() < prompts[b]->ids.size(); });
    WriteOptions options;
    options.generate = {config_.max_tokens, config_.temperature, run_.seed_of("texts"), model_.spec.eos};
    for (const int64_t id : ending_ids(tokenizer(), data)) options.generate.stop.push_back(id);
    options.top_p = config_.top_p;
    options.vocab = std::min(model_.spec.vocab, tokenizer().size());
    std::vector<AuthorText> out(prompts.size());
    for (size_t begin = 0; begin < order.size(); begin += static_cast<size_t>(config_.batch)) {
      stop_if_asked();
      const size_t stop = std::min(order.size(), begin + static_cast<size_t>(config_.batch));
      std::vector<std::vector<int32_t>> given;
      std::vector<uint64_t> streams;
      for (size_t i = begin; i < stop; ++i) {
        given.push_back(prompts[order[i]]->ids);
        streams.push_back(stream_of("text") + static_cast<uint64_t>(first) + order[i]);
      }
      std::vector<WrittenText> written = write_texts(decoder_, given, streams, options);
      for (size_t i = begin; i < stop; ++i) out[order[i]] = {std::move(written[i - begin].ids), {}, written[i - begin].finished};
    }
    return out;
  }

 private:
  const StageRun& run_;
  const SynthesizeConfig& config_;
  Checkpoint model_;
  Decoder decoder_;
};

class ServerAuthor : public Author {
 public:
  ServerAuthor(const StageRun& run, const SynthesizeConfig& config)
      : run_(run), config_(config), tokenizer_(tokens_of(run)), writer_(config.teacher, config.server, run.seed_of("server")) {}
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  /// A server says itself when a prompt is too long for it.
  int64_t context() const override { return std::numeric_limits<int32_t>::max(); }
  Json facts() const override { return writer_.facts(); }

  std::vector<AuthorText> write(const std::vector<const Prompt*>& prompts, const DataConfig& data, int64_t first) const override {
    std::vector<AuthorText> out(prompts.size());
    for_each_at_once(static_cast<int64_t>(prompts.size()), config_.server.concurrency, [&](int64_t i) {
      const Prompt& prompt = *prompts[static_cast<size_t>(i)];
      WritingQuestion question;
      question.max_tokens = config_.max_tokens, question.temperature = config_.temperature, question.top_p = config_.top_p;
      question.seed = Rng(run_.seed_of("texts"), stream_of("text") + static_cast<uint64_t>(first + i)).next();
      if (prompt.kind == Prompt::Kind::chat) question.messages = prompt.record.at(data.messages);
      else if (prompt.kind == Prompt::Kind::answer) question.prompt = prompt.record.at(data.prompt).get<std::string>();
      else question.prompt = tokenizer().decode({prompt.ids.begin() + prompt.bos, prompt.ids.end()});
      ServerText text = writer_.write(question, str("text ", first + i));
      out[static_cast<size_t>(i)] = {{}, std::move(text.text), text.finished};
    });
    return out;
  }

 private:
  static std::shared_ptr<const Tokenizer> tokens_of(const StageRun& run) {
    const fs::path* given = run.input("tokens");
    check(given, "tokens", "a tokenizer, to count and cut by", "nothing", "a server has none with it: --tokenizer PATH");
    return load_tokenizer(*given);
  }
  const StageRun& run_;
  const SynthesizeConfig& config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  ServerWriter writer_;
};

}  // namespace

std::unique_ptr<Author> model_author(const StageRun& run, const SynthesizeConfig& config) { return std::make_unique<ModelAuthor>(run, config); }
std::unique_ptr<Author> server_author(const StageRun& run, const SynthesizeConfig& config) { return std::make_unique<ServerAuthor>(run, config); }

}  // namespace attar
