#include "teacher/server_teacher.h"

#include <cmath>

#include "base/check.h"
#include "base/hash.h"
#include "base/signals.h"
#include "byte_tokenizer.h"
#include "cache_cases.h"
#include "distill/distill_loss.h"
#include "http_server.h"

namespace attar {
namespace {

constexpr int64_t kServedK = 6;

/// What the served model says after a prefix: log-probabilities of all ids, its own for every prefix.
std::vector<double> served_distribution(const std::vector<int32_t>& prefix) {
  Rng rng(23, stream_of(std::string(reinterpret_cast<const char*>(prefix.data()), prefix.size() * 4)));
  std::vector<double> out(261);
  double sum = 0;
  for (double& value : out) sum += std::exp(value = rng.normal() * 3);
  for (double& value : out) value -= std::log(sum);
  return out;
}

std::vector<int32_t> by_falling(const std::vector<double>& values) {
  std::vector<int32_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)]; });
  return order;
}

Json models_list(const std::string& owner) {
  return {{"object", "list"}, {"data", Json::array({{{"id", "big"}, {"object", "model"}, {"owned_by", owner}}})}};
}

/// vLLM's answer to a completion request with prompt_logprobs.
Json vllm_answer(const std::string& body) {
  const Json question = Json::parse(body);
  const auto ids = question["prompt"].get<std::vector<int32_t>>();
  const auto k = question["prompt_logprobs"].get<int64_t>();
  Json list = Json::array({nullptr});
  for (size_t t = 1; t < ids.size(); ++t) {
    const std::vector<double> said = served_distribution({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(t)});
    const std::vector<int32_t> order = by_falling(said);
    Json entries = Json::object();
    for (size_t rank = 0; rank < order.size(); ++rank) {
      if (static_cast<int64_t>(rank) >= k && order[rank] != ids[t]) continue;
      entries[std::to_string(order[rank])] = {{"logprob", said[static_cast<size_t>(order[rank])]}, {"rank", rank + 1}, {"decoded_token", "x"}};
    }
    list.push_back(entries);
  }
  return {{"id", "cmpl-1"},
          {"model", question["model"]},
          {"choices", Json::array({{{"index", 0}, {"text", "x"}, {"prompt_logprobs", list}, {"prompt_token_ids", ids}}})}};
}

using ChangeAnswer = std::function<void(const ServedRequest&, ServedAnswer&)>;
HttpTestServer::Handler vllm_server(const ChangeAnswer& change = {}) {
  return [change](const ServedRequest& request) {
    ServedAnswer out;
    out.body = request.path == "/v1/models" ? models_list("vllm").dump() : vllm_answer(request.body).dump();
    if (change) change(request, out);
    return out;
  };
}

/// Rows of small_rows as the byte tokenizer's ids.
TokenRows served_rows() { return small_rows(9, 24, 261); }

CacheIdentity served_identity(const ServerTeacher& teacher) {
  CacheIdentity identity = cache_identity("top_k", 261);
  identity.codec.k = kServedK;
  identity.teacher = teacher.fingerprint();
  return identity;
}

ServerConfig patient_server(int64_t attempts = 1) {
  ServerConfig config;
  config.attempts = attempts;
  config.concurrency = 3;
  config.timeout = 10;
  return config;
}

Json capture_served(const std::string& address, const ServerConfig& config, const fs::path& folder) {
  const ServerTeacher teacher(address, config, std::make_shared<ByteTokenizer>(), kServedK, 1);
  return capture_said([&](const RowSegment& segment) { return teacher.ask(segment); }, served_rows(), served_identity(teacher), config.concurrency, 4,
                      folder);
}

std::string served_refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

void expect_served_distributions(const fs::path& folder) {
  const CacheReader reader(folder);
  const TokenRows rows = served_rows();
  int64_t positions = 0;
  for (int64_t row = 0; row < rows.rows(); ++row) {
    const Batch batch = make_batch(rows, {row});
    const LogitTargets targets = reader.targets(batch);
    for (const RowSegment& segment : segments_of(rows, row, row + 1)) {
      for (size_t t = 1; t < segment.ids.size(); ++t) {
        if (!segment.wanted[t]) continue;
        const std::vector<double> truth = served_distribution({segment.ids.begin(), segment.ids.begin() + static_cast<std::ptrdiff_t>(t)});
        const std::vector<int32_t> order = by_falling(truth);
        const int64_t n = segment.begin + static_cast<int64_t>(t) - 1;
        double mass = 0;
        for (int64_t i = 0; i < kServedK; ++i) {
          const double p = std::exp(truth[static_cast<size_t>(order[static_cast<size_t>(i)])]);
          EXPECT_EQ(targets.ids[n][i].item<int32_t>(), order[static_cast<size_t>(i)]);
          EXPECT_NEAR(targets.probs[n][i].item<double>(), p, 2e-3);
          mass += p;
        }
        EXPECT_NEAR(targets.tail[n].item<double>(), 1 - mass, 2e-3);
        ++positions;
      }
    }
  }
  EXPECT_GT(positions, 20);
}

