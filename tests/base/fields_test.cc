#include "base/fields.h"

#include <gtest/gtest.h>

namespace attar {

namespace {

struct InnerFields {
  int64_t steps = 600;
  double lr = 1e-3;
  template <class Visitor> void fields(Visitor&& field) {
    field("steps", steps, "optimizer steps");
    field("lr", lr, "learning rate");
  }
};

struct OuterFields {
  std::string name = "x";
  bool fast = false;
  std::optional<int64_t> limit;
  std::vector<std::string> tasks;
  std::map<std::string, double> weights;
  InnerFields train;
  std::vector<InnerFields> phases;
  std::optional<InnerFields> extra;
  Node anything;
  template <class Visitor> void fields(Visitor&& field) {
    field("name", name, "what it is called");
    field("fast", fast, "less exact");
    field("limit", limit, "most rows");
    field("tasks", tasks, "names of tasks");
    field("weights", weights, "of losses");
    field("train", train, "training");
    field("phases", phases, "one after the other");
    field("extra", extra, "if any");
    field("anything", anything, "free");
  }
};

OuterFields read_outer(const std::string& text) { return read_fields<OuterFields>(parse_yaml(text, "r.yaml"), ""); }

std::vector<std::string> fault_lines(const std::string& text) {
  std::vector<std::string> out;
  try {
    read_outer(text);
  } catch (const Error& error) {
    for (const Fault& fault : error.faults()) out.push_back(fault.line());
  }
  return out;
}

template <class T>
std::optional<T> scalar_as(const std::string& text, bool quoted = false) {
  T value{};
  return read_scalar(Node::scalar(text, quoted), value) ? std::optional<T>(value) : std::nullopt;
}

}  // namespace

TEST(Fields, ReadsEveryKindOfField) {
  const OuterFields config = read_outer(
      "name: 12\nfast: true\nlimit: 1_000\ntasks: [a, b]\nweights: {kd: 1, ce: 0.5}\ntrain: {steps: 1e3}\n"
      "phases: [{lr: 1}, {}]\nextra: {steps: 1}\nanything: {q: [1]}\n");
  EXPECT_EQ(config.name, "12");
  EXPECT_TRUE(config.fast);
  EXPECT_EQ(config.limit, 1000);
  EXPECT_EQ(config.tasks, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(config.weights, (std::map<std::string, double>{{"ce", 0.5}, {"kd", 1.0}}));
  EXPECT_EQ(config.train.steps, 1000);
  EXPECT_EQ(config.train.lr, 1e-3);
  ASSERT_EQ(config.phases.size(), 2u);
  EXPECT_EQ(config.phases[0].lr, 1.0);
  EXPECT_EQ(config.extra->steps, 1);
  EXPECT_EQ(to_line(to_json(config.anything)), R"({"q":[1]})");
}

TEST(Fields, OneValueStandsForAListOfOneAndNullForNone) {
  EXPECT_EQ(read_outer("tasks: a").tasks, std::vector<std::string>{"a"});
  EXPECT_TRUE(read_outer("tasks:").tasks.empty());
  EXPECT_FALSE(read_outer("limit: ~").limit.has_value());
  EXPECT_EQ(read_outer("").name, "x");
}

TEST(Fields, AllFaultsAreReportedTogetherWithTheirPlaces) {
  EXPECT_EQ(fault_lines("name: x\nfast: yes\ntrain:\n  stepz: 3\n  lr: fast\nphases: [{steps: 1.5}]\nlimit: '5'\ntasks: [[a]]\nweights: 3\n"),
            (std::vector<std::string>{
                "fast (r.yaml:2), expected true or false, received yes",
                "limit (r.yaml:7), expected a whole number, received '5' in quotes",
                "tasks[0] (r.yaml:8), expected text, received a list",
                "weights (r.yaml:9), expected a map, received 3",
                "train.lr (r.yaml:5), expected a number, received fast",
                "unknown key 'stepz' in train (r.yaml:4), did you mean 'steps'?",
                "phases[0].steps (r.yaml:6), expected a whole number, received 1.5",
            }));
  EXPECT_EQ(fault_lines("nam: 1\n"), std::vector<std::string>{"unknown key 'nam' (r.yaml:1), did you mean 'name'?"});
  EXPECT_EQ(fault_lines("train: {zzz: 1}\n"), std::vector<std::string>{"unknown key 'zzz' in train (r.yaml:1), known: steps, lr"});
  EXPECT_EQ(fault_lines("name:\n"), std::vector<std::string>{"name (r.yaml:1), expected text, received nothing"});
  EXPECT_EQ(fault_lines("[1]").size(), 1u);
}

TEST(Fields, WholeNumbersAreExact) {
  EXPECT_EQ(scalar_as<int64_t>("010"), 10);
  EXPECT_EQ(scalar_as<int64_t>("+7"), 7);
  EXPECT_EQ(scalar_as<int64_t>("-1_000_000"), -1000000);
  EXPECT_EQ(scalar_as<int64_t>("1e6"), 1000000);
  EXPECT_EQ(scalar_as<int64_t>("2.50e2"), 250);
  EXPECT_EQ(scalar_as<int64_t>("4.0"), 4);
  EXPECT_EQ(scalar_as<int64_t>("1200e-2"), 12);
  EXPECT_EQ(scalar_as<int64_t>("0.0e99999"), 0);
  EXPECT_EQ(scalar_as<int64_t>("9223372036854775807"), INT64_MAX);
  EXPECT_EQ(scalar_as<int64_t>("-9223372036854775808"), INT64_MIN);
  EXPECT_EQ(scalar_as<int64_t>("9007199254740993.0"), 9007199254740993) << "not through floating point";
  for (const char* bad : {"", "-", "1.5", "1e-3", "9223372036854775808", "1e19", "1e999999999", "0x10",
                          "1__0", "_1", "1_", "1 ", " 1", "1e", "1e+", ".", "one", "true", "null", "1,000"})
    EXPECT_EQ(scalar_as<int64_t>(bad), std::nullopt) << bad;
  EXPECT_EQ(scalar_as<int64_t>("1", true), std::nullopt);
}

TEST(Fields, NumbersAndTruthValues) {
  EXPECT_EQ(scalar_as<double>("1e-3"), 1e-3);
  EXPECT_EQ(scalar_as<double>("+.5"), 0.5);
  EXPECT_EQ(scalar_as<double>("3."), 3.0);
  EXPECT_EQ(scalar_as<double>("1_0.5"), 10.5);
  EXPECT_EQ(scalar_as<double>("-0.1"), -0.1);
  EXPECT_EQ(scalar_as<double>("1e-999"), 0.0);
  for (const char* bad : {"", ".", "nan", ".nan", "inf", ".inf", "1e999", "0x1p3", "1.2.3", "1e5.5", "--1", "1-"})
    EXPECT_EQ(scalar_as<double>(bad), std::nullopt) << bad;
  EXPECT_EQ(scalar_as<double>("1", true), std::nullopt);
  EXPECT_EQ(scalar_as<bool>("true"), true);
  EXPECT_EQ(scalar_as<bool>("false"), false);
  for (const char* bad : {"yes", "no", "True", "1", "on", ""}) EXPECT_EQ(scalar_as<bool>(bad), std::nullopt) << bad;
  EXPECT_EQ(scalar_as<bool>("true", true), std::nullopt);
  EXPECT_EQ(scalar_as<std::string>("no"), "no");
}

TEST(Fields, WrittenConfigurationsAreReadBack) {
  const OuterFields config = read_outer(
      "name: 'y'\nlimit: 5\ntasks: [a]\nweights: {kd: 0.25}\n"
      "train: {lr: 0.1}\nphases: [{steps: 2}]\nanything: [1, no]\n");
  const Json written = write_fields(config);
  EXPECT_EQ(to_line(written),
            R"({"name":"y","fast":false,"limit":5,"tasks":["a"],"weights":{"kd":0.25},"train":{"steps":600,"lr":0.1},)"
            R"("phases":[{"steps":2,"lr":0.001}],"extra":null,"anything":[1,"no"]})");
  EXPECT_EQ(to_line(write_fields(read_fields<OuterFields>(from_json(written), ""))), to_line(written));
}

TEST(Fields, SchemaAndListNameEveryKey) {
  const Json schema = schema_of<OuterFields>();
  EXPECT_EQ(schema["additionalProperties"], false);
  EXPECT_EQ(schema["properties"].size(), 9u);
  EXPECT_EQ(schema["properties"]["train"]["properties"]["lr"]["type"], "number");
  EXPECT_EQ(schema["properties"]["train"]["properties"]["lr"]["default"], 1e-3);
  EXPECT_EQ(schema["properties"]["name"]["description"], "what it is called");
  const auto keys = list_fields<OuterFields>();
  const auto named = [&](const std::string& name) -> const FieldInfo& {
    for (const FieldInfo& info : keys)
      if (info.name == name) return info;
    throw std::out_of_range(name);
  };
  EXPECT_EQ(named("train.steps").fallback, "600");
  EXPECT_EQ(named("train.steps").type, "integer");
  EXPECT_EQ(named("limit").fallback, "");
  EXPECT_EQ(named("tasks").type, "list");
  EXPECT_EQ(named("weights").type, "map");
  EXPECT_EQ(named("fast").help, "less exact");
}

}  // namespace attar
