#include "prune/search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"
#include "spec/pruned_spec.h"

namespace attar {
namespace {

/// The sizes that decide whether one shape holds another.
std::vector<int64_t> sizes_of(const ModelSpec& spec) {
  std::vector<int64_t> out = {spec.vocab, spec.hidden, static_cast<int64_t>(spec.layers.size())};
  int64_t ffn = 0, heads = 0, kv_heads = 0;
  for (const LayerSpec& layer : spec.layers)
    ffn = std::max(ffn, layer.ffn), heads = std::max(heads, layer.heads), kv_heads = std::max(kv_heads, layer.kv_heads);
  out.insert(out.end(), {ffn, heads, kv_heads});
  return out;
}

bool holds(const ModelSpec& larger, const ModelSpec& smaller) {
  const std::vector<int64_t> a = sizes_of(larger), b = sizes_of(smaller);
  return std::equal(a.begin(), a.end(), b.begin(), [](int64_t x, int64_t y) { return x >= y; });
}

std::string shape_words(const ModelSpec& spec) {
  const LayerSpec& layer = spec.layers.front();
  return str("vocabulary ", spec.vocab, ", hidden ", spec.hidden, ", ", spec.layers.size(), " layers, ", layer.heads, " heads (", layer.kv_heads,
             " kv), ffn ", layer.ffn);
}

/// A cost as people write it: whole numbers whole.
std::string cost_words(double cost, const std::string& unit) {
  return unit == "ms_per_token" ? str(cost, " ms") : str(static_cast<int64_t>(std::ceil(cost)), " ", unit);
}

/// Walks through every combination of shares.
class Enumeration {
 public:
  Enumeration(const ModelSpec& spec, const PruneConfig& config, const std::map<int64_t, int64_t>& vocabularies, const SearchLimit& limit)
      : spec_(spec), config_(config), vocabularies_(vocabularies), limit_(limit) {
    for (const LayerSpec& layer : spec.layers) widest_ = std::max(widest_, layer.ffn);
  }

  std::vector<Candidate> all() {
    const SearchConfig& s = config_.search;
    const std::vector<double> depths = possible_depths();
    for (const auto& [least, size] : vocabularies_)
      for (double depth : depths)
        for (double hidden : s.hidden)
          for (double kv_heads : s.kv_heads)
            for (double heads : s.heads) {
              PruneConfig shape = config_;
              shape.search = {}, shape.parameters = 0;
              shape.vocabulary = least, shape.depth = depth, shape.hidden = hidden, shape.kv_heads = kv_heads, shape.heads = heads;
              add_widest(shape, size);
            }
    check(!found_.empty(), str("search.", limit_.unit),
          str("a limit of ", cost_words(nearest_, limit_.unit), " or more: the smallest shape of these shares"), cost_words(limit_.most, limit_.unit),
          "add smaller shares to search.hidden, search.depth, search.kv_heads or search.vocabulary");
    return std::move(found_);
  }

 private:
  /// Shares that leave the protected layers; all of them if none does, for pruned_spec() to say why.
  std::vector<double> possible_depths() const {
    const auto layers = static_cast<int64_t>(spec_.layers.size()), least = std::min(layers, 2 * config_.protect);
    std::vector<double> out;
    for (double share : config_.search.depth)
      if (!(share < 1) || std::llround(share * static_cast<double>(layers)) >= least) out.push_back(share);
    return out.empty() ? config_.search.depth : out;
  }
  ModelSpec shape_of(PruneConfig shape, int64_t vocab, int64_t ffn) const {
    shape.ffn = static_cast<double>(ffn) / static_cast<double>(widest_);
    ModelSpec out = pruned_spec(spec_, shape);
    out.vocab = vocab;
    return out;
  }
  /// The widest FFN within the limit. Costs need not rise with it everywhere (types change where blocks fit), so every width is tried.
  void add_widest(PruneConfig shape, int64_t vocab) {
    for (const std::string& type : limit_.types) add_widest(shape, vocab, type);
  }
  void add_widest(PruneConfig shape, int64_t vocab, const std::string& type) {
    const int64_t step = std::min(config_.multiple, widest_);
    std::vector<int64_t> widths;
    for (int64_t ffn = step; ffn < widest_; ffn += step) widths.push_back(ffn);
    widths.push_back(widest_);
    for (size_t i = widths.size(); i-- > 0;) {
      const ModelSpec spec = shape_of(shape, vocab, widths[i]);
      const double cost = limit_.cost(spec, shape.vocabulary, type);
      nearest_ = std::min(nearest_, cost);
      if (cost > limit_.most) continue;
      shape.ffn = static_cast<double>(widths[i]) / static_cast<double>(widest_);
      found_.push_back({shape, spec, cost, {}, {}, type, {}});
      return;
    }
  }

