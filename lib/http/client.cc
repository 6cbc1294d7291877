#include "http/client.h"

#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/signals.h"
#include "base/utf8.h"

namespace attar {
namespace {

constexpr size_t kShownBody = 300;       ///< bytes of a server's own words in a message
constexpr size_t kReadForWords = 65536;  ///< much more than is shown, so that a key is found whole before the text is cut

/// libcurl's own state, made once for the process.
void start_curl() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(started == CURLE_OK, "libcurl", "to start", curl_easy_strerror(started));
}

std::string url_part(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, 0) != CURLUE_OK) return "";
  const std::string out = text;
  curl_free(text);
  return out;
}

}  // namespace

/// One connection of libcurl's, outside the anonymous namespace because HttpClient::State holds it.
struct EasyHandle {
  CURL* handle = curl_easy_init();
  EasyHandle() { check(handle != nullptr, "libcurl", "a handle", "none"); }
  ~EasyHandle() { curl_easy_cleanup(handle); }
  EasyHandle(const EasyHandle&) = delete;
  EasyHandle& operator=(const EasyHandle&) = delete;
  template <class T>
  void set(CURLoption option, T value) {
    const CURLcode code = curl_easy_setopt(handle, option, value);
    check(code == CURLE_OK, "libcurl", "to know its options", curl_easy_strerror(code));
  }
};

namespace {

/// The header lines of a request.
struct HeaderList {
  curl_slist* first = nullptr;
  ~HeaderList() { curl_slist_free_all(first); }
  void add(const std::string& line) { first = curl_slist_append(first, line.c_str()); }
};

struct ReceivedBody {
  std::string text;
  int64_t limit = 0;
  bool too_long = false;
};

size_t receive_body(char* data, size_t size, size_t count, void* into) {
  auto& body = *static_cast<ReceivedBody*>(into);
  if (body.text.size() + size * count > static_cast<size_t>(body.limit)) {
    body.too_long = true;
    return 0;  // libcurl ends the transfer
  }
  body.text.append(data, size * count);
  return size * count;
}

/// Called by libcurl several times a second: anything but 0 ends the transfer.
int stop_transfer(void* /*unused*/, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return stop_signal() ? 1 : 0; }

bool worth_another_try(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
      return true;
    default:
      return false;
  }
}

