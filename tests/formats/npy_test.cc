#include "formats/npy.h"

#include <cstring>

#include "damage.h"
#include "data_path.h"

namespace attar {
namespace {

std::string npy_bytes(const std::string& header, size_t data, uint8_t major = 1) {
  std::string out("\x93NUMPY", 6);
  out += static_cast<char>(major);
  out += '\0';
  const auto length = static_cast<uint32_t>(header.size());
  out.append(reinterpret_cast<const char*>(&length), major == 1 ? 2 : 4);
  out += header;
  return out + std::string(data, 'x');
}

TEST(Npy, WrittenFileReadsBack) {
  TestFolder folder;
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  {
    NpyWriter writer(folder / "x.npy", 2, 3);
    writer.write(values.data(), 3);
    EXPECT_ERROR(writer.commit(), "3 are missing");
    EXPECT_ERROR(writer.write(values.data(), 4), "at most 3");
    writer.write(values.data() + 3, 3);
    writer.commit();
  }
  const auto array = read_npy(folder / "x.npy");
  EXPECT_EQ(array.dtype, "<f4");
  EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3}));
  ASSERT_EQ(array.bytes.size(), 24u);
  EXPECT_EQ(std::memcmp(array.bytes.data(), values.data(), 24), 0);
  EXPECT_EQ((fs::file_size(folder / "x.npy") - 24) % 64, 0u);
  const std::string whole = read_file(folder / "x.npy");
  expect_every_cut_refused(folder / "x.npy", whole, [&] { read_npy(folder / "x.npy"); });
  EXPECT_GT(expect_no_crash_when_changed(folder / "x.npy", whole, [&] { read_npy(folder / "x.npy"); }), 100);
}

TEST(Npy, OtherHeaders) {
  TestFolder folder;
  const auto path = folder / "x.npy";
  put_bytes(path, npy_bytes("{'shape': (3,), 'fortran_order': False, 'descr': '|u1'}\n", 3));
  EXPECT_EQ(read_npy(path).shape, std::vector<int64_t>{3});
  put_bytes(path, npy_bytes("{'descr': '<i8', 'fortran_order': False, 'shape': (), }\n", 8, 2));
  EXPECT_TRUE(read_npy(path).shape.empty());
  put_bytes(path, npy_bytes("{'descr': '<f2', 'fortran_order': False, 'shape': (0, 7)}", 0));
  EXPECT_TRUE(read_npy(path).bytes.empty());
  for (const char* wrong : {"{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", "{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}",
                            "{'descr': '<f4', 'shape': (1,)}", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
                            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
                                       "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
                            "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4)}",
                                       "{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}",
                            "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
                            "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "{'descr': '<f4", "{", "", "{'more': 1}"}) {
    put_bytes(path, npy_bytes(wrong, 4));
    EXPECT_THROW(read_npy(path), Error) << wrong;
  }
  put_bytes(path, npy_bytes("{}", 4, 9));
  EXPECT_ERROR(read_npy(path), "9.0");
  EXPECT_ERROR(NpyWriter(path, -1, 2), "[-1, 2]");
  EXPECT_ERROR(NpyWriter(path, INT64_MAX, 2), "2^63");
}

}  // namespace
}  // namespace attar