  const ModelSpec& spec_;
  const PruneConfig& config_;
  const std::map<int64_t, int64_t>& vocabularies_;
  const SearchLimit& limit_;
  int64_t widest_ = 0;
  double nearest_ = INFINITY;
  std::vector<Candidate> found_;
};

Json optional_number(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

void read_state(std::vector<Candidate>& candidates, const fs::path& state, const std::string& fingerprint) {
  if (state.empty() || !fs::exists(state)) return;
  try {
    const Json known = read_json(state);
    std::vector<Candidate> read = candidates;
    if (known.value("fingerprint", "") != fingerprint || known["candidates"].size() != candidates.size()) return;
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Json& one = known["candidates"][i];
      if (one["loss"].is_number()) read[i].loss = one["loss"].get<double>();
      if (one["recovered"].is_number()) read[i].recovered = one["recovered"].get<double>();
      read[i].cost = one["cost"].get<double>();
      for (const auto& [weight, type] : one["types"].items()) read[i].types[weight] = ggml_type_named(type.get<std::string>());
    }
    candidates = std::move(read);
  } catch (const std::exception&) {
    // A state that cannot be read is as good as none.
  }
}

void write_state(const std::vector<Candidate>& candidates, const fs::path& state, const std::string& fingerprint) {
  Json list = Json::array();
  for (const Candidate& c : candidates) {
    Json types = Json::object();
    for (const auto& [weight, type] : c.types) types[weight] = ggml_type_info(type).name;
    list.push_back({{"loss", optional_number(c.loss)}, {"recovered", optional_number(c.recovered)}, {"cost", c.cost}, {"types", std::move(types)}});
  }
  write_json(state, {{"fingerprint", fingerprint}, {"candidates", std::move(list)}});
}

/// Numbers of the candidates, the best first.
std::vector<size_t> ranked(const std::vector<Candidate>& candidates) {
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const Candidate &x = candidates[a], &y = candidates[b];
    if (x.recovered.has_value() != y.recovered.has_value()) return x.recovered.has_value();
    if (x.recovered && *x.recovered != *y.recovered) return *x.recovered < *y.recovered;
    return x.loss.value_or(INFINITY) < y.loss.value_or(INFINITY);
  });
  return order;
}

}  // namespace

bool has_search(const SearchConfig& config) { return !search_limit(config).unit.empty(); }

SearchLimit search_limit(const SearchConfig& config) {
  check(config.parameters >= 0 && config.bytes >= 0 && config.ms_per_token >= 0, "search", "a limit above 0", "one below");
  SearchLimit limit;
  for (const auto& [unit, most] : {std::pair<const char*, double>{"parameters", static_cast<double>(config.parameters)},
                                   {"bytes", static_cast<double>(config.bytes)}, {"ms_per_token", config.ms_per_token}}) {
    if (most <= 0) continue;
    check(limit.unit.empty(), "search", "one limit: parameters, bytes or ms_per_token", limit.unit + " and " + unit);
    limit.unit = unit, limit.most = most;
  }
  check(config.types.empty() || limit.unit == "bytes", "search.types", "search.bytes, a limit that types share with widths",
        limit.unit.empty() ? "no limit" : "search." + limit.unit);
  if (!config.types.empty()) limit.types = config.types;
  return limit;
}

