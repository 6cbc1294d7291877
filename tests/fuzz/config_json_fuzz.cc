// config.json: the model it describes, its parameters, rotary tables and the other formats' words for it.
#include "base/json.h"
#include "formats/gguf.h"
#include "fuzz.h"
#include "spec/gguf_names.h"
#include "spec/model_spec.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  return fuzz_input(size, 256, [&] {
    const ModelSpec spec = spec_from_config(parse_json(fuzz_text(data, size), "config.json"), "config.json");
    expect(parameter_count(spec) >= 0, "a negative number of parameters");
    (void)parameters_of(spec);
    (void)forward_flops(spec, 16, 8);
    (void)rope_table(spec.rope, spec.rope_dims(spec.rope), 8, spec.context);
    const Json written = config_from_spec(spec, "float32");
    expect(spec_from_config(parse_json(to_line(written), "again"), "again") == spec, "another model after writing");
    (void)gguf_mapping(spec);
    GgufMetadata metadata;
    std::vector<std::string> warnings;
    gguf_architecture(spec, metadata, warnings);
    (void)gguf_rope_tensors(spec);
  }, int64_t{8} << 20);
}
