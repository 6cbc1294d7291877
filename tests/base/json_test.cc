#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "base/files.h"
#include "data_path.h"

namespace attar {

namespace {

std::string json_problem(const std::string& text) {
  try {
    parse_json(text, "x.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(Json, KeepsValuesAndTheOrderOfKeys) {
  const Json value = parse_json(R"({"b": [1, -2, 1.5, true, null, {"z": {}, "y": []}], "a": "\ud83d\ude00"})", "x.json");
  EXPECT_EQ(to_line(value), R"({"b":[1,-2,1.5,true,null,{"z":{},"y":[]}],"a":"😀"})");
  EXPECT_EQ(parse_json("18446744073709551615", "x").get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(parse_json(" 3 ", "x").get<int>(), 3);
}

TEST(Json, RefusesDuplicateKeysInSmallAndLargeObjects) {
  EXPECT_EQ(json_problem(R"({"a": 1, "b": {"c": 1, "c": 2}})"), "x.json: key 'c', expected once in its object, received twice");
  for (const int count : {15, 16, 17, 40}) {
    std::string text = "{";
    for (int i = 0; i < count; ++i) text += "\"k" + std::to_string(i) + "\": 1, ";
    EXPECT_EQ(json_problem(text + "\"other\": 1}"), "") << count;
    for (const int again : {0, count - 1})
      EXPECT_NE(json_problem(text + "\"k" + std::to_string(again) + "\": 1}"), "") << count << " " << again;
  }
  EXPECT_EQ(json_problem(R"([{"a": 1}, {"a": 1}])"), "") << "the same key in two objects";
}

TEST(Json, ManyKeysTakeNoQuadraticTime) {
  std::string text = "{\"k\": 0";
  for (int i = 0; i < 300000; ++i) text += ",\"k" + std::to_string(i) + "\":" + std::to_string(i);
  EXPECT_EQ(parse_json(text + "}", "x").size(), 300001u);
}

TEST(Json, RefusesDeepNesting) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(json_problem(nested(100)), "");
  EXPECT_NE(json_problem(nested(101)).find("at most 100"), std::string::npos);
  EXPECT_NE(json_problem(std::string(1 << 20, '[')), "");
}

TEST(Json, ErrorsNameTheFileAndTheLine) {
  const std::string problem = json_problem("{\n  \"a\": 1,\n  \"b\": oops\n}\n");
  EXPECT_EQ(problem.find("x.json:3 (byte 20)"), 0u) << problem;
  EXPECT_EQ(json_problem("").find("x.json:1"), 0u);
  for (const char* bad : {"{\"a\": 1} 2", "[1,]", "{\"a\" 1}", "\"\xff\"", "\"\\ud800\"", "nan", "NaN", "01", "1e999", "'a'", "[1 // c\n]",
      "\"a\nb\""})
    EXPECT_NE(json_problem(bad), "") << bad;
}

TEST(Json, GetNamesFileAndKey) {
  const Json object = parse_json(R"({"n": 3, "s": "x"})", "f.json");
  EXPECT_EQ(get<int64_t>(object, "n", "f.json"), 3);
  try {
    get<int64_t>(object, "s", "f.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find("f.json: key 's'"), 0u);
  }
  EXPECT_THROW(get<int64_t>(object, "m", "f.json"), Error);
  EXPECT_THROW(get<int64_t>(Json(3), "m", "f.json"), Error);
}

TEST(Json, GetLosesNothing) {
  const Json object = parse_json(
      R"({"half": 1.5, "whole": 1e5, "minus": -1, "true": true, "big": 18446744073709551615, "text": "1", "list": [1, 2]})", "f");
  EXPECT_EQ(get<int64_t>(object, "whole", "f"), 100000);
  EXPECT_EQ(get<double>(object, "minus", "f"), -1.0);
  EXPECT_EQ(get<uint64_t>(object, "big", "f"), UINT64_MAX);
  EXPECT_EQ(get<std::vector<int>>(object, "list", "f"), (std::vector<int>{1, 2}));
  EXPECT_TRUE(get<bool>(object, "true", "f"));
  EXPECT_THROW(get<int64_t>(object, "half", "f"), Error);
  EXPECT_THROW(get<int64_t>(object, "true", "f"), Error);
  EXPECT_THROW(get<int64_t>(object, "big", "f"), Error);
  EXPECT_THROW(get<uint64_t>(object, "minus", "f"), Error);
  EXPECT_THROW(get<double>(object, "true", "f"), Error);
  EXPECT_THROW(get<double>(object, "text", "f"), Error);
  EXPECT_THROW(get<bool>(object, "minus", "f"), Error);
  EXPECT_THROW(get<std::string>(object, "minus", "f"), Error);
  EXPECT_THROW(get<std::vector<int>>(object, "text", "f"), Error);
}

TEST(Json, WrittenFilesAreReadBackAndHoldNoNan) {
  const TestFolder folder;
  const Json value = {{"b", {1, 2.5, "x"}}, {"a", std::nan("")}, {"c", INFINITY}, {"bad", "\xff"}};
  write_json(folder / "v.json", value);
  const std::string text = read_file(folder / "v.json");
  EXPECT_EQ(text.back(), '\n');
  const Json back = read_json(folder / "v.json");
  EXPECT_TRUE(back["a"].is_null());
  EXPECT_TRUE(back["c"].is_null());
  EXPECT_EQ(back["bad"], "\xEF\xBF\xBD");
  EXPECT_EQ(back["b"], value["b"]);
  write_json(folder / "w.json", back);
  EXPECT_EQ(read_file(folder / "w.json"), text) << "what is equal is written equal";
  EXPECT_EQ(to_line(Json("\xff")), "\"\xEF\xBF\xBD\"");
}

}  // namespace attar