bool status_worth_another_try(long status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

void wait_or_stop(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  while (Clock::now() < end) {
    stop_if_asked();
    std::this_thread::sleep_for(std::min<Clock::duration>(end - Clock::now(), std::chrono::milliseconds(100)));
  }
}

bool is_this_machine(const std::string& host) { return host == "localhost" || host == "[::1]" || host.starts_with("127."); }

/// Where a system that is not Debian keeps the certificates it trusts; nothing: libcurl's own place.
std::optional<std::string> certificates() {
  for (const char* variable : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    if (const char* given = std::getenv(variable); given && *given) return given;
  }
  for (const char* place :
       {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    if (std::filesystem::exists(place)) return place;
  }
  return {};
}

}  // namespace

struct HttpClient::State {
  std::string base, host, key;
  HttpOptions options;
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<EasyHandle>> idle;  ///< handles keep their connection open
  mutable std::atomic<uint64_t> waits{0};

  std::unique_ptr<EasyHandle> take() const {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return std::make_unique<EasyHandle>();
    auto handle = std::move(idle.back());
    idle.pop_back();
    return handle;
  }
  void give_back(std::unique_ptr<EasyHandle> handle) const {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(handle));
  }

  /// What one try came to: a body, or why not and whether another may help.
  struct Outcome {
    std::string body;
    std::string fault, expected, hint;
    bool again = false;
    double asked_wait = 0;
  };

  Outcome once(const HttpClient& client, const std::string& path, const std::string* json) const {
    auto easy = take();
    curl_easy_reset(easy->handle);
    const std::string url = base + path;
    HeaderList headers;
    headers.add("Accept: application/json");
    headers.add("Expect:");
    if (json) headers.add("Content-Type: application/json");
    if (!key.empty()) headers.add("Authorization: Bearer " + key);
    ReceivedBody body{{}, options.size_limit, false};
    char reason[CURL_ERROR_SIZE] = "";
    easy->set(CURLOPT_URL, url.c_str());
    easy->set(CURLOPT_PROTOCOLS_STR, "http,https");
    easy->set(CURLOPT_FOLLOWLOCATION, 0L);
    easy->set(CURLOPT_NOSIGNAL, 1L);
    easy->set(CURLOPT_ERRORBUFFER, reason);
    easy->set(CURLOPT_HTTPHEADER, headers.first);
    easy->set(CURLOPT_USERAGENT, "attar/" ATTAR_VERSION);
    easy->set(CURLOPT_ACCEPT_ENCODING, "");
    easy->set(CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout * 1000));
    easy->set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout * 1000));
    easy->set(CURLOPT_WRITEFUNCTION, receive_body);
    easy->set(CURLOPT_WRITEDATA, &body);
    easy->set(CURLOPT_XFERINFOFUNCTION, stop_transfer);
    easy->set(CURLOPT_NOPROGRESS, 0L);
    if (is_this_machine(host)) easy->set(CURLOPT_PROXY, "");
    if (base.starts_with("https:")) {
      if (const auto file = certificates()) easy->set(CURLOPT_CAINFO, file->c_str());
    }
    if (json) {
      easy->set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(json->size()));
      easy->set(CURLOPT_POSTFIELDS, json->c_str());
    }
    const CURLcode code = curl_easy_perform(easy->handle);
    stop_if_asked();
    Outcome out;
    if (body.too_long) {
      out.fault = "more";
      out.expected = str("an answer of at most ", options.size_limit, " bytes");
      return out;
    }
    if (code != CURLE_OK) {
      const std::string said = client.redacted(one_line(*reason ? reason : curl_easy_strerror(code)));
      out.fault = code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING ? "one that broke off (" + said + ")" : said;
      out.expected = "an answer";
      out.again = worth_another_try(code);
      return out;
    }
    long status = 0;
    curl_easy_getinfo(easy->handle, CURLINFO_RESPONSE_CODE, &status);
    curl_off_t asked = 0;
    curl_easy_getinfo(easy->handle, CURLINFO_RETRY_AFTER, &asked);
    give_back(std::move(easy));
    if (status >= 200 && status < 300) {
      out.body = std::move(body.text);
      return out;
    }
    const std::string words = client.redacted(one_line(body.text.substr(0, kReadForWords))).substr(0, kShownBody);
    out.fault = str("status ", status, words.empty() ? "" : ": ", words);
    out.expected = "status 200";
    out.again = status_worth_another_try(status);
    out.asked_wait = static_cast<double>(asked);
    if (status == 401 || status == 403)
      out.hint = key.empty() ? "name the environment variable that holds the server's key" : "the server does not take the key";
    if (status >= 300 && status < 400) out.hint = "redirects are not followed: name the address itself";
    return out;
  }

  std::string ask(const HttpClient& client, const std::string& path, const std::string* json) const {
    double wait = options.first_wait;
    for (int64_t attempt = 1;; ++attempt) {
      Outcome outcome = once(client, path, json);
      if (outcome.fault.empty()) return std::move(outcome.body);
      const std::string what = "server " + base + path;
      if (outcome.again && outcome.asked_wait > options.longest_asked) {
        fail(what, outcome.expected, outcome.fault, str("the server asks to wait ", outcome.asked_wait, " s: run again later, what is done is kept"));
      }
      if (!outcome.again || attempt >= options.attempts) {
        fail(what, outcome.expected, outcome.fault + (attempt > 1 ? str(", ", attempt, " times tried") : ""), outcome.hint);
      }
      Rng jitter(options.seed, stream_of("http waits"), waits++);
      const double seconds = std::max(outcome.asked_wait, wait * (0.5 + 0.5 * jitter.uniform()));
      log_debug(str(what, ": ", outcome.fault, "; tried again in ", human_seconds(seconds)));
      wait_or_stop(seconds);
      wait = std::min(wait * 2, options.longest_wait);
    }
  }
};

