// attar logits: float32 logits of given ids, for comparison with other software.
#include <ATen/ATen.h>

#include "engine_tools.h"
#include "base/check.h"
#include "formats/npy.h"
#include "stages/stage.h"

namespace attar {
namespace {

std::vector<std::vector<int64_t>> read_sequences(const fs::path& file, int64_t vocab) {
  const Json json = read_json(file);
  check(json.is_array(), file.string(), "a JSON array of arrays of token ids", json.type_name());
  std::vector<std::vector<int64_t>> out;
  for (size_t i = 0; i < json.size(); ++i) {
    check(json[i].is_array() && !json[i].empty(), str(file.string(), ": sequence ", i), "a non-empty array of ids", to_line(json[i]).substr(0, 60));
    std::vector<int64_t> ids;
    for (const Json& id : json[i]) {
      check(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab, str(file.string(), ": an id of sequence ", i),
            str("0 to ", vocab - 1), to_line(id));
      ids.push_back(id.get<int64_t>());
    }
    out.push_back(std::move(ids));
  }
  return out;
}

}  // namespace

int tool_logits(const Words& words) {
  at::NoGradGuard no_grad;
  LoadOptions options;
  options.tokenizer = false;
  Checkpoint model = load_checkpoint(model_path(words.get("model")), options);
  const Decoder decoder(model.spec, std::move(model.weights));
  const int64_t vocab = decoder.spec().vocab;
  const auto sequences = read_sequences(words.get("ids"), vocab);
  int64_t rows = 0;
  for (const auto& ids : sequences) rows += static_cast<int64_t>(ids.size());
  NpyWriter out(words.get("out"), rows, vocab);
  for (const auto& ids : sequences) {
    const int64_t length = static_cast<int64_t>(ids.size()), part = words.has("stepwise") ? 1 : length;
    KvCache cache;
    for (int64_t begin = 0; begin < length; begin += part) {
      const at::Tensor tokens = at::tensor(std::vector<int64_t>(ids.begin() + begin, ids.begin() + begin + part)).unsqueeze(0);
      const at::Tensor hidden = decoder.hidden({tokens, {}, {}, {}}, part == length ? nullptr : &cache)[0];
      // In slices of rows: a long sequence times a large vocabulary need not fit in memory.
      for (int64_t row = 0; row < hidden.size(0); row += 256) {
        const at::Tensor logits = decoder.logits(hidden.slice(0, row, std::min(row + 256, hidden.size(0)))).to(at::kFloat).contiguous();
        out.write(logits.const_data_ptr<float>(), logits.numel());
      }
    }
  }
  out.commit();
  return 0;
}

}  // namespace attar
