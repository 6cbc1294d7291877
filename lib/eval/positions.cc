#include "eval/positions.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/check.h"
#include "data/source.h"

namespace attar {

namespace {
constexpr int64_t kBatchTokens = 2048;  ///< of one forward pass

/// Bytes of the text of ids [begin, end), as they stand after those from `from` on.
int64_t text_bytes(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, int64_t from, int64_t begin, int64_t end) {
  const auto first = ids.begin() + from;
  return static_cast<int64_t>(tokenizer.decode({first, ids.begin() + end}).size()) -
         static_cast<int64_t>(tokenizer.decode({first, ids.begin() + begin}).size());
}

class ChunkPositions : public ScoredPositions {
 public:
  ChunkPositions(std::unique_ptr<IdSource> ids, std::optional<int32_t> bos, int64_t ctx, int64_t limit, const Tokenizer* tokenizer)
      : source_(std::move(ids)), bos_(bos), tokenizer_(tokenizer), ctx_(ctx), limit_(limit > 0 ? limit : INT64_MAX) {
    const int64_t there = fill(2 * ctx);
    if (there < 2 * ctx)
      fail("text to evaluate on", str("at least ", 2 * ctx, " tokens (two chunks of ctx)"), str(there), "give more text or a smaller ctx");
    if (const std::vector<int32_t>* all = source_->whole()) {
      chunks_ = std::min(static_cast<int64_t>(all->size()), limit_) / ctx;
      for (int64_t chunk = 0; tokenizer && chunk < *chunks_; ++chunk) all_bytes_ += chunk_bytes(*all, chunk * ctx);
    }
  }
  int64_t bytes() const override { return chunks_ ? all_bytes_ : bytes_; }

  bool next(ScoredBatch& batch) override {
    const int64_t wanted = std::max<int64_t>(1, kBatchTokens / ctx_), many = std::min(wanted, fill(wanted * ctx_) / ctx_);
    if (many <= 0) return false;
    at::Tensor tokens = at::empty({many, ctx_}, at::kLong);
    std::copy_n(ready_.begin(), many * ctx_, tokens.data_ptr<int64_t>());
    if (tokenizer_ && !chunks_)
      for (int64_t chunk = 0; chunk < many; ++chunk) bytes_ += chunk_bytes(ready_, chunk * ctx_);
    ready_.erase(ready_.begin(), ready_.begin() + many * ctx_);
    const int64_t first = ctx_ / 2;
    const at::Tensor rows = at::arange(many, at::kLong).unsqueeze(1) * ctx_, columns = at::arange(first, ctx_ - 1, at::kLong);
    batch.positions = (rows + columns).reshape(-1);
    batch.targets = tokens.slice(1, first + 1).reshape(-1).contiguous();
    if (bos_) tokens.select(1, 0).fill_(*bos_);
    batch.tokens = TokenBatch{};
    batch.tokens.ids = tokens;
    done_ += many;
    return true;
  }
  void rewind() override {
    source_->rewind();
    ready_.clear();
    done_ = taken_ = bytes_ = 0;
  }
  int64_t count() const override { return chunks_.value_or(done_) * (ctx_ - 1 - ctx_ / 2); }
  std::string protocol() const override {
    return str("llama.cpp: ", chunks_.value_or(done_), " chunks of ", ctx_, " tokens without overlap, second half scored",
               bos_ ? ", first token BOS" : "");
  }

 private:
  int64_t chunk_bytes(const std::vector<int32_t>& ids, int64_t begin) const {
    return text_bytes(*tokenizer_, ids, begin, begin + ctx_ / 2 + 1, begin + ctx_);
  }
  /// Reads on until so many ids are ready, the text ends or the limit is met; returns how many are.
  int64_t fill(int64_t wanted) {
    while (static_cast<int64_t>(ready_.size()) < wanted && taken_ < limit_) {
      const auto before = static_cast<int64_t>(ready_.size());
      if (!source_->more(ready_)) break;
      const int64_t fresh = std::min(static_cast<int64_t>(ready_.size()) - before, limit_ - taken_);
      ready_.resize(static_cast<size_t>(before + fresh));
      taken_ += fresh;
    }
    return static_cast<int64_t>(ready_.size());
  }

