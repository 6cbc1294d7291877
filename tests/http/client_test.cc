#include "http/client.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/check.h"
#include "http_server.h"

namespace attar {
namespace {

HttpOptions quick_options() {
  HttpOptions options;
  options.timeout = 5;
  options.first_wait = 0.01;
  options.longest_wait = 0.05;
  return options;
}

std::string http_refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}
bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(HttpClient, SendsJsonAndGivesTheBody) {
  HttpTestServer server([](const ServedRequest& request) {
    EXPECT_EQ(request.headers.count("authorization"), 0u);
    if (request.method == "GET") return ServedAnswer{200, "got " + request.path};
    EXPECT_EQ(request.headers.at("content-type"), "application/json");
    return ServedAnswer{200, "posted " + request.path + " " + request.body};
  });
  const HttpClient client(server.address() + "/deep/", quick_options());
  EXPECT_EQ(client.base(), server.address() + "/deep");
  EXPECT_EQ(client.get("/v1/models"), "got /deep/v1/models");
  EXPECT_EQ(client.post("/x", "{\"a\":1}"), "posted /deep/x {\"a\":1}");
  EXPECT_EQ(client.post("/x", std::string(3 << 20, 'b')).size(), (3u << 20) + 15);
}

TEST(HttpClient, TriesAgainAfterBusyAndBrokenAnswers) {
  for (const int status : {408, 429, 500, 502, 503, 504}) {
    HttpTestServer server([status](const ServedRequest& request) { return ServedAnswer{request.number < 2 ? status : 200, "third"}; });
    EXPECT_EQ(HttpClient(server.address(), quick_options()).get("/"), "third") << status;
    EXPECT_EQ(server.requests(), 3);
  }
  HttpTestServer broken([](const ServedRequest& request) { return ServedAnswer{200, "whole answer", "", request.number == 0 ? 5 : -1}; });
  EXPECT_EQ(HttpClient(broken.address(), quick_options()).get("/"), "whole answer");
  EXPECT_EQ(broken.requests(), 2);
}

TEST(HttpClient, WhatCannotGetBetterIsNotTriedAgain) {
  for (const int status : {400, 401, 403, 404, 422, 301}) {
    HttpTestServer server([status](const ServedRequest&) {
      return ServedAnswer{status, "no\nsuch thing", "Location: https://elsewhere.example/\r\n"};
    });
    const std::string said = http_refusal([&] { HttpClient(server.address(), quick_options()).get("/a"); });
    EXPECT_EQ(server.requests(), 1);
    EXPECT_TRUE(says(said, server.address() + "/a") && says(said, "status " + std::to_string(status))) << said;
    EXPECT_EQ(said.find('\n'), std::string::npos);
    EXPECT_EQ(says(said, "redirects are not followed"), status == 301);
  }
}

TEST(HttpClient, GivesUpInOneSentence) {
  HttpTestServer server([](const ServedRequest&) { return ServedAnswer{503, "busy"}; });
  HttpOptions options = quick_options();
  options.attempts = 3;
  const std::string said = http_refusal([&] { HttpClient(server.address(), options).get("/"); });
  EXPECT_TRUE(says(said, "503") && says(said, "busy") && says(said, "3 times tried")) << said;
  EXPECT_EQ(server.requests(), 3);
  HttpTestServer cut([](const ServedRequest&) { return ServedAnswer{200, "whole answer", "", 5}; });
  EXPECT_TRUE(says(http_refusal([&] { HttpClient(cut.address(), options).get("/"); }), "broke off"));
  std::string nobody;
  {
    HttpTestServer gone([](const ServedRequest&) { return ServedAnswer{}; });
    nobody = gone.address();
  }
  EXPECT_TRUE(says(http_refusal([&] { HttpClient(nobody, options).get("/"); }), "3 times tried"));
}

TEST(HttpClient, WaitsAsLongAsTheServerAsks) {
  std::atomic<int64_t> first{0}, second{0};
  const auto now = [] { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
  HttpTestServer server([&](const ServedRequest& request) {
    (request.number == 0 ? first : second) = now();
    return ServedAnswer{request.number == 0 ? 429 : 200, "x", "Retry-After: 1\r\n"};
  });
  EXPECT_EQ(HttpClient(server.address(), quick_options()).get("/"), "x");
  EXPECT_GE(second - first, 990);
  HttpTestServer patient([](const ServedRequest&) { return ServedAnswer{503, "x", "Retry-After: 4000\r\n"}; });
  EXPECT_TRUE(says(http_refusal([&] { HttpClient(patient.address(), quick_options()).get("/"); }), "4000 s"));
  EXPECT_EQ(patient.requests(), 1);
}

TEST(HttpClient, LimitsTimeAndSize) {
  HttpTestServer slow([](const ServedRequest&) { return ServedAnswer{200, "late", "", -1, 1500}; });
  HttpOptions options = quick_options();
  options.timeout = 0.2;
  options.attempts = 2;
  EXPECT_TRUE(says(http_refusal([&] { HttpClient(slow.address(), options).get("/"); }), "2 times tried"));
  HttpTestServer long_one([](const ServedRequest&) { return ServedAnswer{200, std::string(100000, 'x')}; });
  options = quick_options();
  options.size_limit = 99999;
  EXPECT_TRUE(says(http_refusal([&] { HttpClient(long_one.address(), options).get("/"); }), "99999 bytes"));
  EXPECT_EQ(long_one.requests(), 1);
  options.size_limit = 100000;
  EXPECT_EQ(HttpClient(long_one.address(), options).get("/").size(), 100000u);
}

TEST(HttpClient, KeyGoesIntoOneHeaderAndIntoNoMessage) {
  ::setenv("ATTAR_TEST_SERVER_KEY", "sk-secret-123", 1);
  HttpOptions options = quick_options();
  options.key_variable = "ATTAR_TEST_SERVER_KEY";
  HttpTestServer server([](const ServedRequest& request) {
    EXPECT_EQ(request.headers.at("authorization"), "Bearer sk-secret-123");
    return ServedAnswer{401, std::string(280, '.') + "bad key sk-secret-123 given, not sk-secret-123"};
  });
  const HttpClient client(server.address(), options);
  ::testing::internal::CaptureStderr();
  const std::string said = http_refusal([&] { client.get("/"); });
  const std::string logged = ::testing::internal::GetCapturedStderr();
  EXPECT_TRUE(says(said, "401") && says(said, "bad key ***")) << said;
  EXPECT_FALSE(says(said + logged + client.base(), "secret"));
  for (const char* value : {"", "two words", "line\nInjected: yes"}) {
    ::setenv("ATTAR_TEST_SERVER_KEY", value, 1);
    const std::string refused = http_refusal([&] { HttpClient(server.address(), options); });
    EXPECT_TRUE(says(refused, "ATTAR_TEST_SERVER_KEY")) << refused;
    EXPECT_TRUE(!*value || !says(refused, value)) << refused;
  }
  ::unsetenv("ATTAR_TEST_SERVER_KEY");
  EXPECT_TRUE(says(http_refusal([&] { HttpClient(server.address(), options); }), "received nothing"));
}

TEST(HttpClient, AddressesWithSecretsOrOtherSchemesAreRefused) {
  for (const char* bad : {"ftp://host/", "file:///etc/passwd", "host:80", "http://", "", "gopher://x"}) {
    EXPECT_TRUE(says(http_refusal([&] { HttpClient(bad, quick_options()); }), "http:// or https://")) << bad;
  }
  for (const char* bad : {"http://user:hidden@host/", "https://hidden@host", "http://host/?key=hidden", "http://host/#hidden"}) {
    const std::string said = http_refusal([&] { HttpClient(bad, quick_options()); });
    EXPECT_TRUE(says(said, "address")) << said;
    EXPECT_FALSE(says(said, "hidden")) << said;
  }
}

TEST(HttpClient, RequestsAtOnceAreLimitedAndAllDone) {
  HttpTestServer server([](const ServedRequest& request) { return ServedAnswer{200, request.body + "!", "", -1, 20}; });
  const HttpClient client(server.address(), quick_options());
  std::vector<std::string> answers(24);
  for_each_at_once(24, 3, [&](int64_t i) { answers[static_cast<size_t>(i)] = client.post("/", std::to_string(i)); });
  for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i], std::to_string(i) + "!");
  EXPECT_EQ(server.most_at_once(), 3);
}

TEST(HttpClient, FirstFailureByNumberIsTheOneThatIsSaid) {
  std::atomic<int> begun{0};
  const std::string said = http_refusal([&] {
    for_each_at_once(100, 4, [&](int64_t i) {
      ++begun;
      if (i >= 2) fail("piece " + std::to_string(i));
    });
  });
  EXPECT_EQ(said.rfind("piece ", 0), 0u);
  EXPECT_LT(begun, 12) << "nothing new is begun after a failure";
}

}  // namespace
}  // namespace attar
