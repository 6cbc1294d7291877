// A safetensors file: what is accepted is read to its last byte.
#include "formats/safetensors.h"
#include "fuzz.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 64, [&] {
    const SafetensorsFile file(fuzz_file("model.safetensors", fuzz_text(data, size)));
    uint64_t sum = 0, total = 0;
    for (const auto& [name, entry] : file.tensors()) {
      const auto bytes = file.bytes(name);
      expect(static_cast<int64_t>(bytes.size()) == entry.elements() * dtype_bytes(entry.dtype), "bytes that do not fit the shape");
      for (const uint8_t byte : bytes) sum += byte;
      total += bytes.size();
      file.release(name);
    }
    expect(total <= size && sum <= 255 * total, "more data than the file has");
  });
}
