#include "teacher/capture.h"

#include "cache_cases.h"

namespace attar {
namespace {

Decoder small_teacher(int64_t vocab) {
  ModelSpec spec;
  spec.vocab = vocab;
  spec.hidden = 32;
  spec.head_size = 8;
  spec.context = 64;
  spec.layers.assign(2, LayerSpec{.ffn = 48, .heads = 4, .kv_heads = 2});
  Decoder decoder = Decoder::random(spec, 5);
  for (auto& [name, tensor] : decoder.weights()) {
    if (tensor.dim() == 2) tensor.mul_(8);  // the default initialisation is nearly flat
  }
  return decoder;
}

/// Rows of unlike lengths of which a part is learned.
TokenRows small_rows(int64_t rows, int64_t seq, int64_t vocab) {
  TokenRows out;
  out.ids = at::zeros({rows, seq}, at::kInt);
  out.learn = at::zeros({rows, seq}, at::kByte);
  out.segments = at::full({rows, seq}, -1, at::kInt);
  out.lengths = at::zeros({rows}, at::kInt);
  Rng rng(3, 1);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = 6 + rng.below(seq - 6);
    out.lengths[r] = length;
    for (int64_t t = 0; t < length; ++t) {
      out.ids[r][t] = rng.below(vocab);
      out.learn[r][t] = rng.uniform() < 0.4 ? 1 : 0;
      out.segments[r][t] = t < length / 2 ? 0 : 1;
    }
  }
  out.data_hash = "data";
  out.fingerprint = "rows";
  return out;
}

TEST(Capture, CacheHoldsWhatTheTeacherSays) {
  TestFolder folder;
  const Decoder teacher = small_teacher(60);
  const TokenRows rows = small_rows(11, 24, 50);
  CacheIdentity identity = cache_identity("full", 50);  // the teacher's vocabulary is padded to 60
  capture(teacher, rows, identity, 4, 5, folder.path() / "full");
  const CacheReader reader(folder.path() / "full");
  const Batch batch = make_batch(rows, {8, 0, 5});
  const LogitTargets kept = reader.targets(batch), live = live_targets(teacher, batch);
  const at::Tensor truth = live.hidden.matmul(live.weight.t()).narrow(1, 0, 50).log_softmax(-1);
  const at::Tensor valid = batch.at("labels").flatten().ne(-100).nonzero().squeeze(1);
  ASSERT_GT(valid.size(0), 5);
  EXPECT_LT((kept.log_probs.index_select(0, valid) - truth.index_select(0, valid)).abs().max().item<double>(), 1e-2);
  EXPECT_GT(truth.std().item<double>(), 0.1);
}

TEST(Capture, BytesDoNotDependOnBatchOrInterruption) {
  TestFolder folder;
  const Decoder teacher = small_teacher(60);
  const TokenRows rows = small_rows(11, 24, 50);
  const CacheIdentity identity = cache_identity("sampled", 50);
  const Json one = capture(teacher, rows, identity, 4, 5, folder.path() / "a");
  const Json two = capture(teacher, rows, identity, 3, 5, folder.path() / "b");
  EXPECT_EQ(one, two);
  const auto whole = folder_bytes_by_name(folder.path() / "a");
  EXPECT_EQ(folder_bytes_by_name(folder.path() / "b"), whole);
  EXPECT_TRUE(verify_cache(folder.path() / "a").empty());
  fs::remove(folder.path() / "b" / "rows-00000005.h5");
  fs::remove(folder.path() / "b" / "manifest.json");
  capture(teacher, rows, identity, 5, 5, folder.path() / "b");
  EXPECT_EQ(folder_bytes_by_name(folder.path() / "b"), whole);
}

}  // namespace
}  // namespace attar
