#include "formats/shard.h"

#include <cstring>

#include "base/hash.h"
#include "damage.h"
#include "data_path.h"

namespace attar {
namespace {

std::map<std::string, ShardArray> shard_of_every_kind() {
  std::map<std::string, ShardArray> arrays;
  for (const auto& [dtype, bytes] : std::map<std::string, size_t>{{"u8", 1}, {"u16", 2}, {"i32", 4}, {"i64", 8}, {"f16", 2}, {"f32", 4}}) {
    ShardArray array{dtype, {3, 2}, {}};
    for (size_t i = 0; i < 6 * bytes; ++i) array.bytes.push_back(static_cast<uint8_t>(i * 7 + bytes));
    arrays["array_" + dtype] = array;
  }
  arrays["none"] = {"f32", {0, 5}, {}};
  arrays["single"] = {"i64", {}, {1, 2, 3, 4, 5, 6, 7, 8}};
  arrays["large"] = {"u8", {300, 100}, std::vector<uint8_t>(30000, 9)};
  arrays["deflated"] = {"u16", {600000, 2}, std::vector<uint8_t>(2400000, 9), true};  // three chunks, the last not whole
  arrays["deflated_small"] = {"u16", {2}, {1, 2, 3, 4}, true};
  arrays["deflated_none"] = {"u8", {0}, {}, true};
  return arrays;
}

TEST(Shard, ReadsBack) {
  TestFolder folder;
  const auto arrays = shard_of_every_kind();
  write_shard(folder / "x.h5", arrays, {{"kind", "shard"}, {"empty", ""}, {"version", "1"}});
  const auto back = read_shard(folder / "x.h5", sha256_file_now(folder / "x.h5"));
  ASSERT_EQ(back.size(), arrays.size());
  for (const auto& [name, array] : arrays) {
    EXPECT_EQ(back.at(name).dtype, array.dtype) << name;
    EXPECT_EQ(back.at(name).shape, array.shape) << name;
    EXPECT_EQ(back.at(name).bytes, array.bytes) << name;
  }
}

TEST(Shard, EqualContentGivesEqualBytes) {
  TestFolder folder;
  write_shard(folder / "a.h5", shard_of_every_kind(), {{"kind", "shard"}});
  // Another path, another heap, another shard in between: nothing of them may show.
  std::vector<std::string> disturbance(1000, std::string(5000, 'q'));
  disturbance.clear();
  write_shard(folder / "other.h5", {{"x", {"u8", {1}, {1}}}}, {});
  write_shard(folder / "b_with_another_name.h5", shard_of_every_kind(), {{"kind", "shard"}});
  EXPECT_EQ(read_file(folder / "a.h5"), read_file(folder / "b_with_another_name.h5"));
  EXPECT_NE(read_file(folder / "a.h5"), read_file(folder / "other.h5"));
  for (int many : {20}) {
    std::map<std::string, std::string> attributes;
    for (int i = 0; i < many; ++i) attributes["key" + std::to_string(i)] = std::string(static_cast<size_t>(i) * 100, 'v');
    write_shard(folder / "c.h5", {}, attributes);
    write_shard(folder / "d.h5", {}, attributes);
    EXPECT_EQ(read_file(folder / "c.h5"), read_file(folder / "d.h5"));
  }
}

TEST(Shard, DeflatedArraysTakeLess) {
  TestFolder folder;
  std::vector<uint8_t> bytes;
  for (int i = 0; i < 100000; ++i) bytes.push_back(static_cast<uint8_t>(i % 7)), bytes.push_back(0);
  write_shard(folder / "plain.h5", {{"x", {"u16", {100000}, bytes}}}, {});
  write_shard(folder / "deflated.h5", {{"x", {"u16", {100000}, bytes, true}}}, {});
  EXPECT_GT(fs::file_size(folder / "plain.h5"), 200000u);
  EXPECT_LT(fs::file_size(folder / "deflated.h5"), 20000u);
  EXPECT_EQ(read_shard(folder / "deflated.h5", sha256_file_now(folder / "deflated.h5")).at("x").bytes, bytes);
}

TEST(Shard, DamageIsFoundBeforeHdf5Sees) {
  TestFolder folder;
  const auto path = folder / "shard_00007.h5";
  write_shard(path, {{"x", {"i32", {4}, std::vector<uint8_t>(16, 3)}}}, {});
  const std::string whole = read_file(path), sum = sha256(whole);
  expect_every_cut_refused(path, whole, [&] { read_shard(path, sum); });
  std::string changed = whole;
  changed[changed.size() / 2] ^= 1;
  put_bytes(path, changed);
  EXPECT_ERROR(read_shard(path, sum), "shard_00007.h5");
  EXPECT_ERROR(read_shard(path, ""), "SHA-256");
  EXPECT_ERROR(read_shard(folder / "absent.h5", sum), "absent.h5");
  put_bytes(path, "no HDF5 at all");
  EXPECT_ERROR(read_shard(path, sha256("no HDF5 at all")), "shard_00007.h5");
}

TEST(Shard, WriterRefuses) {
  TestFolder folder;
  const auto path = folder / "x.h5";
  EXPECT_ERROR(write_shard(path, {{"x", {"f64", {1}, std::vector<uint8_t>(8)}}}, {}), "f64");
  EXPECT_ERROR(write_shard(path, {{"x", {"u8", {3}, {1}}}}, {}), "3 bytes");
  EXPECT_ERROR(write_shard(path, {{"x/y", {"u8", {1}, {1}}}}, {}), "'/'");
  EXPECT_ERROR(write_shard(path, {{"", {"u8", {1}, {1}}}}, {}), "name");
  EXPECT_ERROR(write_shard(path, {{"x", {"u8", {-1}, {}}}}, {}), "[-1]");
  EXPECT_ERROR(write_shard(path, {}, {{"x", std::string(70000, 'x')}}), "60000");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace attar
