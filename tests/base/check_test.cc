#include "base/check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/utf8.h"

namespace attar {

TEST(Check, ALineNamesOnlyWhatThereIs) {
  EXPECT_EQ((Fault{"lr", "a number", "fast", "try 0.1"}.line()), "lr, expected a number, received fast, try 0.1");
  EXPECT_EQ((Fault{"lr", "", "fast", ""}.line()), "lr, received fast");
  EXPECT_EQ((Fault{"", "a number", "", ""}.line()), "expected a number");
  EXPECT_EQ((Fault{"lr", "", "", ""}.line()), "lr");
}

TEST(Check, AFaultIsAlwaysOneLineOfValidText) {
  const Fault fault{"a\nb\r\nc", "x\ty", std::string("z\0\x1b[31m", 7), "bad \xff\xc3 \xe2\x80\xa8 \xc2\x85 \xc2\x9b end"};
  const std::string line = fault.line();
  EXPECT_EQ(line.find_first_of("\n\r\t\x1b"), std::string::npos);
  EXPECT_EQ(line.find('\0'), std::string::npos);
  EXPECT_TRUE(is_utf8(line));
  EXPECT_EQ(line, "a b  c, expected x y, received z??[31m, bad \xEF\xBF\xBD\xEF\xBF\xBD     ? end");
}

TEST(Check, VeryLongPartsAreCut) {
  const std::string line = Fault{"x", "", std::string(1 << 20, 'y'), "z"}.line();
  EXPECT_LT(line.size(), 5000u);
  EXPECT_TRUE(line.ends_with("..., z"));
}

TEST(Check, AnErrorSaysAllItsFaultsAndWhereItWasThrown) {
  const Error error({{"a", "1", "2", ""}, {"b", "", "", "c"}});
  EXPECT_STREQ(error.what(), "a, expected 1, received 2\nb, c");
  ASSERT_EQ(error.faults().size(), 2u);
  EXPECT_EQ(error.faults()[1].hint, "c");
  EXPECT_TRUE(std::string(error.where().file_name()).ends_with("check_test.cc"));
}

TEST(Check, ThrowsOnlyWhenItDoesNotHold) {
  EXPECT_NO_THROW(check(true, "nothing"));
  const std::string what = "width";
  try {
    check(false, what, "8", "9", "change it");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "width, expected 8, received 9, change it");
    EXPECT_TRUE(std::string(error.where().file_name()).ends_with("check_test.cc"));
  }
}

TEST(Check, NearestKnowsTyposAndSwapsAndLeavesStrangersAlone) {
  const std::vector<std::string> known{"steps", "lr", "weight_decay", "warmup_steps"};
  EXPECT_EQ(nearest("stepz", known), "steps");
  EXPECT_EQ(nearest("setps", known), "steps");
  EXPECT_EQ(nearest("STEPS", known), "steps");
  EXPECT_EQ(nearest("wieght_decy", known), "weight_decay");
  EXPECT_EQ(nearest("rl", known), "lr");
  EXPECT_EQ(nearest("batch", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest("x", {"y"}), "");
  EXPECT_EQ(nearest(std::string(1 << 20, 'a'), known), "");
  EXPECT_EQ(nearest_hint("stepz", known), "did you mean 'steps'?");
  EXPECT_EQ(nearest_hint("batch", known), "known: steps, lr, weight_decay, warmup_steps");
  EXPECT_EQ(nearest_hint("batch", {}), "");
}

TEST(Check, NumbersForPeople) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1000), "1000 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(1024.0 * 1024 - 1), "1 MiB");
  EXPECT_EQ(human_bytes(123.0 * (1 << 20)), "123 MiB");
  EXPECT_EQ(human_count(1234567), "1.23 M");
  EXPECT_EQ(human_count(999), "999");
  EXPECT_EQ(human_count(999999), "1 M");
  EXPECT_EQ(human_count(7e9), "7 B");
  EXPECT_EQ(human_count(std::nan("")), "?");
  EXPECT_EQ(human_seconds(75), "1m15s");
  EXPECT_EQ(human_seconds(0.5), "0.5s");
  EXPECT_EQ(human_seconds(59.97), "1m00s");
  EXPECT_EQ(human_seconds(3725), "1h02m");
  EXPECT_EQ(human_seconds(90000), "1d01h");
  EXPECT_EQ(human_seconds(-1), "?");
  EXPECT_EQ(human_seconds(std::numeric_limits<double>::infinity()), "?");
}

TEST(Utf8, LengthsFollowTheTableOfWellFormedSequences) {
  EXPECT_EQ(utf8_length("a", 0), 1u);
  EXPECT_EQ(utf8_length("", 0), 0u);
  EXPECT_EQ(utf8_length("\xC3\xA9", 0), 2u);
  EXPECT_EQ(utf8_length("\xE2\x82\xAC", 0), 3u);
  EXPECT_EQ(utf8_length("\xF0\x9F\x98\x80", 0), 4u);
  EXPECT_EQ(utf8_length("\xC3\xA9", 1), 0u) << "a continuation cannot begin";
  EXPECT_EQ(utf8_length("\xC0\x80", 0), 0u) << "longer than needed";
  EXPECT_EQ(utf8_length("\xE0\x80\x80", 0), 0u) << "longer than needed";
  EXPECT_EQ(utf8_length("\xED\xA0\x80", 0), 0u) << "a surrogate";
  EXPECT_EQ(utf8_length("\xF4\x90\x80\x80", 0), 0u) << "above U+10FFFF";
  EXPECT_EQ(utf8_length("\xF0\x9F\x98", 0), 0u) << "cut off";
}

}  // namespace attar
