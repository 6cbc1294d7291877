#include <charconv>
#include <cstring>
#include <protozero/pbf_reader.hpp>

#include "base/check.h"
#include "formats/onnx.h"
#include "formats/onnx_fields.h"

namespace attar {
namespace {

using protozero::pbf_wire_type;

/// A field with the wire type it must have; any other form of it is refused, so that nothing is read as what it is not.
bool field_is(protozero::pbf_reader& reader, uint32_t field, pbf_wire_type type, const std::string& where) {
  if (reader.tag() != field) return false;
  if (reader.wire_type() != type) fail(where, str("field ", field, " of wire type ", static_cast<uint32_t>(type)),
      str(static_cast<uint32_t>(reader.wire_type())));
  return true;
}

std::pair<std::string, std::string> onnx_entry(protozero::data_view message, const std::string& where) {
  std::pair<std::string, std::string> entry;
  protozero::pbf_reader reader(message);
  while (reader.next()) {
    if (field_is(reader, onnx_field::kEntryKey, pbf_wire_type::length_delimited, where)) entry.first = reader.get_string();
    else if (field_is(reader, onnx_field::kEntryValue, pbf_wire_type::length_delimited, where)) entry.second = reader.get_string();
    else reader.skip();
  }
  return entry;
}

/// Repeated int64, packed or one by one.
void read_int64s(protozero::pbf_reader& reader, std::vector<int64_t>& out, const std::string& where) {
  if (reader.wire_type() == pbf_wire_type::varint) {
    out.push_back(reader.get_int64());
  } else if (reader.wire_type() == pbf_wire_type::length_delimited) {
    for (const int64_t value : reader.get_packed_int64()) out.push_back(value);
  } else {
    fail(where, "whole numbers", str("wire type ", static_cast<uint32_t>(reader.wire_type())));
  }
}

std::pair<std::string, OnnxAttribute> onnx_attribute(protozero::data_view message, const std::string& where) {
  using namespace onnx_field;
  std::string name, text;
  int64_t whole = 0, kind = 0;
  float number = 0;
  std::vector<int64_t> wholes;
  std::vector<float> numbers;
  protozero::pbf_reader reader(message);
  while (reader.next()) {
    if (field_is(reader, kAttributeName, pbf_wire_type::length_delimited, where)) name = reader.get_string();
    else if (field_is(reader, kAttributeString, pbf_wire_type::length_delimited, where)) text = reader.get_string();
    else if (field_is(reader, kAttributeInt, pbf_wire_type::varint, where)) whole = reader.get_int64();
    else if (field_is(reader, kAttributeType, pbf_wire_type::varint, where)) kind = reader.get_int64();
    else if (field_is(reader, kAttributeFloat, pbf_wire_type::fixed32, where)) number = reader.get_float();
    else if (reader.tag() == kAttributeInts) read_int64s(reader, wholes, where);
    else if (reader.tag() == kAttributeFloats && reader.wire_type() == pbf_wire_type::fixed32) numbers.push_back(reader.get_float());
    else if (field_is(reader, kAttributeFloats, pbf_wire_type::length_delimited, where))
      for (const float value : reader.get_packed_float()) numbers.push_back(value);
    else reader.skip();
  }
  switch (kind) {
    case kIsInt: return {name, whole};
    case kIsFloat: return {name, number};
    case kIsString: return {name, text};
    case kIsInts: return {name, wholes};
    case kIsFloats: return {name, numbers};
    default: fail(where + ": attribute " + shown(name), "a number, a text or a list of numbers", str("kind ", kind));
  }
}

OnnxNode onnx_node(protozero::data_view message, const std::string& file) {
  using namespace onnx_field;
  OnnxNode node;
  const std::string where = file + ": a node";
  protozero::pbf_reader reader(message);
  while (reader.next()) {
    if (field_is(reader, kNodeInput, pbf_wire_type::length_delimited, where)) node.inputs.push_back(reader.get_string());
    else if (field_is(reader, kNodeOutput, pbf_wire_type::length_delimited, where)) node.outputs.push_back(reader.get_string());
    else if (field_is(reader, kNodeName, pbf_wire_type::length_delimited, where)) node.name = reader.get_string();
    else if (field_is(reader, kNodeOp, pbf_wire_type::length_delimited, where)) node.op = reader.get_string();
    else if (field_is(reader, kNodeDomain, pbf_wire_type::length_delimited, where)) node.domain = reader.get_string();
    else if (field_is(reader, kNodeAttribute, pbf_wire_type::length_delimited, where)) {
      auto [name, value] = onnx_attribute(reader.get_view(), where);
      node.attributes.insert_or_assign(std::move(name), std::move(value));
    } else {
      reader.skip();
    }
  }
  return node;
}

/// A tensor as it stands in the message; where its bytes are is settled by the caller.
struct OnnxRawTensor {
  std::string name;
  int32_t type = 0;
  std::vector<int64_t> shape;
  std::optional<std::span<const uint8_t>> raw;
  std::map<std::string, std::string> external;
  bool is_external = false;
};

OnnxRawTensor onnx_tensor(protozero::data_view message, const std::string& file) {
  using namespace onnx_field;
  OnnxRawTensor tensor;
  const std::string where = file + ": an initializer";
  protozero::pbf_reader reader(message);
  while (reader.next()) {
    if (reader.tag() == kDims) {
      read_int64s(reader, tensor.shape, where);
    } else if (field_is(reader, kDataType, pbf_wire_type::varint, where)) {
      tensor.type = reader.get_int32();
    } else if (field_is(reader, kTensorName, pbf_wire_type::length_delimited, where)) {
      tensor.name = reader.get_string();
    } else if (field_is(reader, kRawData, pbf_wire_type::length_delimited, where)) {
      const protozero::data_view view = reader.get_view();
      tensor.raw = std::span(reinterpret_cast<const uint8_t*>(view.data()), view.size());
    } else if (field_is(reader, kExternalData, pbf_wire_type::length_delimited, where)) {
      tensor.external.insert(onnx_entry(reader.get_view(), where));
    } else if (field_is(reader, kDataLocation, pbf_wire_type::varint, where)) {
      tensor.is_external = reader.get_int64() == 1;
    } else {
      reader.skip();
    }
  }
  return tensor;
}

uint64_t external_number(const OnnxRawTensor& tensor, const char* key, uint64_t fallback, const std::string& where) {
  const auto found = tensor.external.find(key);
  if (found == tensor.external.end()) return fallback;
  uint64_t value = 0;
  const char* end = found->second.data() + found->second.size();
  if (std::from_chars(found->second.data(), end, value).ptr != end || found->second.empty()) fail(where + ": " + key, "a decimal number",
      shown(found->second));
  return value;
}

}  // namespace

OnnxFile::OnnxFile(const fs::path& model) : model_(model) {
  using namespace onnx_field;
  const std::string file = model.string();
  const auto read_initializer = [&](protozero::data_view message) {
    OnnxRawTensor tensor = onnx_tensor(message, file);
    const std::string where = file + ": initializer " + shown(tensor.name);
    const auto size = onnx_field::tensor_bytes(tensor.type, tensor.shape);
    if (!size) fail(where, "a known type and a size", str("type ", tensor.type, ", shape ", shape_words(tensor.shape)));
    std::span<const uint8_t> bytes;
    if (tensor.is_external) {
      const std::string location = tensor.external.count("location") ? tensor.external.at("location") : "";
      check_inside(location, where);
      if (fs::path(location).has_parent_path()) fail(where, "external data beside the model", shown(location));
      auto [mapped, fresh] = external_.try_emplace(location);
      if (fresh) mapped->second = MappedFile(model.parent_path() / location);
      const std::span<const uint8_t> all = mapped->second.bytes();
      const uint64_t offset = external_number(tensor, "offset", 0, where), length = external_number(tensor, "length", *size, where);
      if (offset > all.size() || length > all.size() - offset)
        fail(where, str("bytes ", offset, " to ", offset, " + ", length, " of ", location), str("a file of ", all.size(), " bytes"),
            "the file is cut short or damaged");
      bytes = all.subspan(offset, length);
    } else if (tensor.raw) {
      bytes = *tensor.raw;
    } else if (*size > 0) {
      fail(where, "raw_data or external data", "another form");
    }
    if (bytes.size() != *size) fail(where, str(*size, " bytes"), str(bytes.size(), " bytes"), "the file is cut short or damaged");
    if (!initializers_.try_emplace(tensor.name, OnnxInitializer{static_cast<OnnxType>(tensor.type), tensor.shape, bytes}).second)
      fail(where, "a name of its own", "one that is taken");
  };
  try {
    const std::span<const uint8_t> all = model_.bytes();
    protozero::pbf_reader reader(reinterpret_cast<const char*>(all.data()), all.size());
    bool has_graph = false;
    while (reader.next()) {
      if (field_is(reader, kModelMetadata, pbf_wire_type::length_delimited, file)) {
        if (auto entry = onnx_entry(reader.get_view(), file); !metadata_.insert(entry).second)
          fail(file + ": metadata " + shown(entry.first), "to be there once", "two of it");
      } else if (field_is(reader, kGraph, pbf_wire_type::length_delimited, file)) {
        if (has_graph) fail(file, "one graph", "two");
        has_graph = true;
        protozero::pbf_reader graph(reader.get_view());
        while (graph.next()) {
          if (field_is(graph, kNode, pbf_wire_type::length_delimited, file)) nodes_.push_back(onnx_node(graph.get_view(), file));
          else if (field_is(graph, kInitializer, pbf_wire_type::length_delimited, file)) read_initializer(graph.get_view());
          else if (graph.tag() == kSparseInitializer) fail(file, "dense initializers", "a sparse one");
          else graph.skip();
        }
      } else {
        reader.skip();
      }
    }
    if (!has_graph) fail(file, "an ONNX model with a graph", "none");
  } catch (const protozero::exception& error) {
    fail(file, "an ONNX model", error.what(), "the file is cut short or damaged");
  }
}

}  // namespace attar