TEST(ServerTeacher, VllmsPromptLogprobsBecomeACache) {
  TestFolder folder;
  HttpTestServer server(vllm_server());
  const Json statistics = capture_served(server.address() + "/v1", patient_server(), folder / "cache");
  EXPECT_TRUE(verify_cache(folder / "cache").empty());
  EXPECT_EQ(CacheReader(folder / "cache").identity().teacher, "vllm big at " + server.address());
  EXPECT_EQ(statistics["distinct_ids"], static_cast<double>(kServedK));
  expect_served_distributions(folder / "cache");
  EXPECT_LE(server.most_at_once(), 3);
}

TEST(ServerTeacher, LlamaServersPositionsBecomeTheSame) {
  TestFolder folder;
  HttpTestServer server([](const ServedRequest& request) {
    if (request.path == "/v1/models") return ServedAnswer{200, models_list("llamacpp").dump()};
    const Json question = Json::parse(request.body);
    const auto ids = question["prompt"].get<std::vector<int32_t>>();
    const std::vector<double> said = served_distribution(ids);
    Json top = Json::array();
    for (int64_t i = 0; i < question["n_probs"].get<int64_t>(); ++i) {
      const int32_t id = by_falling(said)[static_cast<size_t>(i)];
      top.push_back({{"id", id}, {"token", "x"}, {"logprob", said[static_cast<size_t>(id)]}});
    }
    const Json answer = {{"model", "big"},
                         {"tokens_evaluated", ids.size()},
                         {"completion_probabilities", Json::array({{{"id", 7}, {"logprob", -1}, {"top_logprobs", top}}})}};
    return ServedAnswer{200, answer.dump()};
  });
  capture_served(server.address(), patient_server(), folder / "cache");
  expect_served_distributions(folder / "cache");
}

/// llama-cpp-python's answer: text in, tokens named by text, BOS left out, the first after it null.
Json echo_answer(const std::string& body) {
  const Json question = Json::parse(body);
  const ByteTokenizer tokenizer;
  std::vector<int32_t> ids = tokenizer.encode(question["prompt"].get<std::string>(), true);
  ids.insert(ids.begin(), 1);
  Json tokens = Json::array(), own = Json::array(), top = Json::array();
  for (size_t t = 1; t <= ids.size(); ++t) {
    const std::vector<double> said = served_distribution({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(t)});
    const int32_t now = t < ids.size() ? ids[t] : 100;
    tokens.push_back(tokenizer.decode({now}));
    own.push_back(t == 1 ? Json() : Json(said[static_cast<size_t>(now)]));
    Json entries = Json::object();
    for (const int32_t id : by_falling(said)) {
      if (id - 5 >= 128 || static_cast<int64_t>(entries.size()) >= question["logprobs"].get<int64_t>()) continue;
      entries[tokenizer.decode({id})] = said[static_cast<size_t>(id)];
    }
    entries[tokenizer.decode({now})] = said[static_cast<size_t>(now)];
    top.push_back(t == 1 ? Json() : entries);
  }
  const Json logprobs = {{"tokens", tokens}, {"text_offset", Json::array()}, {"token_logprobs", own}, {"top_logprobs", top}};
  return {{"model", question["model"]}, {"choices", Json::array({{{"index", 0}, {"text", "x"}, {"logprobs", logprobs}}})}};
}

TokenRows text_rows() {
  TokenRows rows = small_rows(2, 24, 261);
  const ByteTokenizer tokenizer;
  for (int64_t r = 0; r < 2; ++r) {
    std::vector<int32_t> ids = tokenizer.encode(r == 0 ? "some words here" : "and others");
    ids.insert(ids.begin(), 1);
    rows.lengths[r] = static_cast<int32_t>(ids.size());
    rows.segments[r].fill_(-1);
    rows.learn[r].fill_(1);
    for (size_t t = 0; t < ids.size(); ++t) rows.ids[r][static_cast<int64_t>(t)] = ids[t], rows.segments[r][static_cast<int64_t>(t)] = 0;
  }
  return rows;
}

