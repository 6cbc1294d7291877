#include <algorithm>

#include "data_path.h"
#include "report/terminal.h"

namespace attar {
namespace {

TEST(Table, NumbersAlignRightAndWordsLeft) {
  EXPECT_EQ(format_table({"artifact", "size", "share"}, {{"teacher", "12.1 MiB", "97.8% [97.0, 98.3]"}, {"gguf", "393 KiB", "-"}}),
            "artifact      size               share\n"
            "────────  ────────  ──────────────────\n"
            "teacher   12.1 MiB  97.8% [97.0, 98.3]\n"
            "gguf       393 KiB                   -\n");
}

TEST(Table, OneWordMakesAColumnOfWords) {
  EXPECT_EQ(format_table({"a", "b"}, {{"x", "1"}, {"y", "unknown"}}), "a  b\n─  ───────\nx  1\ny  unknown\n");
}

TEST(Table, WideAndCombiningCharactersCountAsTheTerminalShowsThem) {
  EXPECT_EQ(format_table({"n", "k"}, {{"東京", "x"}, {"e\xCC\x81t\xC3\xA9", "y"}, {"🚀", "z"}}),
            "n     k\n────  ─\n東京  x\ne\xCC\x81t\xC3\xA9   y\n🚀    z\n");
}

TEST(Table, LineBreaksAndBrokenUtf8StayInTheirCell) {
  const std::string table = format_table({"a"}, {{"one\ntwo\x1B[31m"}, {"\xFF"}});
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4);
  EXPECT_EQ(table.find('\x1B'), std::string::npos);
  EXPECT_EQ(table.find('\xFF'), std::string::npos);
}

TEST(Table, RowsMayBeShorterOrLongerThanTheHeader) {
  EXPECT_EQ(format_table({"a", "b"}, {{"x"}, {"y", "z", "w"}}), "a  b\n─  ─  ─\nx\ny  z  w\n");
  EXPECT_EQ(format_table({"a"}, {}), "a\n─\n");
}

}  // namespace
}  // namespace attar
