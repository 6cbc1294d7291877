#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/check.h"
#include "data_path.h"
#include "formats/npy.h"

namespace attar {
namespace {

// numpy 2.4: np.savez(f, ids=np.array([3, 1, 2], np.int32)), with a fixed time stamp.
std::string numpys_npz() {
  const std::string npy = std::string("\x93NUMPY\x01\x00\x76\x00", 10) + "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }" +
                          std::string(60, ' ') + "\n" + std::string("\x03\0\0\0\x01\0\0\0\x02\0\0\0", 12);
  const auto number = [](uint64_t value, int bytes) {
    std::string out;
    for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
    return out;
  };
  // CRC-32 by its definition, bit by bit.
  uint32_t crc = ~0u;
  for (const char c : npy)
    for (int bit = 0; bit < 8; ++bit) crc = ((crc ^ (static_cast<uint8_t>(c) >> bit)) & 1) ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
  crc = ~crc;
  // numpy forces a zip64 field in the local header only.
  const std::string local = number(0x04034b50, 4) + number(45, 2) + number(0, 2) + number(0, 2) + number(0x00210000, 4) + number(crc, 4) +
                            number(0xFFFFFFFF, 4) + number(0xFFFFFFFF, 4) + number(7, 2) + number(20, 2) + "ids.npy" + number(1, 2) + number(16, 2) +
                            number(npy.size(), 8) + number(npy.size(), 8);
  const std::string entry = number(0x02014b50, 4) + number(45, 2) + number(45, 2) + number(0, 2) + number(0, 2) + number(0x00210000, 4) +
                            number(crc, 4) + number(npy.size(), 4) + number(npy.size(), 4) + number(7, 2) + number(0, 2) + number(0, 2) +
                            number(0, 8) + number(0, 4) + "ids.npy";
  const std::string end = number(0x06054b50, 4) + number(0, 4) + number(1, 2) + number(1, 2) + number(entry.size(), 4) +
                          number(local.size() + npy.size(), 4) + number(0, 2);
  return local + npy + entry + end;
}

/// Without the sync that write_file waits for: hundreds are written.
void put_npz(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }

std::string npz_refusal(const fs::path& file) {
  try {
    read_npz(file);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Npz, ArraysComeBackByName) {
  TestFolder folder;
  put_npz(folder / "a.npz", numpys_npz());
  const auto arrays = read_npz(folder / "a.npz");
  ASSERT_EQ(arrays.size(), 1u);
  const NpyArray& ids = arrays.at("ids");
  EXPECT_EQ(ids.dtype, "<i4");
  EXPECT_EQ(ids.shape, std::vector<int64_t>{3});
  int32_t values[3];
  ASSERT_EQ(ids.bytes.size(), sizeof values);
  std::memcpy(values, ids.bytes.data(), sizeof values);
  EXPECT_EQ(values[0] * 100 + values[1] * 10 + values[2], 312);
}

TEST(Npz, DamageIsASentenceAndNeverACrash) {
  TestFolder folder;
  const std::string whole = numpys_npz();
  for (size_t size = 0; size < whole.size(); size += 3) {
    put_npz(folder / "cut.npz", whole.substr(0, size));
    EXPECT_NE(npz_refusal(folder / "cut.npz"), "accepted") << size;
  }
  int64_t refused = 0;
  for (size_t at = 0; at < whole.size(); at += 2) {
    std::string changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x41);
    put_npz(folder / "changed.npz", changed);
    const std::string said = npz_refusal(folder / "changed.npz");
    EXPECT_EQ(said.find('\n'), std::string::npos);
    refused += said != "accepted";
  }
  EXPECT_GT(refused, static_cast<int64_t>(whole.size()) * 3 / 10) << "every byte of an array and of what finds it counts; times and versions do not";
  std::string compressed = whole;
  compressed[whole.size() - 22 - 53 + 10] = 8;
  put_npz(folder / "compressed.npz", compressed);
  EXPECT_NE(npz_refusal(folder / "compressed.npz").find("savez"), std::string::npos) << npz_refusal(folder / "compressed.npz");
}

}  // namespace
}  // namespace attar
