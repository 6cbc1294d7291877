// A GGUF file: metadata by every meaning, the model it describes, every tensor decoded.
#include "formats/gguf.h"
#include "fuzz.h"
#include "blocks/blocks_encode.h"
#include "spec/gguf_names.h"
#include "spec/model_spec.h"

using namespace attar;

namespace {

/// Asks and takes an Error for an answer.
template <class Ask>
void ask(Ask&& question) {
  try {
    question();
  } catch (const Error&) {
  }
}

void use_tensors(const GgufFile& file) {
  for (const GgufTensor& tensor : file.tensors()) {
    const auto bytes = file.bytes(tensor);
    const GgmlTypeInfo& type = ggml_type_info(tensor.type);
    const int64_t blocks = static_cast<int64_t>(bytes.size()) / type.bytes;
    expect(blocks * type.bytes == static_cast<int64_t>(bytes.size()) && blocks * type.block == tensor.elements(), "bytes that do not fit the shape");
    std::vector<float> values(static_cast<size_t>(type.block));
    for (int64_t b = 0; b < blocks; ++b) decode_run_plain(tensor.type, bytes.data() + b * type.bytes, values.data(), 1);
    expect(file.find(tensor.name) == &tensor, "a tensor that is not found by its name");
    file.release(tensor);
  }
}

void use_spec(const ModelSpec& spec) {
  expect(parameter_count(spec) >= 0, "a negative number of parameters");
  (void)gguf_mapping(spec);
  GgufMetadata again;
  std::vector<std::string> warnings;
  gguf_architecture(spec, again, warnings);
  (void)gguf_rope_tensors(spec);
}

}  // namespace

ATTAR_FUZZ_TARGET {
  // A spec has names for each of its layers' parameters, and a layer needs no more than a number to be there.
  return fuzz_input(size, 64, [&] {
    const GgufFile file(fuzz_file("model.gguf", fuzz_text(data, size)));
    for (const auto& [key, value] : file.metadata().entries()) {
      ask([&] { (void)file.metadata().integer(key); });
      ask([&] { (void)file.metadata().number(key); });
      ask([&] { (void)file.metadata().text(key); });
      ask([&] { (void)file.metadata().boolean(key, false); });
      ask([&] { (void)file.metadata().per_layer(key, 4); });
    }
    use_tensors(file);
    use_spec(spec_from_gguf(file));
  }, int64_t{8} << 20);
}
