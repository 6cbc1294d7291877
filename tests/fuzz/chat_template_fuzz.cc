// A model's chat template, rendered for a short conversation.
#include "base/json.h"
#include "fuzz.h"
#include "jinja/jinja_template.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  static const JinjaValue variables = jinja_from(parse_json(
      R"({"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi  "}, {"role": "assistant", "content": "Hello"}],
          "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": true, "tools": null})", "variables"));
  // Output and what a template keeps are bounded by the renderer, whatever the template's size.
  return fuzz_input(size, 256, [&] { (void)JinjaTemplate(fuzz_text(data, size)).render(variables); }, int64_t{64} << 20);
}