TEST(ServerTeacher, EchoedTextIsMappedBackToIds) {
  TestFolder folder;
  HttpTestServer server([](const ServedRequest& request) {
    return ServedAnswer{200, request.path == "/v1/models" ? models_list("me").dump() : echo_answer(request.body).dump()};
  });
  const ServerTeacher teacher(server.address(), patient_server(), std::make_shared<ByteTokenizer>(), kServedK, 1);
  EXPECT_EQ(teacher.fingerprint(), "echo big at " + server.address());
  const TokenRows rows = text_rows();
  capture_said([&](const RowSegment& segment) { return teacher.ask(segment); }, rows, served_identity(teacher), 2, 2, folder / "cache");
  const CacheReader reader(folder / "cache");
  const Batch batch = make_batch(rows, {0});
  const LogitTargets targets = reader.targets(batch);
  const std::vector<int32_t> ids = segments_of(rows, 0, 1)[0].ids;
  for (size_t t = 2; t < ids.size(); ++t) {
    const std::vector<double> truth = served_distribution({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(t)});
    const auto n = static_cast<int64_t>(t) - 1;
    double before = 1;
    for (int64_t i = 0; i < kServedK; ++i) {
      const auto id = targets.ids[n][i].item<int32_t>();
      ASSERT_GE(id, 0);
      const double p = targets.probs[n][i].item<double>();
      EXPECT_NEAR(p, std::exp(truth[static_cast<size_t>(id)]), 2e-3);
      EXPECT_LE(p, before + 1e-6);
      before = p;
    }
  }
  // Nothing is known after BOS: no id, all mass in the tail, and so neither loss nor gradient.
  EXPECT_FALSE(targets.ids[0].ge(0).any().item<bool>());
  EXPECT_EQ(targets.tail[0].item<double>(), 1);
  at::Tensor labels = at::full_like(batch.at("labels").flatten(), -100);
  labels[0] = ids[1];
  const at::Tensor hidden = at::randn({labels.size(0), 8}), weight = at::randn({261, 8});
  LossWeights weights;
  weights.kl = 1;
  const LinearLossResult loss = linear_loss(hidden, weight, targets, labels, {}, weights, 0, 261, true);
  EXPECT_NEAR(loss.loss.item<double>(), 0, 1e-6);
  EXPECT_LT(loss.grad_hidden.abs().max().item<double>(), 1e-6);
}

TEST(ServerTeacher, TextThatDoesNotComeBackIsRefused) {
  HttpTestServer server([](const ServedRequest& request) {
    Json answer = request.path == "/v1/models" ? models_list("me") : echo_answer(request.body);
    if (request.path != "/v1/models" && request.body.find("others") != std::string::npos) answer["choices"][0]["logprobs"]["tokens"][3] = "th";
    return ServedAnswer{200, answer.dump()};
  });
  const ServerTeacher teacher(server.address(), patient_server(), std::make_shared<ByteTokenizer>(), kServedK, 1);
  const TokenRows rows = text_rows();
  const auto segments = segments_of(rows, 0, 2);
  EXPECT_EQ(teacher.ask(segments[0]).size(), segments[0].ids.size());
  EXPECT_NE(served_refusal([&] { teacher.ask(segments[1]); }).find("cut the text into other tokens"), std::string::npos);
  RowSegment cut = segments[0];  // a document's later part does not begin with BOS
  cut.ids.erase(cut.ids.begin());
  cut.wanted.erase(cut.wanted.begin());
  EXPECT_NE(served_refusal([&] { teacher.ask(cut); }).find("--data.pack false"), std::string::npos);
}

