#include "base/yaml.h"

#include <gtest/gtest.h>

#include "base/check.h"
#include "base/files.h"
#include "base/rng.h"
#include "data_path.h"

namespace attar {

namespace {

std::string yaml_problem(const std::string& text) {
  try {
    parse_yaml(text, "r.yaml");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Equal in meaning; places are not compared, and quotes only where they change what a scalar is.
bool same_tree(const Node& a, const Node& b) {
  if (a.kind != b.kind || a.text != b.text || a.items.size() != b.items.size() || a.entries.size() != b.entries.size()) return false;
  if (a.is_scalar() && to_json(a) != to_json(b)) return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!same_tree(a.items[i], b.items[i])) return false;
  for (size_t i = 0; i < a.entries.size(); ++i)
    if (a.entries[i].first != b.entries[i].first || !same_tree(a.entries[i].second, b.entries[i].second)) return false;
  return true;
}

}  // namespace

TEST(Yaml, BuildsTheTreeWithLinesAndQuotes) {
  const Node root = parse_yaml("# head\nname: x\nlist:\n  - 1\n  - 'two'\nflow: {a: [no, \"3\"], b: ~}\nblock: |\n  text\n", "r.yaml");
  ASSERT_TRUE(root.is_map());
  ASSERT_EQ(root.entries.size(), 4u);
  EXPECT_EQ(root.find("name")->text, "x");
  EXPECT_EQ(root.find("name")->place(), "r.yaml:2");
  EXPECT_EQ(root.find("list")->items[1].place(), "r.yaml:5");
  EXPECT_FALSE(root.find("list")->items[0].quoted);
  EXPECT_TRUE(root.find("list")->items[1].quoted);
  EXPECT_TRUE(root.find("flow")->find("b")->is_null());
  EXPECT_EQ(root.find("flow")->find("a")->items[0].text, "no");
  EXPECT_TRUE(root.find("block")->quoted);
  EXPECT_EQ(root.find("nothing"), nullptr);
  EXPECT_EQ(Node().place(), "");
}

TEST(Yaml, EmptyTextIsNull) {
  for (const char* text : {"", "\n", "# only words\n", "---\n", "~", "null"}) EXPECT_TRUE(parse_yaml(text, "r.yaml").is_null()) << text;
}

TEST(Yaml, RefusesDuplicateKeysWithBothLines) {
  EXPECT_EQ(yaml_problem("a: 1\nb: 2\n\na: 3\n"), "r.yaml:4, expected key 'a' once in its map, received a second one; the first is in line 1");
  EXPECT_NE(yaml_problem("x: {a: 1, 'a': 2}"), "");
  EXPECT_EQ(yaml_problem("x: {a: 1}\ny: {a: 1}"), "");
}

TEST(Yaml, RefusesWhatMakesTextMeanSomethingElse) {
  EXPECT_NE(yaml_problem("a: &x 1\nb: 2\n").find("r.yaml:1"), std::string::npos);
  EXPECT_NE(yaml_problem("a: &x [1]\nb: *x\n").find("anchor"), std::string::npos);
  EXPECT_NE(yaml_problem("a: *x\n"), "");
  EXPECT_NE(yaml_problem("a: 1\n<<: {b: 1}\n").find("merge key"), std::string::npos);
  EXPECT_EQ(yaml_problem("'<<': 1\n"), "");
  EXPECT_NE(yaml_problem("[a, b]: 1\n").find("text as a key"), std::string::npos);
  EXPECT_NE(yaml_problem("? {a: 1}\n: 1\n"), "");
  EXPECT_NE(yaml_problem("~: 1\n"), "");
  EXPECT_NE(yaml_problem("a: !!python/object 1\n").find("no type tag"), std::string::npos);
  EXPECT_NE(yaml_problem("a: !thing {b: 1}\n"), "");
  EXPECT_TRUE(parse_yaml("!!str 12", "r").quoted);
  EXPECT_NE(yaml_problem("a: 1\n---\nb: 2\n").find("one document"), std::string::npos);
  EXPECT_NE(yaml_problem("a: \xff\n").find("UTF-8"), std::string::npos);
  EXPECT_NE(yaml_problem(std::string("a: \0b\n", 6)), "");
}

TEST(Yaml, SyntaxErrorsNameTheLine) {
  EXPECT_EQ(yaml_problem("a: 1\nb: [1, 2\nc: 3\n").find("r.yaml:"), 0u);
  EXPECT_EQ(yaml_problem("a: 1\nb: c: d\n").find("r.yaml:2, expected well-formed YAML"), 0u);
  for (const char* open : {"a: 'x", "a: 'x\n", "a: \"x\nb: 3\n", "a: [1, 2\n", "{a: 1\n", "a: 1\nb\n"})
    EXPECT_EQ(yaml_problem(open).find("r.yaml:"), 0u) << open;
  EXPECT_EQ(to_line(to_json(parse_yaml("a: |\n  x\nb: |+\n  y\n\n", "r.yaml"))), R"({"a":"x\n","b":"y\n\n"})");
}

TEST(Yaml, RefusesDeepNesting) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(yaml_problem(nested(100)), "");
  EXPECT_NE(yaml_problem(nested(101)).find("at most 100"), std::string::npos);
  EXPECT_NE(yaml_problem(std::string(5000, '[')), "");
  std::string maps;
  for (int i = 0; i < 200; ++i) maps += std::string(static_cast<size_t>(i), ' ') + "a:\n";
  EXPECT_NE(yaml_problem(maps), "");
}

TEST(Yaml, HostileBytesGiveErrorsOrTrees) {
  Rng rng(3);
  const std::string alphabet = "ab:-[]{},&*!|>'\"%@#? \n\t\\0.<~";
  for (int i = 0; i < 3000; ++i) {
    std::string text;
    for (int64_t n = rng.below(40); n > 0; --n) text += alphabet[static_cast<size_t>(rng.below(static_cast<int64_t>(alphabet.size())))];
    try {
      const Node tree = parse_yaml(text, "r.yaml");
      EXPECT_TRUE(same_tree(tree, parse_yaml(to_yaml(tree), "again"))) << text << "\n---\n" << to_yaml(tree);
    } catch (const Error&) {
    }
  }
}

TEST(Yaml, JsonFilesAreReadByJsonsRules) {
  const TestFolder folder;
  write_file(folder / "c.json", "{\n\t\"a\": \"\\ud83d\\ude00\",\n\t\"n\": 1e-5, \"s\": \"12\", \"z\": null}\n");
  const Node root = read_yaml(folder / "c.json");
  EXPECT_EQ(root.find("a")->text, "😀");
  EXPECT_TRUE(root.find("s")->quoted);
  EXPECT_FALSE(root.find("n")->quoted);
  EXPECT_TRUE(root.find("z")->is_null());
  EXPECT_EQ(root.line, 1);
  EXPECT_EQ(root.find("a")->line, 2);
  EXPECT_EQ(root.find("n")->place(), (folder / "c.json").string() + ":3");
  EXPECT_EQ(root.find("z")->line, 3);
  write_file(folder / "d.json", "{\"a\": 1, \"a\": 2}");
  EXPECT_THROW(read_yaml(folder / "d.json"), Error);
  EXPECT_THROW(read_yaml(folder / "missing.yaml"), Error);
}

TEST(Yaml, JsonsValuesKnowTheirLines) {
  const Node root = parse_json_nodes("[1\n,2.5\n,\n{\"k\":\n\n[]}, \"x\"\n, true\n]\n", "c.json");
  std::vector<int> lines;
  for (const Node& item : root.items) lines.push_back(item.line);
  EXPECT_EQ(lines, (std::vector<int>{1, 2, 4, 6, 7}));
  EXPECT_EQ(root.items[2].find("k")->place(), "c.json:6");
  EXPECT_EQ(parse_json_nodes("7", "c.json").line, 1);
  EXPECT_EQ(parse_json_nodes("7\n", "c.json").line, 1);
}

TEST(Yaml, ScalarsWithoutSchemaFollowTheCoreRules) {
  const auto json = [](const std::string& text) { return to_line(to_json(parse_yaml(text, "r"))); };
  EXPECT_EQ(json("[no, yes, on, off, y]"), R"(["no","yes","on","off","y"])");
  EXPECT_EQ(json("[true, True, FALSE, tRUE]"), R"([true,true,false,"tRUE"])");
  EXPECT_EQ(json("[010, -7, +3, 0x1F, 0o17, 1_000, 12:30]"), R"([10,-7,3,31,15,"1_000","12:30"])");
  EXPECT_EQ(json("[1e3, 1., .5, -1.5E-2, .inf, 1.2.3, e5, .]"), R"([1000.0,1.0,0.5,-0.015,null,"1.2.3","e5","."])");
  EXPECT_EQ(json("['1', \"true\", 'null', null, ~]"), R"(["1","true","null",null,null])");
  EXPECT_EQ(json("9223372036854775807"), "9223372036854775807");
  EXPECT_TRUE(to_json(parse_yaml("9223372036854775808", "r")).is_number_float());
  EXPECT_EQ(json("{}"), "{}");
  EXPECT_EQ(json("[]"), "[]");
}

TEST(Yaml, OverridesMakeAndChangeWhatTheyName) {
  Node root = parse_yaml("stages:\n  student: {train: {steps: 800}}\n  list: [1, {a: 2}]\n", "r.yaml");
  set_override(root, "stages.student.train.steps=200");
  set_override(root, "stages.student.loss={ce: 1.0, kd: [1, '2']}");
  set_override(root, "stages.list.1.a=5");
  set_override(root, "stages.list.2=six");
  set_override(root, "new.deep.key=a=b");
  set_override(root, "seed=");
  EXPECT_EQ(to_line(to_json(root)),
            R"({"stages":{"student":{"train":{"steps":200},"loss":{"ce":1.0,"kd":[1,"2"]}},"list":[1,{"a":5},"six"]},)"
            R"("new":{"deep":{"key":"a=b"}},"seed":null})");
  EXPECT_EQ(root.find("stages")->find("student")->find("train")->find("steps")->place(), "");
  Node empty;
  set_override(empty, "a.b=1");
  EXPECT_EQ(to_line(to_json(empty)), R"({"a":{"b":1}})");
}

TEST(Yaml, OverridesThatMakeNoSenseAreUsageErrors) {
  Node root = parse_yaml("a: 1\nlist: [1]\n", "r.yaml");
  for (const char* bad : {"a", "", "=1", "a..b=1", ".a=1", "a.b=1", "list.x=1", "list.2=1", "list.-1=1", "b=[1", "b={a: 1, a: 2}", "b=*x"})
    EXPECT_THROW(set_override(root, bad), UsageError) << bad;
  EXPECT_EQ(to_line(to_json(*root.find("a"))), "1");
}

TEST(Yaml, WrittenTreesAreReadBackTheSame) {
  const std::vector<std::string> texts{"plain", "with space", "a: b", "a #b", "#a", "- a", "-", "-1", "-.5", "null", "~", "", " lead", "trail ",
                                       "trail:", "---", "--- a",
                                       "...", "1e3", "true", "no", "'q'", "\"q\"", "a\nb\n", "tab\there",
                                       "\x01\x7f", "ü", "\xE2\x80\xA8", "\xC2\x85x",
                                       "\xEF\xBB\xBF", "😀", "[a]", "{a}", "a, b", "a]", "*a", "&a", "!a", "%a", "@a",
                                       "`a", "|", ">", "?", "? a", ":", ":a", "<<", "=",
                                       "back\\slash", std::string(3000, 'k'), std::string("z\0z", 3)};
  Node map;
  map.kind = Node::Kind::map;
  Node list;
  list.kind = Node::Kind::list;
  for (const std::string& text : texts) {
    map.entries.emplace_back(text, Node::scalar(text, true));
    list.items.push_back(Node::scalar(text, true));
    EXPECT_TRUE(same_tree(Node::scalar(text, true), parse_yaml(to_yaml(Node::scalar(text, true)), "r"))) << text;
  }
  list.items.push_back(map);
  list.items.push_back(Node());
  list.items.push_back(parse_yaml("[[], {}, [[1, 2], [{a: b}]], 010, 1e3, true, no]", "r"));
  map.entries.emplace_back("the list", list);
  const Node back = parse_yaml(to_yaml(map), "r");
  EXPECT_TRUE(same_tree(map, back));
  EXPECT_EQ(to_yaml(back), to_yaml(map));
}

TEST(Yaml, JsonGoesThereAndBack) {
  const Json value = parse_json(R"({"a": [1, -2.5, 1e300, true, null, "1", "true", "", {"b": {}}], "c": 18446744073709551615, "d": 1e-7})", "x");
  Json back = to_json(parse_yaml(to_yaml(from_json(value)), "r"));
  EXPECT_DOUBLE_EQ(back["c"].get<double>(), 18446744073709551615.0);
  back["c"] = value["c"];
  EXPECT_EQ(to_line(back), to_line(value));
}

}  // namespace attar
