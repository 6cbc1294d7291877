#include <gtest/gtest.h>

#include <functional>

#include "base/check.h"
#include "jinja/jinja_template.h"

namespace attar {
namespace {

std::string rendered(const std::string& source, const Json& variables = Json::object()) {
  return JinjaTemplate(source).render(jinja_from(variables));
}

std::string refusal(const std::string& source, const Json& variables = Json::object()) {
  try {
    rendered(source, variables);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Jinja, WhitespaceControl) {
  EXPECT_EQ(rendered("a\n  {% if true %}\nb\n  {% endif %}\nc\n"), "a\nb\nc");
  EXPECT_EQ(rendered("a \n {%- if true -%} \n b \n {%- endif -%} \n c"), "abc");
  EXPECT_EQ(rendered("a {{- 'x' -}} b"), "axb");
  EXPECT_EQ(rendered("a\n {{ 'x' }}\nb"), "a\n x\nb");
  EXPECT_EQ(rendered("a\n  {# note #}\nb"), "a\nb");
  EXPECT_EQ(rendered("a {#- note -#} b"), "ab");
  EXPECT_EQ(rendered(" {%+ if true %} x{% endif %}"), "  x");
  EXPECT_EQ(rendered("{% if true +%}\nx{% endif %}"), "\nx");
  EXPECT_EQ(rendered("one\r\ntwo\rthree\n\n"), "one\ntwo\nthree\n");
  EXPECT_EQ(rendered("{{ {'a': {'b': 1}}['a']['b'] }}"), "1");
}

TEST(Jinja, Expressions) {
  EXPECT_EQ(rendered("{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }}"), "3 3 -4 2 -2");
  EXPECT_EQ(rendered("{{ 'a' + 'b' ~ 1 ~ true ~ none }}"), "ab1TrueNone");
  EXPECT_EQ(rendered("{{ 'a' 'b' \"c\" }}"), "abc");
  EXPECT_EQ(rendered("{{ '\\n\\t\\x41\\u00e9\\'\\q' }}"), "\n\tA\xC3\xA9'\\q");
  EXPECT_EQ(rendered("{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'cat' }} {{ 'x' not in ['y'] }} {{ not true }}"), "True False True True False");
  EXPECT_EQ(rendered("{{ (true) != (1 % 2 == 0) }}"), "True");
  EXPECT_EQ(rendered("{{ 'yes' if x else 'no' }}{{ 'z' if x }}"), "no");
  EXPECT_EQ(rendered("{{ x or 'other' }}{{ 'a' and 'b' }}"), "otherb");
}

TEST(Jinja, IndexesAndSlicesCountCharacters) {
  const Json variables = {{"s", "h\u00e9llo"}, {"l", {1, 2, 3, 4}}};
  EXPECT_EQ(rendered("{{ s[1] }}{{ s[-1] }}{{ s[1:3] }}{{ s[:-2] }}{{ s | length }}", variables), "\u00e9o\u00e9lh\u00e9l5");
  EXPECT_EQ(rendered("{% for i in l[::-1] %}{{ i }}{% endfor %}{% for i in l[1:] %}{{ i }}{% endfor %}{% for i in l[-2:10] %}{{ i }}{% endfor %}",
                     variables),
            "432123434");
  EXPECT_EQ(rendered("{% for i in l[3:0:-2] %}{{ i }}{% endfor %}[{{ l[9] }}]", variables), "42[]");
}

TEST(Jinja, LoopsScopesAndNamespaces) {
  const Json variables = {{"l", {"a", "b", "c"}}};
  EXPECT_EQ(rendered("{% for x in l %}{{ loop.index }}{{ x }}{{ loop.first }}{{ ',' if not loop.last }}{% endfor %}", variables),
            "1aTrue,2bFalse,3cFalse");
  EXPECT_EQ(rendered("{% set n = 0 %}{% for x in l %}{% set n = n + 1 %}{{ n }}{% endfor %}{{ n }}", variables), "1110");
  EXPECT_EQ(rendered("{% set ns = namespace(n=0) %}{% for x in l %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", variables), "3");
  EXPECT_EQ(rendered("{% for x in l if x != 'b' %}{{ x }}{{ loop.length }}{% endfor %}", variables), "a2c2");
  EXPECT_EQ(rendered("{% for x in none_there %}x{% else %}empty{% endfor %}", variables), "empty");
  EXPECT_EQ(
      rendered("{% for x in l %}{% if x == 'b' %}{% continue %}{% endif %}{{ x }}{% if x == 'c' %}{% break %}{% endif %}{% endfor %}", variables),
      "ac");
  EXPECT_EQ(rendered("{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}{{ v }}{% endfor %}", variables), "a1b2");
  EXPECT_EQ(rendered("{% set x %}in {{ l[0] }}{% endset %}{{ x }}", variables), "in a");
  EXPECT_EQ(rendered("{% for x in l %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex0 }} {% endfor %}", variables), "b2 ac1 b0 ");
}

TEST(Jinja, FiltersTestsAndMethods) {
  EXPECT_EQ(rendered("{{ '  a\xC2\xA0' | trim }}|{{ ' a '.lstrip() }}|{{ 'xxaxx'.strip('x') }}"), "a|a |a");
  EXPECT_EQ(rendered("{{ {'a': [1, true, none, 'q\"\\n\xC3\xA9']} | tojson }}"), "{\"a\": [1, true, null, \"q\\\"\\n\xC3\xA9\"]}");
  EXPECT_EQ(rendered("{{ {'a': [1], 'b': {}} | tojson(indent=2) }}"), "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
  EXPECT_EQ(rendered("{{ 'a</t>b</t>c'.split('</t>')[-1] }}{{ 'a b  c'.split() | length }}{{ 'a,b,c'.split(',', 1)[1] }}"), "c3b,c");
  EXPECT_EQ(
      rendered(
          "{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}{{ 'aXa'.replace('a', 'bb') }}{{ 'ab'.upper() }}{{ 'heLLo' | capitalize }}"),
      "TrueTruebbXbbABHello");
  EXPECT_EQ(
      rendered(
          "{{ x is defined }}{{ none is none }}{{ 'a' is string }}{{ {} is mapping }}{{ 3 is odd }}{{ 4 is divisibleby 2 }}{{ not x is defined }}"),
      "FalseTrueTrueTrueTrueTrueTrue");
  EXPECT_EQ(rendered("{{ x | default('d') }}{{ '' | default('e', true) }}{{ ['a', 'b'] | join('-') }}{{ [1, 2] | first }}{{ 'ab' | last }}"),
            "dea-b1b");
  const Json variables = {{"m", {{{"role", "user"}, {"n", 1}}, {{"role", "tool"}}, {{"role", "user"}}}}};
  EXPECT_EQ(rendered("{{ m | selectattr('role', 'equalto', 'user') | list | length }}{{ m | rejectattr('n', 'undefined') | list | length }}"
                     "{{ m | map(attribute='role') | join(',') }}", variables), "21user,tool,user");
  EXPECT_EQ(rendered("{{ m[0].get('n') }}{{ m[1].get('n') }}{{ m[1].get('n', 7) }}{{ 'n' in m[0] }}", variables), "1None7True");
}

TEST(Jinja, WhatItDoesNotKnowIsRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {{"{% macro f() %}{% endmacro %}", "macro"},
                                                                  {"{% include 'x' %}", "include"},
                                                                  {"{{ 'a' | frob }}", "frob"},
                                                                  {"{{ 'a' is frob }}", "frob"},
                                                                  {"{{ 'a'.frob() }}", "frob"},
                                                                  {"{{ strftime_now('%d') }}", "strftime_now"},
                                                                  {"{{ 2 ** 3 }}", "**"},
                                                                  {"{{ 1.5 }}", "whole"},
                                                                  {"{{ [1] }}", "a list"},
                                                                  {"{{ x.y }}", "'x', which is not defined"},
                                                                  {"{{ 'a' + none }}", "none"},
                                                                  {"{% if true %}", "endif"},
                                                                  {"\n\n{{ 'a", "line 3"},
                                                                  {"{{ 'a' }", "bracket"},
                                                                  {"{% endif %}", "endif"},
                                                                  {"{{ raise_exception('no such role') }}", "no such role"},
                                                                  {"{{ 'x' * 3 }}", "a text"},
                                                                  {"{{ \"\\N{DASH}\" }}", "\\N"},
                                                                  {"{{ '\xC3\xA9'.upper() }}", "ASCII"},
                                                                  {"{% raw %}x{% endraw %}", "raw"},
                                                                  {"{% for x in 3 %}{% endfor %}", "whole number"},
                                                                  {"{{ loop }}", "loop"},
                                                                  {"{{ ''.__class__ }}", "__class__"},
                                                                  {"{{ {}.items }}", "items"},
                                                                  {"{{ x[0] }}", "not defined"},
                                                                  {"{# never ends", "#}"},
                                                                  {"{{ dict(a=1) }}", "dict"},
                                                                  {"{% set loop = 1 %}", "loop"},
                                                                  {"{{ 9223372036854775807 }}", "digits"},
                                                                  {"{{ 1 // 0 }}", "divisor"}};
  for (const auto& [source, words] : cases) {
    const std::string error = refusal(source);
    EXPECT_NE(error.find(words), std::string::npos) << source << " gave: " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(Jinja, HostileTemplatesEnd) {
  const auto times = [](const std::string& text, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += text;
    return out;
  };
  EXPECT_NE(refusal(times("{% if true %}", 5000)).find("deep"), std::string::npos);
  EXPECT_NE(refusal("{{ " + times("(", 100000) + "1" + times(")", 100000) + " }}").find("deep"), std::string::npos);
  EXPECT_NE(refusal("{{ " + times("not ", 100000) + "1 }}").find("deep"), std::string::npos);
  EXPECT_NE(refusal("{{ 1" + times(" + 1", 100000) + " }}").find("at most"), std::string::npos);
  EXPECT_NE(refusal("{{ x" + times("|trim", 100000) + " }}").find("at most"), std::string::npos);
  EXPECT_NE(refusal("{% set x = 'aaaaaaaa' %}" + times("{% set x = x + x %}", 60) + "{{ x }}").find("chat template"), std::string::npos);
  EXPECT_NE(refusal("{% set x = [1] %}" + times("{% set x = [x, x] %}", 60) + "{{ x | tojson }}").find("bytes"), std::string::npos);
  EXPECT_NE(refusal("{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}").find("deep"), std::string::npos);
  const std::string loop = "{% for a in range(90000) %}{% for b in range(90000) %}{% for c in range(90000) %}{% endfor %}{% endfor %}{% endfor %}";
  EXPECT_NE(refusal(loop).find("steps"), std::string::npos);
  EXPECT_NE(refusal("{% for a in range(9000) %}{% for b in range(90000) %}{% if 'x' in 'y' %}{% endif %}{% endfor %}{% endfor %}").find("steps"),
            std::string::npos);
  const std::string nested = times("{% for a in 'ab' %}", 150) + times("{% endfor %}", 150);
  EXPECT_NE(refusal(nested).find("steps"), std::string::npos);
  EXPECT_EQ(rendered(times("{% if false %}{% elif true %}x{% endif %}", 3000)).size(), 3000u);
}

}  // namespace
}  // namespace attar