std::vector<Candidate> search_candidates(const ModelSpec& spec, const PruneConfig& config, const std::map<int64_t, int64_t>& vocabularies,
                                         const SearchLimit& limit, uint64_t seed) {
  const SearchConfig& s = config.search;
  check(s.candidates > 0 && s.rows > 0 && s.finalists >= 0, "search", "candidates and rows above 0, finalists 0 or more");
  check(!s.depth.empty() && !s.hidden.empty() && !s.kv_heads.empty() && !s.heads.empty(), "search", "a share of every axis to try", "an empty list",
        "[1] leaves an axis alone");
  check(!config.per_layer, "search", "layers of equal widths", "per_layer", "leave per_layer out: what it gives is not known before the cut");
  check(config.ffn == 1 && config.heads == 1 && config.kv_heads == 1 && config.hidden == 1 && config.depth == 1 && config.parameters == 0, "search",
        "a search or shares", "both", "leave ffn, heads, kv_heads, hidden, depth and parameters out; search.hidden and the like say what is tried");
  const std::vector<Candidate> all = Enumeration(spec, config, vocabularies, limit).all();
  std::vector<Candidate> some;
  for (size_t i = 0; i < all.size(); ++i) {
    bool needless = false;
    for (size_t j = 0; j < all.size() && !needless; ++j)
      needless = j != i && holds(all[j].spec, all[i].spec) && (holds(all[i].spec, all[j].spec) ? j < i : all[i].type == all[j].type);
    if (!needless) some.push_back(all[i]);
  }
  if (static_cast<int64_t>(some.size()) <= s.candidates) return some;
  std::vector<int64_t> drawn = permutation(static_cast<int64_t>(some.size()), seed, stream_of("search"));
  drawn.resize(static_cast<size_t>(s.candidates));
  std::sort(drawn.begin(), drawn.end());
  std::vector<Candidate> out;
  for (int64_t i : drawn) out.push_back(some[static_cast<size_t>(i)]);
  log_warn(str("search: ", some.size(), " shapes lie within the limit, ", out.size(), " drawn ones are tried (search.candidates)"));
  return out;
}

size_t search_best(std::vector<Candidate>& candidates, const SearchConfig& config, const SearchJudges& judges, const fs::path& state,
                   const std::string& fingerprint, bool writes) {
  std::string shapes = fingerprint;
  for (const Candidate& c : candidates) shapes += "\n" + shape_words(c.spec) + " " + c.type;
  const std::string own = sha256(shapes);
  read_state(candidates, state, own);
  const auto keep = [&] {
    if (writes && !state.empty()) write_state(candidates, state, own);
  };
  const auto total = static_cast<int64_t>(candidates.size());
  Progress progress("search", total, "shapes");
  for (int64_t i = 0; i < total; ++i) {
    Candidate& candidate = candidates[static_cast<size_t>(i)];
    if (!candidate.loss) {
      candidate.loss = judges.loss(candidate);
      keep();
    }
    progress.update(i + 1, str("loss ", *candidate.loss));
  }
  progress.finish();
  // Finalists are those of least loss, whatever was recovered before.
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return *candidates[a].loss < *candidates[b].loss; });
  const auto finalists = std::min(order.size(), static_cast<size_t>(config.finalists));
  if (finalists > 1)
    for (size_t i = 0; i < finalists; ++i) {
      Candidate& candidate = candidates[order[i]];
      if (candidate.recovered) continue;
      log_info(str("recovering ", i + 1, " of ", finalists, ": ", shape_words(candidate.spec)));
      candidate.recovered = judges.recovered(candidate, order[i]);
      keep();
    }
  return ranked(candidates).front();
}

Json search_table(const std::vector<Candidate>& candidates, size_t best, const SearchLimit& limit) {
  Json list = Json::array();
  for (size_t i : ranked(candidates)) {
    const Candidate& c = candidates[i];
    const LayerSpec& layer = c.spec.layers.front();
    list.push_back({{"vocab", c.spec.vocab}, {"hidden", c.spec.hidden}, {"layers", c.spec.layers.size()}, {"heads", layer.heads},
                    {"kv_heads", layer.kv_heads}, {"ffn", layer.ffn}, {"parameters", parameter_count(c.spec)}, {"cost", c.cost},
                    {"loss", optional_number(c.loss)}, {"recovered", optional_number(c.recovered)}, {"chosen", i == best}});
    for (const auto& [weight, type] : c.types) {
      Json& count = list.back()["types"][ggml_type_info(type).name];
      count = (count.is_null() ? 0 : count.get<int64_t>()) + 1;
    }
  }
  return {{"unit", limit.unit}, {"limit", limit.most}, {"candidates", std::move(list)}};
}

}  // namespace attar
