#include "teacher/cache.h"

#include <cmath>

#include "base/check.h"
#include "cache_cases.h"

namespace attar {
namespace {

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Cache, TargetsLieAtLearnedPositions) {
  for (const std::string kind : {"sampled", "top_k", "full"}) {
    SCOPED_TRACE(kind);
    TestFolder folder;
    const CacheIdentity identity = cache_identity(kind, 90);
    write_case(folder.path() / "cache", identity);
    const CacheReader reader(folder.path() / "cache");
    EXPECT_EQ(reader.rows(), kCaseRows);
    const std::vector<int64_t> rows = {6, 2, 1, 4};
    const LogitTargets targets = reader.targets(case_batch(rows, 90));
    for (size_t b = 0; b < rows.size(); ++b) {
      const int64_t count = case_positions()[rows[b]];
      const at::Tensor probs = count ? teacher_logits(count, 90, rows[b]).to(at::kDouble).softmax(-1) : at::Tensor();
      for (int64_t t = 0; t < 14; ++t) {
        const int64_t n = static_cast<int64_t>(b) * 14 + t, p = t / 2;
        const bool learned = t % 2 == 1 && p < count;
        if (kind == "full") {
          ASSERT_EQ(targets.kind, LogitTargets::Kind::dense);
          if (!learned) continue;
          EXPECT_LT((targets.log_probs[n].to(at::kDouble) - probs[p].log()).abs().max().item<double>(), 2e-2);
          continue;
        }
        ASSERT_EQ(targets.kind, LogitTargets::Kind::sparse);
        EXPECT_EQ(targets.tail.defined(), kind == "top_k");
        const double mass = targets.probs[n].sum().item<double>() + (targets.tail.defined() ? targets.tail[n].item<double>() : 0);
        EXPECT_NEAR(mass, learned ? 1 : 0, 1e-5);
        EXPECT_EQ(targets.ids[n].ge(0).any().item<bool>(), learned);
        if (!learned) continue;
        const double best = targets.probs[n].max().item<double>(), truth = probs[p].max().item<double>();
        EXPECT_NEAR(best, truth, kind == "top_k" ? 2e-3 : 0.36) << "n 50: five deviations of a share";
      }
    }
  }
}

TEST(Cache, StatisticsAddUp) {
  TestFolder folder;
  const Json sampled = write_case(folder.path() / "a", cache_identity("sampled", 90));
  EXPECT_EQ(sampled["tokens"], 16);
  EXPECT_GT(sampled["distinct_ids"].get<double>(), 1);
  EXPECT_LT(sampled["kept_mass"].get<double>(), 1);
  const Json full = write_case(folder.path() / "b", cache_identity("full", 90));
  EXPECT_EQ(full["kept_mass"], 1.0);
  EXPECT_EQ(full["entropy"], sampled["entropy"]);
  EXPECT_EQ(sampled, CacheReader(folder.path() / "a").statistics());
}

TEST(Cache, AtMost48BytesATokenAtTwelveIds) {
  TestFolder folder;
  for (const int64_t vocab : {4096, 131072}) {
    const CacheIdentity identity = cache_identity("sampled", vocab);
    const fs::path place = folder.path() / std::to_string(vocab);
    CacheWriter writer(place, identity, 4, 4);
    writer.begin_shard(0);
    for (int64_t row = 0; row < 4; ++row) {
      at::Tensor logits = (at::arange(64 * vocab, at::kFloat) * 0.7).sin().reshape({64, vocab}) * 0.5;
      logits.narrow(1, 100, 16) += at::arange(20.0, 12.0, -0.5, at::kFloat);  // peaked, as a trained teacher's
      writer.add(logits, at::zeros({64}, at::kLong), {64});
    }
    writer.end_shard();
    const Json statistics = writer.finish();
    const double distinct = statistics["distinct_ids"], bytes = statistics["bytes_per_token"];
    const double container = 6000.0 / 256;  // HDF5's own few kilobytes, here over 256 positions
    EXPECT_GT(distinct, 6);
    EXPECT_LE(bytes - container + 3 * (12 - distinct), 48);
    EXPECT_GT(bytes, distinct + 4);
  }
}

TEST(Cache, EqualCapturesAreEqualBytes) {
  TestFolder folder;
  const CacheIdentity identity = cache_identity("sampled", 90);
  write_case(folder.path() / "a", identity);
  write_case(folder.path() / "b", identity);
  const auto a = folder_bytes_by_name(folder.path() / "a"), b = folder_bytes_by_name(folder.path() / "b");
  EXPECT_EQ(a.size(), 8u);
  EXPECT_TRUE(a.count("rows-00000003.h5"));
  EXPECT_EQ(a, b);
}

TEST(Cache, ContinuesAtTheMissingShard) {
  TestFolder folder;
  const CacheIdentity identity = cache_identity("top_k", 90);
  const fs::path place = folder.path() / "cache";
  write_case(place, identity);
  const auto before = folder_bytes_by_name(place);
  const std::vector<std::function<void()>> harms = {[&] { fs::remove(place / "rows-00000003.h5"); },
                                                    [&] { fs::remove(place / "rows-00000003.json"); },
                                                    [&] { flip_bit(place / "rows-00000003.h5", 3000); },
                                                    [&] { fs::resize_file(place / "rows-00000003.h5", 100); },
                                                    [&] { std::ofstream(place / "rows-00000003.json") << "{"; }};
  for (const auto& harm : harms) {
    harm();
    EXPECT_EQ(CacheWriter(place, identity, kCaseRows, kCaseShard).missing(), std::vector<int64_t>{3});
    write_case(place, identity);
    EXPECT_EQ(folder_bytes_by_name(place), before);
  }
}

TEST(Cache, UnfinishedIsSaid) {
  TestFolder folder;
  const fs::path place = folder.path() / "cache";
  EXPECT_FALSE(is_cache(place));
  CacheWriter writer(place, cache_identity("sampled", 90), kCaseRows, kCaseShard);
  EXPECT_TRUE(is_cache(place));
  EXPECT_TRUE(has(refusal([&] { writer.finish(); }), "3 missing"));
  EXPECT_TRUE(has(refusal([&] { CacheReader reader(place); }), "not finished"));
}

TEST(Cache, EveryFlippedBitIsFound) {
  TestFolder folder;
  const fs::path place = folder.path() / "cache";
  write_case(place, cache_identity("sampled", 90));
  EXPECT_TRUE(verify_cache(place).empty());
  for (const char* name : {"rows-00000000.h5", "rows-00000003.json", "manifest.json", "capture.json"}) {
    const int64_t size = static_cast<int64_t>(fs::file_size(place / name));
    for (int64_t offset = 0; offset < size; offset += std::max<int64_t>(1, size / 40)) {
      flip_bit(place / name, offset);
      const auto faults = verify_cache(place);
      ASSERT_FALSE(faults.empty()) << name << " at " << offset;
      flip_bit(place / name, offset);
    }
  }
  EXPECT_TRUE(verify_cache(place).empty());
  std::ofstream(place / "rows-00000099.h5") << "x";
  EXPECT_EQ(verify_cache(place).size(), 1u);
}

TEST(Cache, OneThatDoesNotSayHowItWasDrawnIsOfIndependentDraws) {
  TestFolder folder;
  CacheIdentity identity = cache_identity("sampled", 90);
  identity.codec.draws = "independent";
  const fs::path place = folder.path() / "cache";
  write_case(place, identity);
  EXPECT_FALSE(has(read_file(place / "manifest.json"), "draws"));
  const CacheReader reader(place);
  EXPECT_EQ(reader.identity().codec.draws, "independent");
  EXPECT_EQ(refusal([&] { reader.check_identity(identity); }), "accepted");
  EXPECT_TRUE(has(refusal([&] { reader.check_identity(cache_identity("sampled", 90)); }), "systematic"));
}

TEST(Cache, SwappedShardsAreFound) {
  TestFolder folder;
  const fs::path place = folder.path() / "cache";
  write_case(place, cache_identity("sampled", 90));
  fs::rename(place / "rows-00000000.h5", place / "x");
  fs::rename(place / "rows-00000003.h5", place / "rows-00000000.h5");
  fs::rename(place / "x", place / "rows-00000003.h5");
  EXPECT_EQ(verify_cache(place).size(), 2u);
  const CacheReader reader(place);
  EXPECT_TRUE(has(refusal([&] { reader.targets(case_batch({2}, 90)); }), "rows-00000000.h5"));
}

TEST(Cache, MissingAndCutShardsAreNamed) {
  TestFolder folder;
  const fs::path place = folder.path() / "cache";
  write_case(place, cache_identity("sampled", 90));
  fs::resize_file(place / "rows-00000006.h5", 200);
  const CacheReader reader(place);
  EXPECT_TRUE(has(refusal([&] { reader.targets(case_batch({6}, 90)); }), "rows-00000006.h5"));
  fs::remove(place / "rows-00000006.h5");
  EXPECT_TRUE(has(refusal([&] { CacheReader again(place); }), "rows-00000006.h5"));
}

TEST(Cache, AnotherIdentityIsRefusedWithBothValues) {
  TestFolder folder;
  const fs::path place = folder.path() / "cache";
  const CacheIdentity identity = cache_identity("sampled", 90);
  write_case(place, identity);
  const CacheReader reader(place);
  reader.check_identity(identity);
  reader.check_identity(CacheIdentity{.temperature = 0});
  struct Change {
    const char* name;
    std::function<void(CacheIdentity&)> make;
    const char* ours;
    const char* theirs;
  };
  const std::vector<Change> changes = {{"teacher", [](CacheIdentity& i) { i.teacher = "teacher-2"; }, "teacher-1", "teacher-2"},
                                       {"tokenizer", [](CacheIdentity& i) { i.tokenizer = "tokenizer-2"; }, "tokenizer-1", "tokenizer-2"},
                                       {"data", [](CacheIdentity& i) { i.data = "data-2"; }, "data-1", "data-2"},
                                       {"rows", [](CacheIdentity& i) { i.rows = "rows-2"; }, "rows-1", "rows-2"},
                                       {"vocabulary", [](CacheIdentity& i) { i.vocab = 91; }, "90", "91"},
                                       {"temperature", [](CacheIdentity& i) { i.temperature = 2; }, "1.0", "2.0"},
                                       {"seed", [](CacheIdentity& i) { i.seed = 12; }, "11", "12"},
                                       {"codec", [](CacheIdentity& i) { i.codec.samples = 40; }, "50", "40"}};
  for (const Change& change : changes) {
    CacheIdentity other = identity;
    change.make(other);
    const std::string reading = refusal([&] { reader.check_identity(other); });
    const std::string writing = refusal([&] { CacheWriter writer(place, other, kCaseRows, kCaseShard); });
    for (const std::string& text : {reading, writing}) {
      EXPECT_TRUE(has(text, change.name) && has(text, change.ours) && has(text, change.theirs)) << text;
    }
  }
  EXPECT_TRUE(has(refusal([&] { CacheWriter w(place, identity, 8, kCaseShard); }), "rows"));
}

TEST(Cache, OtherRowsAreRefused) {
  TestFolder folder;
  const fs::path place = folder.path() / "cache";
  write_case(place, cache_identity("sampled", 90));
  const CacheReader reader(place);
  Batch batch = case_batch({0}, 90);
  batch.columns["labels"][0][0] = 3;
  EXPECT_TRUE(has(refusal([&] { reader.targets(batch); }), "learned positions of row 0"));
  batch.columns["rows"][0] = 7;
  EXPECT_TRUE(has(refusal([&] { reader.targets(batch); }), "0 to 6"));
}

}  // namespace
}  // namespace attar
