#include "data/rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <exception>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/signals.h"
#include "data/packed.h"
#include "data/task.h"

namespace attar {

namespace {
constexpr size_t kOpenRows = 64;              ///< rows that a short example may still go into
constexpr size_t kReadAhead = size_t{8} << 20;  ///< bytes of text tokenized in parallel at a time

/// Rows being filled, as flat (R, T) tables.
class RowBuilder {
 public:
  RowBuilder(int64_t seq, bool pack) : seq_(seq), pack_(pack) {}

  void add(const RenderedDocument& document, bool whole) {
    const int64_t length = static_cast<int64_t>(document.ids.size());
    if (!pack_ || whole) {
      const size_t row = pack_ ? row_with(length) : new_row();
      put(row, document, 0, std::min(length, seq_));
      if (length > seq_) ++cut_;
      return;
    }
    for (int64_t begin = 0; begin < length;) {
      if (rows() == 0 || used_.back() == seq_) new_row();
      const int64_t count = std::min(length - begin, seq_ - used_.back());
      put(rows() - 1, document, begin, count);
      begin += count;
    }
  }

  TokenRows finish() const {
    TokenRows out;
    const int64_t count = static_cast<int64_t>(rows());
    out.ids = at::empty({count, seq_}, at::kInt);
    out.learn = at::empty({count, seq_}, at::kByte);
    out.segments = at::empty({count, seq_}, at::kInt);
    out.lengths = at::empty({count}, at::kInt);
    if (count == 0) return out;
    std::memcpy(out.ids.data_ptr(), ids_.data(), ids_.size() * sizeof(int32_t));
    std::memcpy(out.learn.data_ptr(), learn_.data(), learn_.size());
    std::memcpy(out.segments.data_ptr(), segments_.data(), segments_.size() * sizeof(int32_t));
    for (int64_t r = 0; r < count; ++r) out.lengths.data_ptr<int32_t>()[r] = static_cast<int32_t>(used_[static_cast<size_t>(r)]);
    return out;
  }
  int64_t cut() const { return cut_; }

 private:
  size_t rows() const { return used_.size(); }

  size_t new_row() {
    used_.push_back(0);
    documents_.push_back(0);
    const size_t size = used_.size() * static_cast<size_t>(seq_);
    ids_.resize(size, 0);
    learn_.resize(size, 0);
    segments_.resize(size, -1);
    return used_.size() - 1;
  }

  size_t row_with(int64_t length) {
    for (size_t row = rows() > kOpenRows ? rows() - kOpenRows : 0; row < rows(); ++row)
      if (seq_ - used_[row] >= length) return row;
    return new_row();
  }

  void put(size_t row, const RenderedDocument& document, int64_t begin, int64_t count) {
    const size_t at = row * static_cast<size_t>(seq_) + static_cast<size_t>(used_[row]);
    std::copy_n(document.ids.begin() + begin, count, ids_.begin() + static_cast<int64_t>(at));
    std::copy_n(document.learn.begin() + begin, count, learn_.begin() + static_cast<int64_t>(at));
    std::fill_n(segments_.begin() + static_cast<int64_t>(at), count, documents_[row]++);
    used_[row] += count;
  }

