#include "base/check.h"
#include "spec/golden_cases.h"

namespace attar {
namespace {

/// float32 has 6e-8 of relative step; theirs and ours may differ by the last bits of a power.
constexpr double kRopeTolerance = 4e-7;

void expect_table(const RopeTable& table, const Json& frequencies, double magnitude, const std::string& what) {
  ASSERT_EQ(table.inverse_frequency.size(), frequencies.size()) << what;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double expected = frequencies[i].get<double>();
    EXPECT_NEAR(table.inverse_frequency[i], expected, kRopeTolerance * expected) << what << " pair " << i;
  }
  EXPECT_NEAR(table.magnitude, magnitude, 1e-12) << what;
}

TEST(Rope, TablesAreTransformers) {
  for (const Json& one : golden_cases()) {
    const ModelSpec spec = spec_from_config(one.at("new"), one.at("name"));
    const Json& rope = one.at("rope");
    const double magnitude = rope.at("magnitude").get<double>();
    const int64_t dims = spec.rope_dims(spec.rope);
    expect_table(rope_table(spec.rope, dims, 1, spec.context), rope.at("short"), magnitude, one.at("name").get<std::string>() + " short");
    expect_table(rope_table(spec.rope, dims, spec.context, spec.context), rope.at("long"), magnitude, one.at("name").get<std::string>() + " long");
    if (one.contains("local_rope"))
      expect_table(rope_table(spec.local_rope, dims, 1, spec.context), one.at("local_rope").at("short"), 1,
                   one.at("name").get<std::string>() + " local");
  }
}

TEST(Rope, KindsReallyDiffer) {
  const ModelSpec plain = golden_spec("llama"), yarn = golden_spec("llama_yarn"), tall = golden_spec("phi3_longrope");
  const RopeTable a = rope_table(plain.rope, 16, 100, 256), b = rope_table(yarn.rope, 16, 100, 256);
  EXPECT_GT(a.inverse_frequency.back() / b.inverse_frequency.back(), 3.9);
  EXPECT_EQ(a.inverse_frequency.front(), b.inverse_frequency.front());
  EXPECT_GT(b.magnitude, 1.1);
  EXPECT_NE(rope_table(tall.rope, 16, 64, 256).inverse_frequency[3], rope_table(tall.rope, 16, 65, 256).inverse_frequency[3]);
}

TEST(Rope, BadSettingsAreErrors) {
  RopeSpec rope;
  EXPECT_THROW(rope_table(rope, 7, 1, 1), Error);
  rope.kind = "wobble";
  EXPECT_THROW(rope_table(rope, 8, 1, 1), Error);
  rope.kind = "longrope";
  rope.original_context = 16;
  EXPECT_THROW(rope_table(rope, 8, 1, 1), Error);
  rope.kind = "llama3";
  rope.original_context = 0;
  EXPECT_THROW(rope_table(rope, 8, 1, 1), Error);
}

}  // namespace
}  // namespace attar
