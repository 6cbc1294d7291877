// Numbers of lib/decide for the parity tests: one JSON request a line on standard input, one JSON answer a line on standard output.
#include <iostream>

#include "base/check.h"
#include "decide/choice.h"
#include "decide/drift.h"
#include "decide/intervals.h"
#include "decide/route.h"
#include "decide/scores.h"

namespace {

using namespace attar;

Json difference_json(const Difference& d) { return {{"value", d.value}, {"low", d.low}, {"high", d.high}}; }

Json answer(const Json& q) {
  const auto what = get<std::string>(q, "what", "request");
  const auto numbers = [&](const char* key) { return get<std::vector<double>>(q, key, "request"); };
  const auto whole = [&](const char* key) { return get<int64_t>(q, key, "request"); };
  const auto number = [&](const char* key) { return get<double>(q, key, "request"); };
  if (what == "tail") return binomial_tail(whole("k"), whole("n"), number("p"));
  if (what == "bound") return binomial_upper_bound(whole("k"), whole("n"), number("confidence"));
  if (what == "tango") return difference_json(paired_proportions(whole("only_a"), whole("only_b"), whole("n")));
  if (what == "paired") return difference_json(paired_means(numbers("a"), numbers("b")));
  if (what == "score") {
    const ExampleScore s = example_score(numbers("p"), whole("label"));
    return {{"chosen", s.chosen}, {"max_probability", s.max_probability}, {"margin", s.margin}, {"entropy", s.entropy}, {"brier", s.brier}};
  }
  if (what == "curve") {
    const RouteCurve c = route_curve(numbers("sureness"), numbers("small"), numbers("large"));
    return {{"apgr", c.apgr}, {"cpt50", c.cpt50}, {"cpt80", c.cpt80}, {"small", c.small_quality}, {"large", c.large_quality}};
  }
  if (what == "threshold") {
    const Threshold t =
        learn_then_test(numbers("sureness"), numbers("correct"), number("error"), number("confidence"), static_cast<uint64_t>(whole("seed")));
    return {{"at_least", t.at_least ? Json(*t.at_least) : Json()},
            {"served", t.served},
            {"wrong", t.wrong},
            {"p_value", t.p_value},
            {"error_bound", t.error_bound}};
  }
  if (what == "ks") {
    const KolmogorovSmirnov found = kolmogorov_smirnov(numbers("a"), numbers("b"));
    return {{"distance", found.distance}, {"p", found.p}};
  }
  if (what == "mann_whitney") {
    const MannWhitney found = mann_whitney(numbers("a"), numbers("b"));
    return {{"delta", found.delta}, {"p", found.p}};
  }
  if (what == "fisher") return fisher_exact(whole("a"), whole("a_all"), whole("b"), whole("b_all"));
  if (what == "drift") {
    using Texts = std::vector<std::vector<int32_t>>;
    DriftInputs inputs;
    inputs.reference = profile_texts(get<Texts>(q, "reference", "request"), "t");
    inputs.now = profile_texts(get<Texts>(q, "now", "request"), inputs.reference);
    inputs.reference_confidence = numbers("reference_confidence"), inputs.confidence = numbers("confidence");
    inputs.scores.push_back({"accuracy", numbers("reference_correct"), numbers("correct")});
    if (q.contains("graded"))
      inputs.scores.push_back({"graded", numbers("reference_graded"), numbers("graded"), get<bool>(q, "less", "request")});
    return drift_json(find_drift(inputs, number("level"), number("threshold")), number("level"), number("threshold"));
  }
  if (what == "pareto") {
    std::vector<Trade> points;
    for (const Json& p : q["points"]) points.push_back({p[0].get<std::string>(), p[1].get<double>(), p[2].get<double>()});
    return pareto(points);
  }
  fail("what", "a number that this program knows", what);
}

}  // namespace

int main() {
  try {
    for (std::string line; std::getline(std::cin, line);) std::cout << to_line(answer(parse_json(line, "request"))) << "\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  return 0;
}
