// The index of a sharded model: two sound shards lie beside it, a third one outside of its folder, where no index may lead.
#include "formats/safetensors.h"
#include "fuzz.h"

using namespace attar;

namespace {

fs::path shards() {
  const fs::path folder = fuzz_folder() / "model";
  fs::create_directories(folder);
  const float values[4] = {1, 2, 3, 4};
  const auto shard = [&](const fs::path& path, const std::string& one, const std::string& two) {
    SafetensorsWriter writer(path, {{one, Dtype::f32, {2}}, {two, Dtype::f32, {1, 2}}});
    writer.write(values, sizeof values);
    writer.commit();
  };
  shard(folder / "model-00001-of-00002.safetensors", "a", "b");
  shard(folder / "model-00002-of-00002.safetensors", "c", "d");
  shard(fuzz_folder() / "outside.safetensors", "outside", "d");
  return folder;
}

}  // namespace

ATTAR_FUZZ_TARGET {
  static const fs::path folder = shards();
  return fuzz_input(size, 64, [&] {
    fuzz_file("model/model.safetensors.index.json", fuzz_text(data, size));
    const SafetensorsFolder model(folder);
    for (const auto& [name, entry] : model.tensors()) expect(model.bytes(name).size() == 8, "another tensor than the shard's");
    expect(!model.tensors().contains("outside"), "a tensor from outside of the folder");
    expect(model.total_bytes() == model.tensors().size() * 8, "another sum");
  });
}