TEST(ServerTeacher, EveryFalseAnswerIsOneSentence) {
  struct FalseAnswer {
    const char* what;
    std::string sentence;
    ChangeAnswer change;
  };
  const auto entries = [](Json& answer) -> Json& { return answer["choices"][0]["prompt_logprobs"]; };
  const auto changed = [&](const std::function<void(Json&, Json&)>& change) {
    return [=](const ServedRequest& request, ServedAnswer& out) {
      if (request.path == "/v1/models") return;
      Json answer = Json::parse(out.body);
      change(answer, entries(answer));
      out.body = answer.dump();
    };
  };
  const auto text = [](const std::string& from, const std::string& to) {
    return [=](const ServedRequest& request, ServedAnswer& out) {
      if (request.path == "/v1/models") return;
      const size_t at = out.body.find(from);
      if (at != std::string::npos) out.body.replace(at, from.size(), to);
    };
  };
  const std::vector<FalseAnswer> cases = {
      {"garbage", "JSON",
       [](const ServedRequest& r, ServedAnswer& out) {
         if (r.path != "/v1/models") out.body = "<html>no</html>";
       }},
      {"half", "broke off",
       [](const ServedRequest& r, ServedAnswer& out) {
         if (r.path != "/v1/models") out.send_only = static_cast<int64_t>(out.body.size() / 2);
       }},
      {"half, but said to be whole", "JSON",
       [](const ServedRequest& r, ServedAnswer& out) {
         if (r.path != "/v1/models") out.body.resize(out.body.size() / 2);
       }},
      {"NaN", "server", text("\"logprob\":", "\"logprob\":NaN,\"was\":")},
      {"NaN as text", "a number", changed([](Json&, Json& list) { list[1].begin().value()["logprob"] = "NaN"; })},
      {"beyond doubles", "server", text("\"logprob\":", "\"logprob\":-1e999,\"was\":")},
      {"above 0", "at most 0", changed([](Json&, Json& list) { list[1].begin().value()["logprob"] = 0.5; })},
      {"a sum above 1", "at most 1", changed([](Json&, Json& list) {
         for (auto& [key, entry] : list[1].items()) entry["logprob"] = -0.1;
       })},
      {"short list", "positions", changed([](Json&, Json& list) { list.erase(list.size() - 1); })},
      {"few ids", "the 6 likeliest", changed([](Json&, Json& list) {
         while (list[1].size() > 3) list[1].erase(list[1].begin());
       })},
      {"unsorted", "falling with their rank", changed([](Json&, Json& list) { list[1].begin().value()["logprob"] = -40; })},
      {"another tokenizer", "the prompt's token", changed([](Json&, Json& list) {
         list[1] = {{"300", {{"logprob", -1}, {"rank", 1}}}};
       })},
      {"an id beyond the vocabulary", "in [0, 261)", text("\"rank\":1,", "\"rank\":1,")},
      {"a word for an id", "a token id", changed([](Json&, Json& list) {
         list[1]["the"] = {{"logprob", -1}, {"rank", 7}};
       })},
      {"other ids read", "prompt_token_ids", changed([](Json& answer, Json&) { answer["choices"][0]["prompt_token_ids"][0] = 77; })},
      {"no list", "prompt_logprobs", changed([](Json& answer, Json&) { answer["choices"][0].erase("prompt_logprobs"); })},
      {"no choices", "choices", changed([](Json& answer, Json&) { answer["choices"] = Json::array(); })},
      {"another model", "'big'", changed([](Json& answer, Json&) { answer["model"] = "small"; })},
      {"an error inside", "overloaded", changed([](Json& answer, Json&) {
         answer["error"] = {{"message", "overloaded"}};
       })},
  };
  for (const FalseAnswer& one : cases) {
    SCOPED_TRACE(one.what);
    TestFolder folder;
    ChangeAnswer change = one.change;
    if (std::string(one.what) == "an id beyond the vocabulary") {
      change = changed([](Json& answer, Json& list) {
        // One of the likeliest ids gets another number; the label's entry stays.
        const std::string label = answer["choices"][0]["prompt_token_ids"][1].dump();
        const std::string key = list[1].begin().key() == label ? std::next(list[1].begin()).key() : list[1].begin().key();
        const Json value = list[1][key];
        list[1].erase(key);
        list[1]["900"] = value;
      });
    }
    HttpTestServer server(vllm_server(change));
    const std::string said = served_refusal([&] { capture_served(server.address(), patient_server(), folder / "cache"); });
    EXPECT_NE(said.find(one.sentence), std::string::npos) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos) << said;
    EXPECT_TRUE(said.find(server.address()) != std::string::npos || said.starts_with("row ")) << said;
    EXPECT_FALSE(fs::exists(folder / "cache" / "manifest.json"));
  }
}

