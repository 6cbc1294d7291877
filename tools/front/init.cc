// attar init: a task file and a recipe to start from.
#include <iostream>

#include "base/check.h"
#include "front/front.h"
#include "plan/starter.h"

namespace attar {

int tool_init(const Words& words) {
  const Starter made =
      make_starter(words.get("dir"), words.get("from"), words.get("text"), words.get("label"), static_cast<uint64_t>(words.integer("seed")));
  std::cout << made.rows << " examples read: text in '" << made.text << "', " << made.labels << " labels in '" << made.label << "'\n"
            << made.train << " for training, " << made.test << " held out\n"
            << "look at " << made.task.string() << ", then: attar run " << made.recipe.string() << "\n";
  return 0;
}

}  // namespace attar
