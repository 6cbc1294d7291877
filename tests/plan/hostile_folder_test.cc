// Manifests and recipe.json of folders that others made.
#include <fstream>

#include "base/check.h"
#include "data_path.h"
#include "plan/inspect.h"
#include "plan/recipe.h"

namespace attar {
namespace {

class HostileFolder : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << content;
  }
  std::string refusal(const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  static std::string manifest(const std::string& outputs, const std::string& more) {
    return R"({"kind":"distill","version":1,"name":"s","key":"00","seed":7,"outputs":[)" + outputs + "]" + more + "}";
  }
  TestFolder folder_;
};

TEST_F(HostileFolder, ManifestOfOtherKindsIsRefusedByKey) {
  const std::string output = R"({"path":"a","bytes":1,"sha256":"00"})";
  for (const char* key : {"seconds", "facts", "configuration", "inputs", "code"}) {
    put("manifest.json", manifest(output, std::string(R"(,")") + key + R"(":"text")"));
    EXPECT_NE(refusal([&] { read_manifest(folder_.path()); }).find(std::string("key '") + key + "'"), std::string::npos) << key;
  }
  put("manifest.json", manifest(output, R"(,"facts":null)"));
  EXPECT_TRUE(read_manifest(folder_.path()).facts.is_object());
}

TEST_F(HostileFolder, OutputsAreFilesInsideAndOnce) {
  const auto said = [&](const std::string& outputs) {
    put("manifest.json", manifest(outputs, ""));
    return refusal([&] { verify_manifest(folder_.path(), true); });
  };
  EXPECT_NE(said(R"({"path":"a","bytes":1,"sha256":"00"},{"path":"a","bytes":2,"sha256":"00"})").find("once"), std::string::npos);
  EXPECT_NE(said(R"({"path":"../a","bytes":1,"sha256":"00"})").find("leaves the folder"), std::string::npos);
  EXPECT_NE(said(R"({"path":"/etc/passwd","bytes":1,"sha256":"00"})").find("absolute"), std::string::npos);
  // A folder and a name too long for the system are faults of the artifact, not exceptions.
  fs::create_directories(folder_ / "sub");
  for (const std::string& path : {std::string("sub"), std::string(5000, 'x')}) {
    put("manifest.json", manifest(R"({"path":")" + path + R"(","bytes":1,"sha256":"00"})", ""));
    EXPECT_EQ(verify_manifest(folder_.path(), true).size(), 1u);
  }
}

TEST_F(HostileFolder, RunWhoseStagesLeadElsewhere) {
  put("precious/file", "kept");
  for (const char* id : {"../precious", "..", ".", "", "a/b", "/tmp"}) {
    put("run/recipe.json", std::string(R"({"name":"r","stages":{")") + id + R"(":{"kind":"capture"}}})");
    for (const bool dry : {true, false}) EXPECT_NE(refusal([&] { clean_run(folder_ / "run", dry); }), "") << id;
    EXPECT_NE(refusal([&] { inspect(folder_ / "run"); }), "") << id;
    EXPECT_FALSE(verify_path(folder_ / "run").empty()) << id;
  }
  EXPECT_TRUE(fs::exists(folder_ / "precious/file"));
  for (const char* recipe : {"[]", R"({"stages":3})", R"({"name":3})", R"({"stages":{"a":{"kind":3}}})"}) {
    put("run/recipe.json", recipe);
    EXPECT_NE(refusal([&] { inspect(folder_ / "run"); }), "") << recipe;
    EXPECT_NE(refusal([&] { clean_run(folder_ / "run", true); }), "") << recipe;
  }
  put("run/recipe.json", R"({"name":"r","stages":{"a":{"kind":"capture"}}})");
  EXPECT_EQ(inspect(folder_ / "run")["stages"][0]["kind"], "capture");
}

}  // namespace
}  // namespace attar
