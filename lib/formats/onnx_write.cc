#include <functional>
#include <protozero/pbf_writer.hpp>
#include <set>

#include "base/check.h"
#include "formats/onnx.h"
#include "formats/onnx_fields.h"

namespace attar {
namespace {

constexpr uint64_t kExternalFrom = 1024;        // smaller tensors stay inside: shapes must not lie elsewhere
constexpr uint64_t kExternalAlignment = 4096;   // a page: readers map it
constexpr uint64_t kLargestMessage = 0x7FFFFFFF;

uint64_t varint_size(uint64_t value) {
  uint64_t size = 1;
  while (value >= 128) {
    value >>= 7;
    ++size;
  }
  return size;
}

void put_varint(std::string& out, uint64_t value) {
  while (value >= 128) {
    out.push_back(static_cast<char>(value | 128));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

/// Tag and length of a field whose content follows.
void put_length(std::string& out, uint32_t field, uint64_t length) {
  put_varint(out, field << 3 | 2);
  put_varint(out, length);
}

std::string value_info(const std::string& name, OnnxType type, const std::vector<OnnxWriter::Dim>& shape) {
  using namespace onnx_field;
  std::string shape_bytes, tensor_bytes, type_bytes, out;
  protozero::pbf_writer shape_writer(shape_bytes);
  for (const OnnxWriter::Dim& dim : shape) {
    std::string bytes;
    protozero::pbf_writer writer(bytes);
    if (!dim.symbol.empty()) writer.add_string(kDimParam, dim.symbol);
    else writer.add_int64(kDimValue, dim.value);
    shape_writer.add_message(kDim, bytes);
  }
  protozero::pbf_writer tensor(tensor_bytes);
  tensor.add_int32(kElementType, static_cast<int32_t>(type));
  tensor.add_message(kShape, shape_bytes);
  protozero::pbf_writer(type_bytes).add_message(kTensorType, tensor_bytes);
  protozero::pbf_writer writer(out);
  writer.add_string(kValueName, name);
  writer.add_message(kValueType, type_bytes);
  return out;
}

std::string attribute_bytes(const std::string& name, const OnnxAttribute& value) {
  using namespace onnx_field;
  std::string out;
  protozero::pbf_writer writer(out);
  writer.add_string(kAttributeName, name);
  int32_t kind = 0;
  if (const auto* whole = std::get_if<int64_t>(&value)) {
    writer.add_int64(kAttributeInt, *whole);
    kind = kIsInt;
  } else if (const auto* number = std::get_if<float>(&value)) {
    writer.add_float(kAttributeFloat, *number);
    kind = kIsFloat;
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    writer.add_bytes(kAttributeString, *text);
    kind = kIsString;
  } else if (const auto* wholes = std::get_if<std::vector<int64_t>>(&value)) {
    for (const int64_t item : *wholes) writer.add_int64(kAttributeInts, item);
    kind = kIsInts;
  } else {
    for (const float item : std::get<std::vector<float>>(value)) writer.add_float(kAttributeFloats, item);
    kind = kIsFloats;
  }
  writer.add_enum(kAttributeType, kind);
  return out;
}

}  // namespace

struct OnnxWriter::State {
  using Sink = std::function<void(const void*, size_t)>;
  struct Tensor {
    std::string name, head;  ///< head: the message but for where its bytes are
    uint64_t size = 0, offset = 0;
    bool external = false;
    std::function<void(const Sink&)> bytes;
    /// Fields after the head, without the bytes themselves.
    std::string tail(const std::string& location) const {
      std::string out;
      if (!external) {
        put_length(out, onnx_field::kRawData, size);
        return out;
      }
      protozero::pbf_writer writer(out);
      for (const auto& [key, value] : {std::pair<std::string, std::string>("location", location), {"offset", std::to_string(offset)}, {"length",
          std::to_string(size)}}) {
        std::string entry;
        protozero::pbf_writer inner(entry);
        inner.add_string(onnx_field::kEntryKey, key);
        inner.add_string(onnx_field::kEntryValue, value);
        writer.add_message(onnx_field::kExternalData, entry);
      }
      writer.add_enum(onnx_field::kDataLocation, 1);
      return out;
    }
  };
  int64_t opset = 0, ir_version = 0;
  std::string producer_version, nodes, inputs, outputs, metadata;
  bool contrib = false;
  std::set<std::string> values;
  std::vector<Tensor> tensors;

  void add_tensor(const std::string& name, OnnxType type, const std::vector<int64_t>& shape, uint64_t size, std::function<void(const Sink&)> bytes) {
    const auto expected = onnx_field::tensor_bytes(static_cast<int32_t>(type), shape);
    if (expected != size) fail("ONNX tensor " + name, expected ? str(*expected, " bytes") : "a shape with a size", str(size, " bytes"));
    claim(name);
    Tensor tensor{name, "", size, 0, false, std::move(bytes)};
    protozero::pbf_writer writer(tensor.head);
    writer.add_packed_int64(onnx_field::kDims, shape.begin(), shape.end());
    writer.add_int32(onnx_field::kDataType, static_cast<int32_t>(type));
    writer.add_string(onnx_field::kTensorName, name);
    tensors.push_back(std::move(tensor));
  }
  void claim(const std::string& name) {
    if (!values.insert(name).second) fail("ONNX value " + name, "a name of its own", "one that is taken");
  }
};

OnnxWriter::OnnxWriter(int64_t opset, int64_t ir_version, std::string producer_version) : state_(std::make_unique<State>()) {
  state_->opset = opset;
  state_->ir_version = ir_version;
  state_->producer_version = std::move(producer_version);
}

OnnxWriter::~OnnxWriter() = default;

void OnnxWriter::input(const std::string& name, OnnxType type, const std::vector<Dim>& shape) {
  state_->claim(name);
  protozero::pbf_writer(state_->inputs).add_message(onnx_field::kGraphInput, value_info(name, type, shape));
}

void OnnxWriter::output(const std::string& name, OnnxType type, const std::vector<Dim>& shape) {
  protozero::pbf_writer(state_->outputs).add_message(onnx_field::kGraphOutput, value_info(name, type, shape));
}

void OnnxWriter::node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs,
                      const std::vector<std::pair<std::string, OnnxAttribute>>& attributes, const std::string& domain, const std::string& name) {
  using namespace onnx_field;
  std::string bytes;
  protozero::pbf_writer writer(bytes);
  for (const std::string& input : inputs) {
    if (!input.empty() && !state_->values.count(input)) fail("ONNX node " + op, "inputs that exist before it", input);
    writer.add_string(kNodeInput, input);
  }
  for (const std::string& output : outputs) {
    if (!output.empty()) state_->claim(output);
    writer.add_string(kNodeOutput, output);
  }
  writer.add_string(kNodeName, name.empty() ? outputs.front() + "/" + op : name);
  writer.add_string(kNodeOp, op);
  if (!domain.empty()) writer.add_string(kNodeDomain, domain);
  for (const auto& [key, value] : attributes) writer.add_message(kNodeAttribute, attribute_bytes(key, value));
  state_->contrib |= !domain.empty();
  protozero::pbf_writer(state_->nodes).add_message(kNode, bytes);
}

void OnnxWriter::constant(const std::string& name, OnnxType type, const std::vector<int64_t>& shape, const void* data, size_t size) {
  std::string copy(static_cast<const char*>(data), size);
  state_->add_tensor(name, type, shape, size, [copy = std::move(copy)](const State::Sink& sink) { sink(copy.data(), copy.size()); });
}

void OnnxWriter::initializer(const std::string& name, OnnxType type, const std::vector<int64_t>& shape, uint64_t size,
                             std::function<void(const std::function<void(const void*, size_t)>& sink)> bytes) {
  state_->add_tensor(name, type, shape, size, std::move(bytes));
}

void OnnxWriter::metadata(const std::string& key, const std::string& value) {
  std::string entry;
  protozero::pbf_writer writer(entry);
  writer.add_string(onnx_field::kEntryKey, key);
  writer.add_string(onnx_field::kEntryValue, value);
  protozero::pbf_writer(state_->metadata).add_message(onnx_field::kModelMetadata, entry);
}

void OnnxWriter::write(const fs::path& folder, uint64_t inline_limit) {
  using namespace onnx_field;
  const std::string location = "model.onnx.data";
  uint64_t total = 0;
  for (const State::Tensor& tensor : state_->tensors) total += tensor.size;
  const auto stream = [](const State::Tensor& tensor, AtomicFile& file) {
    uint64_t written = 0;
    tensor.bytes([&](const void* data, size_t size) {
      written += size;
      if (written > tensor.size) fail("ONNX tensor " + tensor.name, str(tensor.size, " bytes"), "more");
      file.write(data, size);
    });
    if (written != tensor.size) fail("ONNX tensor " + tensor.name, str(tensor.size, " bytes"), std::to_string(written));
  };
  if (total > inline_limit) {
    AtomicFile data(folder / location);
    const std::string zeros(kExternalAlignment, '\0');
    for (State::Tensor& tensor : state_->tensors) {
      if (tensor.size <= kExternalFrom) continue;
      const uint64_t over = data.position() % kExternalAlignment;
      if (over) data.write(zeros.data(), kExternalAlignment - over);
      tensor.external = true;
      tensor.offset = data.position();
      stream(tensor, data);
    }
    data.commit();
  }
  std::string graph_name, model;
  protozero::pbf_writer(graph_name).add_string(kGraphName, "decoder");
  uint64_t graph_size = state_->nodes.size() + graph_name.size() + state_->inputs.size() + state_->outputs.size();
  std::vector<uint64_t> sizes;
  for (const State::Tensor& tensor : state_->tensors) {
    sizes.push_back(tensor.head.size() + tensor.tail(location).size() + (tensor.external ? 0 : tensor.size));
    graph_size += varint_size(kInitializer << 3) + varint_size(sizes.back()) + sizes.back();
  }
  protozero::pbf_writer head(model);
  head.add_int64(kIrVersion, state_->ir_version);
  head.add_string(kProducer, "attar");
  head.add_string(kProducerVersion, state_->producer_version);
  for (const auto& [domain, version] : {std::pair<std::string, int64_t>("", state_->opset), {"com.microsoft", 1}}) {
    if (!domain.empty() && !state_->contrib) continue;
    std::string entry;
    protozero::pbf_writer writer(entry);
    writer.add_string(kOpsetDomain, domain);
    writer.add_int64(kOpsetVersion, version);
    head.add_message(kOpsetImport, entry);
  }
  model += state_->metadata;
  put_length(model, kGraph, graph_size);
  if (model.size() + graph_size > kLargestMessage)
    fail("ONNX model " + (folder / "model.onnx").string(), "at most 2^31-1 bytes beside the external data", str(graph_size, " bytes"));
  AtomicFile file(folder / "model.onnx");
  file.write(model + state_->nodes + graph_name);
  for (size_t i = 0; i < state_->tensors.size(); ++i) {
    const State::Tensor& tensor = state_->tensors[i];
    std::string bytes;
    put_length(bytes, kInitializer, sizes[i]);
    file.write(bytes + tensor.head + tensor.tail(location));
    if (!tensor.external) stream(tensor, file);
  }
  file.write(state_->inputs + state_->outputs);
  file.commit();
}

}  // namespace attar