TEST(ServerTeacher, ModelAndKindAreCheckedFirst) {
  HttpTestServer server([](const ServedRequest&) {
    Json list = models_list("someone");
    list["data"].push_back({{"id", "small"}, {"owned_by", "vllm"}});
    return ServedAnswer{200, list.dump()};
  });
  const auto tokenizer = std::make_shared<ByteTokenizer>();
  ServerConfig config = patient_server();
  const auto refused = [&] { return served_refusal([&] { ServerTeacher(server.address(), config, tokenizer, kServedK, 1); }); };
  EXPECT_NE(refused().find("big, small"), std::string::npos) << "two models, none named";
  config.model = "huge";
  EXPECT_NE(refused().find("model 'huge', received big, small"), std::string::npos) << refused();
  config.model = "big";
  EXPECT_NE(refused().find("'someone'"), std::string::npos) << refused();
  config.api = "vlm";
  EXPECT_NE(refused().find("did you mean 'vllm'?"), std::string::npos) << refused();
  config.model = "small", config.api = "auto";
  EXPECT_EQ(refused(), "accepted");
}

TEST(ServerTeacher, WhatIsDoneIsKeptAndBytesAreThoseOfAnUndisturbedCapture) {
  TestFolder folder;
  std::atomic<int64_t> allowed{1000000};
  std::atomic<int64_t> completions{0};
  HttpTestServer server(vllm_server([&](const ServedRequest& request, ServedAnswer& out) {
    if (request.path == "/v1/models") return;
    if (completions++ >= allowed) out = {503, "busy"};
  }));
  capture_served(server.address(), patient_server(), folder / "whole");
  const auto whole = folder_bytes_by_name(folder / "whole");
  const int64_t all = completions;
  for (int64_t after = 1; after < all; after += 3) {
    SCOPED_TRACE(after);
    const fs::path place = folder / std::to_string(after);
    completions = 0, allowed = after;
    EXPECT_NE(served_refusal([&] { capture_served(server.address(), patient_server(), place); }).find("503"), std::string::npos);
    completions = 0, allowed = 1000000;
    capture_served(server.address(), patient_server(), place);
    EXPECT_EQ(folder_bytes_by_name(place), whole);
    EXPECT_TRUE(after <= all / 2 || completions < all) << "finished shards are not asked for again";
  }
}

TEST(ServerTeacher, BusyThenGoodIsTheSameCache) {
  TestFolder folder;
  HttpTestServer good(vllm_server());
  std::atomic<int64_t> count{0};
  HttpTestServer moody(vllm_server([&](const ServedRequest&, ServedAnswer& out) {
    const int64_t now = count++;
    if (now % 3 == 0) out = {now % 2 ? 503 : 429, "busy"};
    else if (now % 7 == 0) out.send_only = 10;
  }));
  const Json one = capture_served(good.address(), patient_server(), folder / "good");
  EXPECT_EQ(capture_served(moody.address(), patient_server(6), folder / "moody"), one);
  for (const char* name : {"rows-00000000.h5", "rows-00000004.h5", "rows-00000008.h5"})
    EXPECT_EQ(read_file(folder / "good" / name), read_file(folder / "moody" / name));
}

TEST(ServerTeacher, KeyStandsInNoMessageAndNoFile) {
  TestFolder folder;
  ::setenv("ATTAR_TEST_TEACHER_KEY", "sk-hidden-9", 1);
  ServerConfig config = patient_server();
  config.key_env = "ATTAR_TEST_TEACHER_KEY";
  std::atomic<bool> leak{false};
  HttpTestServer server(vllm_server([&](const ServedRequest& request, ServedAnswer& out) {
    EXPECT_EQ(request.headers.at("authorization"), "Bearer sk-hidden-9");
    if (leak && request.path != "/v1/models") out.body = R"({"error": "your key sk-hidden-9 has no credit"})";
  }));
  ::testing::internal::CaptureStderr();
  capture_served(server.address(), config, folder / "cache");
  leak = true;
  const std::string said = served_refusal([&] { capture_served(server.address(), config, folder / "other"); });
  EXPECT_NE(said.find("your key *** has no credit"), std::string::npos) << said;
  std::string all = said + ::testing::internal::GetCapturedStderr();
  for (const auto& [name, bytes] : folder_bytes_by_name(folder / "cache")) all += bytes;
  EXPECT_EQ(all.find("sk-hidden"), std::string::npos);
  ::unsetenv("ATTAR_TEST_TEACHER_KEY");
}

}  // namespace
}  // namespace attar
