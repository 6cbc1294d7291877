#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace attar {

/// How a server is asked: patience, limits, and where its key is found.
struct HttpOptions {
  double timeout = 300;            ///< seconds for one answer
  double connect_timeout = 10;     ///< seconds until the connection stands
  int64_t attempts = 6;            ///< tries of one request in all
  double first_wait = 0.5;         ///< seconds before the second try; doubled each time, with jitter from half of it to all of it
  double longest_wait = 60;        ///< seconds to which doubling leads
  double longest_asked = 600;      ///< seconds that a server may ask for by Retry-After; more is an Error
  int64_t size_limit = int64_t{256} << 20;  ///< bytes of one answer
  uint64_t seed = 0;               ///< of the jitter
  std::string key_variable;        ///< name of the environment variable that holds the server's key; empty: no key
};

/// A server spoken to over HTTP or HTTPS; any number of threads may use one client. Tried again after 408, 429, 500, 502, 503, 504 and lost or
/// refused connections. Redirects are not followed. The key stands in one header and nowhere else: no message, no log, no manifest.
class HttpClient {
 public:
  /// `base` is http://host[:port][/path] or https://...; Error for other schemes, for credentials, queries and fragments in it, and for a
  /// key's variable that is not set.
  HttpClient(const std::string& base, HttpOptions options);
  ~HttpClient();
  /// The address without a slash at its end; holds no credentials.
  const std::string& base() const;
  /// The answer's body. Error in one sentence with address, status and what the server said when no try gave a status of 2xx.
  std::string get(const std::string& path) const;
  std::string post(const std::string& path, const std::string& json) const;
  /// `text` with the key blotted out: for whatever a server said that goes into a message.
  std::string redacted(std::string text) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Does work(i) for i in [0, count), at most `concurrency` at once on threads of their own, begun in order; the first failure by number is thrown
/// when the others under way have ended. A signal to stop (base/signals.h) throws Stopped.
void for_each_at_once(int64_t count, int64_t concurrency, const std::function<void(int64_t)>& work);

/// Whether a text is an address that HttpClient takes for a server.
bool is_http_address(const std::string& text);

}  // namespace attar