  int64_t seq_, cut_ = 0;
  bool pack_;
  std::vector<int32_t> ids_, segments_, documents_;
  std::vector<uint8_t> learn_;
  std::vector<int64_t> used_;
};

/// Renders in parallel; the first failure in document order is thrown.
std::vector<RenderedDocument> render_all(const std::vector<Document>& documents, const Tokenizer& tokenizer) {
  std::vector<RenderedDocument> out(documents.size());
  std::vector<std::exception_ptr> failures(documents.size());
#pragma omp parallel for schedule(dynamic, 8)
  for (size_t i = 0; i < documents.size(); ++i) {
    try {
      out[i] = render_document(documents[i], tokenizer);
    } catch (...) {
      failures[i] = std::current_exception();
    }
  }
  for (const auto& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return out;
}

void hash_tensor(Sha256& hash, const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  hash.add(flat.data_ptr(), flat.nbytes());
}

}  // namespace

std::string rows_fingerprint(const TokenRows& rows) {
  Sha256 hash;
  hash.add(str("attar rows 1 ", rows.rows(), " ", rows.seq(), "\n"));
  hash_tensor(hash, rows.ids);
  hash_tensor(hash, rows.learn);
  hash_tensor(hash, rows.segments);
  return hash.hex();
}

int64_t TokenRows::learned_tokens() const {
  if (rows() == 0 || seq() < 2) return 0;
  const at::Tensor inside = segments.slice(1, 1).eq(segments.slice(1, 0, seq() - 1)).logical_and(segments.slice(1, 1).ge(0));
  return learn.slice(1, 1).to(at::kBool).logical_and(inside).sum().item<int64_t>();
}

TokenRows make_rows(DocumentReader& documents, const Tokenizer& tokenizer, const DataConfig& config) {
  check(config.seq >= 2 && config.seq <= (int64_t{1} << 24), "data.seq", "2 to 16777216", str(config.seq));
  RowBuilder builder(config.seq, config.pack);
  int64_t given = 0, unfit = 0, shortened = 0;
  for (bool more = true; more;) {
    std::vector<Document> batch;
    for (size_t bytes = 0; bytes < kReadAhead;) {
      Document document;
      more = documents.next(document);
      if (!more) break;
      for (const auto& piece : document.pieces) bytes += piece.text.size();
      batch.push_back(std::move(document));
    }
    std::vector<RenderedDocument> rendered = render_all(batch, tokenizer);
    for (size_t i = 0; i < batch.size(); ++i, ++given) {
      if (batch[i].whole && static_cast<int64_t>(rendered[i].ids.size()) > config.seq) {
        if (!shorten_prompt(rendered[i], config.seq)) {
          ++unfit;
          continue;
        }
        ++shortened;
      }
      builder.add(rendered[i], batch[i].whole);
    }
    stop_if_asked();
  }
  const std::string name = documents.files().front().string() + (documents.files().size() > 1 ? " and others" : "");
  if (given == 0) fail(name, "documents or rows", "none: the data is empty");
  if (unfit > 0) fail(name, "answers that fit into data.seq", str(unfit, " of ", given, " longer than ", config.seq, " tokens"), "raise data.seq");
  if (shortened > 0) log_warn(str(name, ": ", shortened, " of ", given, " prompts shortened at their start to fit data.seq ", config.seq));
  if (builder.cut() > 0)
    log_warn(str(name, ": ", builder.cut(), " of ", given, " texts cut to data.seq ", config.seq, " (data.pack keeps them whole)"));
  TokenRows out = builder.finish();
  if (out.learned_tokens() == 0) fail(name, "something to learn", "no token that is to be predicted");
  Sha256 data;
  for (const auto& file : documents.files()) data.add(sha256_file(file));
  out.data_hash = data.hex();
  out.fingerprint = rows_fingerprint(out);
  return out;
}

TokenRows join_rows(const std::vector<TokenRows>& parts, const std::vector<std::string>& names) {
  assert(!parts.empty() && parts.size() == names.size());
  for (size_t i = 1; i < parts.size(); ++i)
    check(parts[i].seq() == parts[0].seq(), "rows of " + names[i], str("as long as those of ", names[0], ", ", parts[0].seq()), str(parts[i].seq()),
          "pack them with one --seq, that of data.seq");
  TokenRows out;
  Sha256 data;
  const auto joined = [&parts](at::Tensor TokenRows::*table) {
    std::vector<at::Tensor> tables;
    for (const TokenRows& part : parts) tables.push_back(part.*table);
    return at::cat(tables);
  };
  out.ids = joined(&TokenRows::ids);
  out.learn = joined(&TokenRows::learn);
  out.segments = joined(&TokenRows::segments);
  out.lengths = joined(&TokenRows::lengths);
  for (size_t i = 0; i < parts.size(); ++i) {
    data.add(parts[i].data_hash);
    out.parts.push_back({names[i], parts[i].rows()});
  }
  out.data_hash = data.hex();
  out.fingerprint = rows_fingerprint(out);
  return out;
}

std::pair<TokenRows, TokenRows> split_rows(const TokenRows& rows, double held_share, uint64_t seed) {
  const int64_t count = rows.rows();
  check(count >= 2, "rows to split into training and held-out ones", "two at least", str(count), "give more data or a smaller data.seq");
  const int64_t held = std::clamp<int64_t>(std::llround(held_share * static_cast<double>(count)), 1, count - 1);
  std::vector<int64_t> order = permutation(count, seed, stream_of("split_rows"));
  std::vector<int64_t> apart(order.begin(), order.begin() + held), rest(order.begin() + held, order.end());
  std::sort(apart.begin(), apart.end());
  std::sort(rest.begin(), rest.end());
  const auto part = [&rows](const std::vector<int64_t>& numbers) {
    const at::Tensor index = at::tensor(numbers, at::kLong);
    TokenRows out{rows.ids.index_select(0, index), rows.learn.index_select(0, index), rows.segments.index_select(0, index),
                  rows.lengths.index_select(0, index), rows.data_hash, ""};
    out.fingerprint = rows_fingerprint(out);
    return out;
  };
  return {part(rest), part(apart)};
}

}  // namespace attar
