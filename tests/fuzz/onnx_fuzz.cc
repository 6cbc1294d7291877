// An ONNX file, as attar reads back what it wrote.
#include "formats/onnx.h"
#include "fuzz.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 256, [&] {
    const OnnxFile file(fuzz_file("model.onnx", fuzz_text(data, size)));
    uint64_t sum = 0;
    for (const auto& [name, initializer] : file.initializers())
      for (const uint8_t byte : initializer.bytes) sum += byte;
    expect(sum < uint64_t{1} << 60, "too much");
  });
}
