#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/files.h"

namespace attar {

/// TensorProto.DataType numbers.
enum class OnnxType : int32_t { f32 = 1, u8 = 2, i8 = 3, i32 = 6, i64 = 7, boolean = 9, f16 = 10, f64 = 11, bf16 = 16, u4 = 21, i4 = 22 };

using OnnxAttribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>>;

/// Builds one ONNX model and streams it to disk: small initializers inline, large ones into `<name>.data` beside it.
/// Nodes must be added in topological order; names are made unique by the caller.
class OnnxWriter {
 public:
  struct Dim { std::string symbol; int64_t value = 0; };  ///< symbol wins when not empty
  OnnxWriter(int64_t opset, int64_t ir_version, std::string producer_version);
  ~OnnxWriter();
  void input(const std::string& name, OnnxType type, const std::vector<Dim>& shape);
  void output(const std::string& name, OnnxType type, const std::vector<Dim>& shape);
  void node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
            const std::vector<std::pair<std::string, OnnxAttribute>>& attributes = {}, const std::string& domain = "", const std::string& name = "");
  /// Small tensor kept inside the model (shapes, axes, limits).
  void constant(const std::string& name, OnnxType type, const std::vector<int64_t>& shape, const void* data, size_t size);
  /// Large tensor whose bytes are asked for when the file is written, so that no two need be in memory.
  void initializer(const std::string& name, OnnxType type, const std::vector<int64_t>& shape, uint64_t size,
                   std::function<void(const std::function<void(const void*, size_t)>& sink)> bytes);
  void metadata(const std::string& key, const std::string& value);
  /// Writes `folder/model.onnx`; initializers above 1 KiB go to `model.onnx.data` when their sum passes `inline_limit` bytes.
  void write(const fs::path& folder, uint64_t inline_limit);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// What an ONNX file of ours holds, read back strictly: initializers with their bytes (external ones mapped), nodes, metadata.
struct OnnxInitializer {
  OnnxType type;
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;
};
struct OnnxNode {
  std::string op, domain, name;
  std::vector<std::string> inputs, outputs;
  std::map<std::string, OnnxAttribute> attributes;
};
class OnnxFile {
 public:
  explicit OnnxFile(const fs::path& model);
  const std::map<std::string, OnnxInitializer>& initializers() const { return initializers_; }
  const std::vector<OnnxNode>& nodes() const { return nodes_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  MappedFile model_;
  std::map<std::string, MappedFile> external_;
  std::map<std::string, OnnxInitializer> initializers_;
  std::vector<OnnxNode> nodes_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace attar
