// YAML of recipes, tasks and models; what is accepted is written and read again.
#include "base/yaml.h"
#include "fuzz.h"
#include "plan/recipe.h"
#include "spec/model_config.h"

using namespace attar;

ATTAR_FUZZ_TARGET {
  // A value is a node of some 150 bytes and may be two characters long; the report of all faults names each.
  return fuzz_input(size, 1024, [&] {  // words are compared, since .nan is no value equal to itself
    const Node root = parse_yaml(fuzz_text(data, size), "recipe.yaml");
    const Json value = to_json(root);
    expect(to_line(to_json(parse_yaml(to_yaml(root), "again"))) == to_line(value), "another value after writing");
    std::vector<Fault> faults;
    TaskConfig task;
    read_fields(task, root, "", faults);
    ModelConfig model;
    read_fields(model, root, "", faults);
    try {
      (void)spec_from_model_config(model, 100);
    } catch (const Error&) {
    }
    const Recipe recipe = recipe_from_node(root, fuzz_folder() / "recipe.yaml");
    for (const Stage& stage : recipe.stages) expect(recipe.find(stage.id) == &stage, "a stage that is not found by its name");
    (void)to_line(recipe.effective);
  }, int64_t{4} << 20);
}