  std::unique_ptr<IdSource> source_;
  std::optional<int32_t> bos_;
  const Tokenizer* tokenizer_;
  int64_t ctx_, limit_, done_ = 0, taken_ = 0, bytes_ = 0, all_bytes_ = 0;
  std::optional<int64_t> chunks_;   ///< in all; a streamed text does not know
  std::vector<int32_t> ready_;
};

/// Windows of one length go through together; the first (which scores more) and the last (which may be short) go alone.
class WindowPositions : public ScoredPositions {
 public:
  WindowPositions(std::vector<int32_t> ids, std::optional<int32_t> bos, int64_t ctx, int64_t stride, const Tokenizer* tokenizer)
      : ids_(std::move(ids)), bos_(bos), ctx_(ctx), stride_(stride), bos_tokens_(bos ? 1 : 0), length_(static_cast<int64_t>(ids_.size())) {
    if (tokenizer) bytes_ = text_bytes(*tokenizer, ids_, 0, first_scored(), length_);
    rewind();
  }

  bool next(ScoredBatch& batch) override {
    if (scored_ >= length_) return false;
    const int64_t room = ctx_ - bos_tokens_;
    const int64_t end = std::min(scored_ == first_scored() ? room : scored_ + stride_, length_), begin = std::max<int64_t>(0, end - room);
    int64_t many = 1;
    if (begin > 0 && end - scored_ == stride_)
      many = std::clamp((length_ - scored_) / stride_, int64_t{1}, std::max<int64_t>(1, kBatchTokens / ctx_));
    const int64_t wide = end - begin + bos_tokens_, fresh = end - scored_;
    at::Tensor tokens = at::empty({many, wide}, at::kLong), targets = at::empty({many, fresh}, at::kLong);
    for (int64_t i = 0; i < many; ++i) {
      int64_t* row = tokens.data_ptr<int64_t>() + i * wide;
      if (bos_) *row = *bos_;
      std::copy_n(ids_.begin() + begin + i * stride_, end - begin, row + bos_tokens_);
      std::copy_n(ids_.begin() + scored_ + i * stride_, fresh, targets.data_ptr<int64_t>() + i * fresh);
    }
    const int64_t first = scored_ - begin + bos_tokens_ - 1;
    batch.positions = (at::arange(many, at::kLong).unsqueeze(1) * wide + at::arange(first, first + fresh, at::kLong)).reshape(-1);
    batch.targets = targets.reshape(-1);
    batch.tokens = TokenBatch{};
    batch.tokens.ids = tokens;
    scored_ += many * fresh;
    return true;
  }
  void rewind() override { scored_ = first_scored(); }
  int64_t count() const override { return length_ - first_scored(); }
  int64_t bytes() const override { return bytes_; }
  std::string protocol() const override {
    return str("windows of ", ctx_, " tokens, stride ", stride_, bos_ ? ", each beginning with BOS" : "", ": every token scored once");
  }

 private:
  int64_t first_scored() const { return bos_ ? 0 : 1; }  ///< without BOS nothing stands before the first token
  std::vector<int32_t> ids_;
  std::optional<int32_t> bos_;
  int64_t ctx_, stride_, bos_tokens_, length_, scored_ = 0, bytes_ = 0;
};

class RowPositions : public ScoredPositions {
 public:
  RowPositions(const TokenRows& rows, int64_t batch) : rows_(rows), batch_(batch), count_(rows.learned_tokens()) {}