HttpClient::HttpClient(const std::string& base, HttpOptions options) : state_(new State) {
  start_curl();
  check(options.timeout > 0 && options.attempts >= 1 && options.size_limit >= 1, "a server's timeout, attempts and size limit", "above 0",
        str(options.timeout, ", ", options.attempts, ", ", options.size_limit));
  CURLU* url = curl_url();
  const CURLUcode code = curl_url_set(url, CURLUPART_URL, base.c_str(), CURLU_NON_SUPPORT_SCHEME);
  const std::string scheme = url_part(url, CURLUPART_SCHEME), port = url_part(url, CURLUPART_PORT), query = url_part(url, CURLUPART_QUERY),
                    fragment = url_part(url, CURLUPART_FRAGMENT), user = url_part(url, CURLUPART_USER), password = url_part(url, CURLUPART_PASSWORD);
  state_->host = url_part(url, CURLUPART_HOST);
  std::string path = url_part(url, CURLUPART_PATH);
  curl_url_cleanup(url);
  // The address is shown only when it is known to hold no secret.
  check(user.empty() && password.empty(), "a server's address", "no user and no password in it", "some",
        "put the key into an environment variable and name that");
  check(query.empty() && fragment.empty(), "a server's address", "http://host:port[/path]", "a '?' or '#' in it");
  check(code == CURLUE_OK && (scheme == "http" || scheme == "https") && !state_->host.empty(), "a server's address", "http:// or https:// and a host",
        "'" + base.substr(0, 200) + "'");
  while (!path.empty() && path.back() == '/') path.pop_back();
  state_->base = scheme + "://" + state_->host + (port.empty() ? "" : ":" + port) + path;
  if (!options.key_variable.empty()) {
    const char* key = std::getenv(options.key_variable.c_str());
    check(key && *key, "environment variable " + options.key_variable, "the server's key", key ? "an empty one" : "nothing");
    const std::string value = key;
    check(std::all_of(value.begin(), value.end(), [](unsigned char c) { return c > 32 && c < 127; }), "environment variable " + options.key_variable,
          "a key of printable characters without blanks", "another text");
    if (scheme == "http" && !is_this_machine(state_->host)) log_warn("the key goes to " + state_->base + " unencrypted");
    state_->key = value;
  }
  state_->options = std::move(options);
}

HttpClient::~HttpClient() = default;
const std::string& HttpClient::base() const { return state_->base; }
std::string HttpClient::get(const std::string& path) const { return state_->ask(*this, path, nullptr); }
std::string HttpClient::post(const std::string& path, const std::string& json) const { return state_->ask(*this, path, &json); }

std::string HttpClient::redacted(std::string text) const {
  const std::string& key = state_->key;
  if (key.empty()) return text;
  for (size_t at = text.find(key); at != std::string::npos; at = text.find(key, at)) text.replace(at, key.size(), "***");
  return text;
}

void for_each_at_once(int64_t count, int64_t concurrency, const std::function<void(int64_t)>& work) {
  check(concurrency >= 1 && concurrency <= 1024, "concurrency", "1 to 1024", str(concurrency));
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  int64_t first_failed = count;
  std::exception_ptr failure;
  const auto worker = [&] {
    for (int64_t i = next++; i < count && !failed; i = next++) {
      try {
        stop_if_asked();
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < first_failed) first_failed = i, failure = std::current_exception();
        failed = true;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int64_t i = 1; i < std::min(concurrency, count); ++i) threads.emplace_back(worker);
  worker();
  for (std::thread& thread : threads) thread.join();
  stop_if_asked();
  if (failure) std::rethrow_exception(failure);
}

bool is_http_address(const std::string& text) { return text.starts_with("http://") || text.starts_with("https://"); }

}  // namespace attar
