#include "eval/memorization.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "base/signals.h"
#include "model/generate.h"

namespace attar {
namespace {

/// Numbers of the texts that are long enough, spread evenly and `most` at most; `skipped` counts the others.
std::vector<int64_t> tried_texts(const std::vector<std::vector<int32_t>>& texts, const MemorizationOptions& options, const char* kind,
                                 int64_t& skipped) {
  std::vector<int64_t> able;
  for (size_t i = 0; i < texts.size(); ++i)
    if (static_cast<int64_t>(texts[i].size()) >= options.prefix + options.length) able.push_back(static_cast<int64_t>(i));
  skipped = static_cast<int64_t>(texts.size() - able.size());
  check(!able.empty(), str("memorization: ", kind, " texts"), str("one of ", options.prefix + options.length, " tokens (prefix + length) at least"),
        str(texts.size(), " shorter ones"), "make prefix or length smaller");
  const auto there = static_cast<int64_t>(able.size()), most = std::min(options.rows, there);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < most; ++i) out.push_back(able[static_cast<size_t>(i * there / most)]);
  return out;
}

/// Numbers of the texts whose next tokens come back.
std::vector<int64_t> reproduced_texts(const Decoder& model, const std::vector<std::vector<int32_t>>& texts, const std::vector<int64_t>& tried,
                                      const MemorizationOptions& options, Progress& progress, int64_t& done) {
  std::vector<int64_t> out;
  WriteOptions write;
  write.generate.max_tokens = options.length;
  for (size_t begin = 0; begin < tried.size(); begin += static_cast<size_t>(options.batch)) {
    stop_if_asked();
    const size_t end = std::min(tried.size(), begin + static_cast<size_t>(options.batch));
    std::vector<std::vector<int32_t>> prompts;
    for (size_t i = begin; i < end; ++i) {
      const auto& text = texts[static_cast<size_t>(tried[i])];
      prompts.emplace_back(text.begin(), text.begin() + options.prefix);
    }
    const auto written = write_texts(model, prompts, std::vector<uint64_t>(prompts.size(), 0), write);
    for (size_t i = begin; i < end; ++i) {
      const auto& text = texts[static_cast<size_t>(tried[i])];
      const auto& ids = written[i - begin].ids;
      if (static_cast<int64_t>(ids.size()) == options.length && std::equal(ids.begin(), ids.end(), text.begin() + options.prefix))
        out.push_back(tried[i]);
    }
    progress.update(done += static_cast<int64_t>(end - begin));
  }
  return out;
}

}  // namespace

Json MemorizationResult::to_json() const {
  return Json{{"trained", trained.to_json()}, {"held_out", held_out.to_json()}, {"prefix", options.prefix}, {"length", options.length},
              {"short_trained", short_trained}, {"short_held_out", short_held_out}, {"reproduced", reproduced}};
}

MemorizationResult memorization(const Decoder& model, const std::vector<std::vector<int32_t>>& trained,
                                const std::vector<std::vector<int32_t>>& held_out, const MemorizationOptions& options) {
  check(options.prefix >= 1 && options.length >= 1 && options.rows >= 1 && options.batch >= 1, "memorization: prefix, length and rows", "1 or more",
        str(options.prefix, ", ", options.length, ", ", options.rows));
  check(options.prefix + options.length <= model.spec().context, "memorization: prefix + length",
        str("the model's context of ", model.spec().context, " at most"), str(options.prefix + options.length));
  MemorizationResult result;
  result.options = options;
  const auto from_trained = tried_texts(trained, options, "training", result.short_trained);
  const auto from_held = tried_texts(held_out, options, "held-out", result.short_held_out);
  Progress progress("memorization", static_cast<int64_t>(from_trained.size() + from_held.size()), "texts");
  int64_t done = 0;
  result.reproduced = reproduced_texts(model, trained, from_trained, options, progress, done);
  const auto apart = reproduced_texts(model, held_out, from_held, options, progress, done);
  progress.finish();
  result.trained = proportion(static_cast<int64_t>(result.reproduced.size()), static_cast<int64_t>(from_trained.size()));
  result.held_out = proportion(static_cast<int64_t>(apart.size()), static_cast<int64_t>(from_held.size()));
  return result;
}

}  // namespace attar
