#include "teacher/capture.h"

#include "base/check.h"
#include "cache_cases.h"
#include "distill/distill_loss.h"

namespace attar {
namespace {

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

TEST(Capture, RowLossesOfTheCacheAreTheLiveTeachers) {
  TestFolder folder;
  const Decoder teacher = small_teacher(60);
  const TokenRows rows = small_rows(41, 24, 50);
  const std::vector<double> live = live_row_losses(teacher, rows, 0, 41, 50);
  std::vector<double> parts = live_row_losses(teacher, rows, 0, 32, 50);
  for (const double loss : live_row_losses(teacher, rows, 32, 41, 50)) parts.push_back(loss);
  EXPECT_EQ(parts, live) << "ranges that begin at multiples of " << kScoredRows;
  for (const char* kind : {"full", "top_k", "sampled"}) {
    capture(teacher, rows, cache_identity(kind, 50), 4, 5, folder.path() / kind);
    const std::vector<double> kept = CacheReader(folder.path() / kind).row_losses();
    ASSERT_EQ(kept.size(), live.size());
    for (size_t row = 0; row < live.size(); ++row) EXPECT_NEAR(kept[row], live[row], 5e-3) << kind << " row " << row;
  }
  // By the formula, one row.
  const Batch batch = make_batch(rows, {3});
  const LogitTargets said = live_targets(teacher, batch);
  const at::Tensor labels = batch.at("labels").flatten(), valid = labels.ne(-100).nonzero().squeeze(1);
  const at::Tensor log_probs = said.hidden.matmul(said.weight.t()).narrow(1, 0, 50).to(at::kDouble).log_softmax(-1).index_select(0, valid);
  EXPECT_NEAR(live[3], -log_probs.gather(1, labels.index_select(0, valid).unsqueeze(1)).mean().item<double>(), 1e-5);
}

TEST(Capture, PartsMergeIntoTheBytesOfAWhole) {
  for (const std::string kind : {"sampled", "top_k", "full"}) {
    SCOPED_TRACE(kind);
    TestFolder folder;
    const Decoder teacher = small_teacher(60);
    const TokenRows rows = small_rows(11, 24, 50);
    const CacheIdentity identity = cache_identity(kind, 50);
    const Json whole = capture(teacher, rows, identity, 4, 3, folder / "whole");
    capture(teacher, rows, identity, 4, 3, folder / "a", ShardRange::parse("0:1"));
    capture(teacher, rows, identity, 4, 3, folder / "b", ShardRange::parse("1:3"));
    const auto without_last = [&] { merge_caches({folder / "a", folder / "b"}, folder / "early"); };
    try {
      without_last();
      FAIL() << "a shard is missing";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("1 missing, the first number 3"), std::string::npos) << error.what();
    }
    capture(teacher, rows, identity, 4, 3, folder / "c", ShardRange::parse("3:4"));
    EXPECT_EQ(merge_caches({folder / "c", folder / "a", folder / "b"}, folder / "merged"), whole);
    EXPECT_EQ(folder_bytes_by_name(folder / "merged"), folder_bytes_by_name(folder / "whole"));
    EXPECT_TRUE(verify_cache(folder / "merged").empty());
    EXPECT_EQ(fs::hard_link_count(folder / "merged" / "rows-00000003.h5"), 3u) << "linked twice, not written again";
  }
}

TEST(Capture, PartsThatDoNotFitAreRefused) {
  TestFolder folder;
  const Decoder teacher = small_teacher(60);
  const TokenRows rows = small_rows(7, 24, 50);
  CacheIdentity identity = cache_identity("sampled", 50);
  const auto refused = [&](const std::vector<fs::path>& parts) -> std::string {
    try {
      merge_caches(parts, folder / "merged");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  capture(teacher, rows, identity, 4, 4, folder / "a", ShardRange::parse("0:1"));
  identity.seed = 12;
  capture(teacher, rows, identity, 4, 4, folder / "b", ShardRange::parse("1:2"));
  EXPECT_NE(refused({folder / "a", folder / "b"}).find("seed, expected 11, received 12"), std::string::npos) << refused({folder / "a", folder / "b"});
  identity.seed = 11;
  capture(teacher, rows, identity, 4, 4, folder / "c", ShardRange::parse("1:2"));
  flip_bit(folder / "c" / "rows-00000004.h5", 900);
  EXPECT_NE(refused({folder / "a", folder / "c"}).find("damaged"), std::string::npos);
  EXPECT_NE(refused({folder / "a", folder / "nothing"}).find("capture.json"), std::string::npos);
  EXPECT_EQ(refused({folder / "a"}).find("parts of the capture, expected all of 2 shards, received 1 missing"), 0u) << refused({folder / "a"});
  for (const char* bad : {"1", "2:1", "-1:2", "a:b", "1:2:3", ":", "0:0", " 0:1"}) EXPECT_THROW(ShardRange::parse(bad), Error) << bad;
  EXPECT_THROW(capture(teacher, rows, identity, 4, 4, folder / "d", ShardRange::parse("2:3")), Error);
  EXPECT_THROW(CacheReader(folder / "a"), Error);
}

TEST(Capture, HiddenStatesComeBackAsColumns) {
  TestFolder folder;
  Decoder teacher = small_teacher(60);
  const TokenRows rows = small_rows(11, 24, 50);
  CacheIdentity identity = cache_identity("sampled", 50);
  const Json plain = capture(teacher, rows, identity, 4, 5, folder / "plain");
  identity.codec.hidden_layers = {1, 2};
  const Json statistics = capture(teacher, rows, identity, 4, 5, folder / "cache");
  EXPECT_GT(statistics["bytes_per_token"].get<double>(), plain["bytes_per_token"].get<double>() + 2 * 2 * 32) << "two layers of 32 halves";
  EXPECT_TRUE(verify_cache(folder / "cache").empty());
  const CacheReader reader(folder / "cache");
  EXPECT_EQ(reader.identity().codec.hidden_layers, (std::vector<int64_t>{1, 2}));
  Batch batch = make_batch(rows, {8, 0, 5});
  reader.add_hidden(batch);
  std::map<std::string, at::Tensor> seen;
  teacher.set_observer([&](const std::string& name, const at::Tensor& value) { seen[name] = value.detach().clone(); });
  const at::NoGradGuard no_grad;
  teacher.hidden({batch.at("ids"), batch.at("segments"), {}, {}});
  const at::Tensor labels = batch.at("labels").flatten();
  const at::Tensor valid = labels.ne(-100).nonzero().squeeze(1), others = labels.eq(-100).nonzero().squeeze(1);
  ASSERT_GT(valid.size(0), 5);
  for (const int64_t layer : {1, 2}) {
    const at::Tensor kept = batch.at(str("teacher_hidden_", layer)), truth = seen.at(str("model.layers.", layer - 1, ".output")).reshape({-1, 32});
    ASSERT_EQ(kept.sizes(), (at::IntArrayRef{labels.size(0), 32}));
    const at::Tensor difference = (kept.to(at::kFloat) - truth).index_select(0, valid).abs();
    EXPECT_LT((difference / (truth.index_select(0, valid).abs() + 0.1)).max().item<double>(), 2e-3) << "half precision";
    EXPECT_EQ(kept.index_select(0, others).abs().max().item<double>(), 0);
    EXPECT_LT(hidden_state_loss(truth, kept, {}, labels, "mse").item<double>(), 1e-3 * static_cast<double>(valid.size(0)));
    EXPECT_GT(hidden_state_loss(truth + 1, kept, {}, labels, "mse").item<double>(), 0.9 * static_cast<double>(valid.size(0)));
  }
  EXPECT_FALSE(at::equal(batch.at("teacher_hidden_1"), batch.at("teacher_hidden_2")));
  // Interrupted and continued: the same bytes.
  const auto whole = folder_bytes_by_name(folder / "cache");
  fs::remove(folder / "cache" / "rows-00000005.h5");
  fs::remove(folder / "cache" / "manifest.json");
  capture(teacher, rows, identity, 4, 5, folder / "cache");
  EXPECT_EQ(folder_bytes_by_name(folder / "cache"), whole);
  identity.codec.hidden_layers = {3};
  EXPECT_THROW(capture(teacher, rows, identity, 4, 5, folder / "beyond"), Error);
  identity.codec.hidden_layers = {2, 1};
  EXPECT_THROW(capture(teacher, rows, identity, 4, 5, folder / "falling"), Error);
}

}  // namespace
}  // namespace attar
