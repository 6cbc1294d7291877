#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "base/check.h"
#include "model/decoder.h"

namespace attar {
namespace {

/// Positions by which a cache grows at least.
constexpr int64_t kCacheBlock = 64;

/// `buffer` (B, K, capacity, d) with room for `wanted` positions, the first `kept` as they were.
void make_room(at::Tensor& buffer, const at::Tensor& sample, int64_t kept, int64_t wanted) {
  const int64_t capacity = buffer.defined() ? buffer.size(2) : 0;
  if (wanted <= capacity) return;
  const int64_t grown = (std::max(wanted, capacity + capacity / 2) + kCacheBlock - 1) / kCacheBlock * kCacheBlock;
  at::Tensor larger = at::empty({sample.size(0), sample.size(1), grown, sample.size(3)}, sample.options());
  if (kept) larger.narrow(2, 0, kept).copy_(buffer.narrow(2, 0, kept));
  buffer = larger;
}

}  // namespace

void KvCache::crop(int64_t length) {
  if (length < 0 || length > length_) fail("KvCache::crop", str("a length from 0 to ", length_), str(length));
  length_ = length;
}

std::pair<at::Tensor, at::Tensor> KvCache::append(int64_t layer, const at::Tensor& key, const at::Tensor& value) {
  const at::NoGradGuard no_grad;
  if (static_cast<int64_t>(keys_.size()) <= layer) {
    keys_.resize(static_cast<size_t>(layer) + 1);
    values_.resize(static_cast<size_t>(layer) + 1);
  }
  at::Tensor& keys = keys_[static_cast<size_t>(layer)];
  at::Tensor& values = values_[static_cast<size_t>(layer)];
  if (keys.defined() && length_ && (keys.size(0) != key.size(0) || keys.size(1) != key.size(1)))
    fail("KvCache", str("rows and heads as cached, ", keys.size(0), " and ", keys.size(1)), str(key.size(0), " and ", key.size(1)));
  if (length_ == 0 && keys.defined() && keys.size(0) != key.size(0)) keys = values = at::Tensor();
  const int64_t count = key.size(2), total = length_ + count;
  make_room(keys, key, length_, total);
  make_room(values, value, length_, total);
  keys.narrow(2, length_, count).copy_(key);
  values.narrow(2, length_, count).copy_(value);
  return {keys.narrow(2, 0, total), values.narrow(2, 0, total)};
}

KvCache KvCache::expanded(int64_t rows) const {
  KvCache copy;
  copy.length_ = length_;
  for (const auto& [from, to] : {std::pair(&keys_, &copy.keys_), std::pair(&values_, &copy.values_)})
    for (const at::Tensor& one : *from)
      to->push_back(one.narrow(0, 0, 1).expand({rows, -1, -1, -1}).contiguous());
  return copy;
}

KvCache KvCache::selected(const at::Tensor& rows) const {
  KvCache copy;
  copy.length_ = length_;
  for (const auto& [from, to] : {std::pair(&keys_, &copy.keys_), std::pair(&values_, &copy.values_)})
    for (const at::Tensor& one : *from) to->push_back(one.index_select(0, rows));
  return copy;
}

}  // namespace attar