  bool next(ScoredBatch& batch) override {
    const int64_t end = std::min(done_ + batch_, rows_.rows());
    if (done_ >= end) return false;
    std::vector<int64_t> numbers;
    for (; done_ < end; ++done_) numbers.push_back(done_);
    const Batch made = make_batch(rows_, numbers);
    batch.tokens = TokenBatch{};
    batch.tokens.ids = made.at("ids");
    batch.tokens.segments = made.at("segments");
    const at::Tensor labels = made.at("labels").reshape(-1);
    batch.positions = labels.ge(0).nonzero().squeeze(1);
    batch.targets = labels.index_select(0, batch.positions);
    return true;
  }
  void rewind() override { done_ = 0; }
  int64_t count() const override { return count_; }
  std::string protocol() const override { return str("learned tokens of ", rows_.rows(), " rows, each after its own document's beginning"); }

 private:
  const TokenRows& rows_;
  int64_t batch_, count_, done_ = 0;
};
}  // namespace

std::unique_ptr<ScoredPositions> chunk_positions(std::unique_ptr<IdSource> ids, std::optional<int32_t> bos, int64_t ctx, int64_t limit,
                                                 const Tokenizer* tokenizer) {
  check(ctx >= 4 && ctx <= (int64_t{1} << 20), "ctx", "4 to 1048576", str(ctx));
  return std::make_unique<ChunkPositions>(std::move(ids), bos, ctx, limit, tokenizer);
}

std::unique_ptr<ScoredPositions> chunk_positions(std::vector<int32_t> ids, std::optional<int32_t> bos, int64_t ctx, int64_t limit,
                                                 const Tokenizer* tokenizer) {
  return chunk_positions(given_ids(std::move(ids)), bos, ctx, limit, tokenizer);
}

std::unique_ptr<ScoredPositions> window_positions(std::vector<int32_t> ids, std::optional<int32_t> bos, int64_t ctx, int64_t stride, int64_t limit,
                                                  const Tokenizer* tokenizer) {
  check(ctx >= 4 && ctx <= (int64_t{1} << 20), "ctx", "4 to 1048576", str(ctx));
  check(stride >= 1 && stride < ctx, "stride", str("1 to ", ctx - 1, " (below ctx)"), str(stride));
  if (bos && !ids.empty() && ids.front() == *bos) ids.erase(ids.begin());
  if (limit > 0 && limit < static_cast<int64_t>(ids.size())) ids.resize(static_cast<size_t>(limit));
  check(ids.size() >= 2, "text to evaluate on", "two tokens at least", str(ids.size()), "give more text");
  return std::make_unique<WindowPositions>(std::move(ids), bos, ctx, stride, tokenizer);
}

std::unique_ptr<ScoredPositions> row_positions(const TokenRows& rows, int64_t batch) {
  check(rows.learned_tokens() > 0, "rows to evaluate on", "something to predict", "nothing");
  return std::make_unique<RowPositions>(rows, std::max<int64_t>(batch, 1));
}

std::vector<int32_t> text_ids(const std::string& text, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids = tokenizer.encode(text);
  if (const auto bos = chunk_bos(tokenizer)) ids.insert(ids.begin(), *bos);
  return ids;
}

std::optional<int32_t> chunk_bos(const Tokenizer& tokenizer) { return tokenizer.add_bos() ? tokenizer.bos() : std::nullopt; }

at::Tensor scored_hidden(const Decoder& model, const ScoredBatch& batch) {
  const at::Device device = model.weights().begin()->second.device();
  TokenBatch tokens = batch.tokens;
  tokens.ids = tokens.ids.to(device);
  const at::Tensor hidden = model.hidden(tokens);
  return hidden.reshape({-1, hidden.size(-1)}).index_select(0, batch.positions.to(device));
}

int64_t slice_rows(int64_t vocab) { return std::clamp<int64_t>((int64_t{1} << 21) / std::max<int64_t>(vocab, 1), 1, 4096); }

}  // namespace attar
