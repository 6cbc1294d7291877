// A .npy file.
#include "formats/npy.h"
#include "fuzz.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 64, [&] {
    const NpyArray array = read_npy(fuzz_file("values.npy", fuzz_text(data, size)));
    expect(array.bytes.size() <= size, "more bytes than the file has");
  });
}
