#pragma once
// A small real HTTP server inside the test's process: plain sockets on a port of the loopback device, one thread a connection.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace attar {

struct ServedRequest {
  std::string method, path, body;
  std::map<std::string, std::string> headers;  ///< names in lower case
  int64_t number = 0;                          ///< of the request, from 0
};

struct ServedAnswer {
  int status = 200;
  std::string body;
  std::string headers;       ///< further lines, each ending in \r\n
  int64_t send_only = -1;    ///< closes after so many bytes of the body, though all were promised
  int hold_ms = 0;           ///< waits before it answers
};

class HttpTestServer {
 public:
  using Handler = std::function<ServedAnswer(const ServedRequest&)>;
  explicit HttpTestServer(Handler handler) : handler_(std::move(handler)) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    const int yes = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(socket_, 64) != 0)
      throw std::runtime_error("no port for the test's server");
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~HttpTestServer() {
    stopped_ = true;
    ::shutdown(socket_, SHUT_RDWR);
    acceptor_.join();
    ::close(socket_);
    for (std::thread& thread : threads_) thread.join();
  }
  HttpTestServer(const HttpTestServer&) = delete;
  HttpTestServer& operator=(const HttpTestServer&) = delete;

  std::string address() const { return "http://127.0.0.1:" + std::to_string(port_); }
  int port() const { return port_; }
  int64_t requests() const { return requests_; }
  int most_at_once() const { return most_; }

 private:
  void accept_all() {
    while (!stopped_) {
      const int connection = ::accept(socket_, nullptr, nullptr);
      if (connection < 0) continue;
      threads_.emplace_back([this, connection] {
        serve(connection);
        ::close(connection);
      });
    }
  }

  void serve(int connection) {
    std::string text;
    size_t head = std::string::npos;
    while ((head = text.find("\r\n\r\n")) == std::string::npos)
      if (!more(connection, text)) return;
    ServedRequest request;
    const size_t first = text.find(' '), second = text.find(' ', first + 1);
    request.method = text.substr(0, first);
    request.path = text.substr(first + 1, second - first - 1);
    for (size_t at = text.find("\r\n") + 2; at < head;) {
      const size_t end = text.find("\r\n", at), colon = text.find(':', at);
      std::string name = text.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      request.headers[name] = text.substr(std::min(colon + 2, end), end - std::min(colon + 2, end));
      at = end + 2;
    }
    const size_t length = request.headers.count("content-length") ? std::stoul(request.headers["content-length"]) : 0;
    while (text.size() < head + 4 + length)
      if (!more(connection, text)) return;
    request.body = text.substr(head + 4, length);
    request.number = requests_++;
    const int now = ++open_;
    for (int seen = most_; now > seen && !most_.compare_exchange_weak(seen, now);) {
    }
    const ServedAnswer answer = handler_(request);
    if (answer.hold_ms) std::this_thread::sleep_for(std::chrono::milliseconds(answer.hold_ms));
    --open_;
    std::string out = "HTTP/1.1 " + std::to_string(answer.status) +
                      " word\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " + std::to_string(answer.body.size()) +
                      "\r\n" + answer.headers + "\r\n";
    out += answer.send_only < 0 ? answer.body : answer.body.substr(0, static_cast<size_t>(answer.send_only));
    for (size_t sent = 0; sent < out.size();) {
      const ssize_t count = ::send(connection, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) return;
      sent += static_cast<size_t>(count);
    }
    ::shutdown(connection, SHUT_WR);
    char rest[256];
    while (::recv(connection, rest, sizeof rest, 0) > 0) {
    }
  }

  static bool more(int connection, std::string& text) {
    char buffer[65536];
    const ssize_t count = ::recv(connection, buffer, sizeof buffer, 0);
    if (count <= 0) return false;
    text.append(buffer, static_cast<size_t>(count));
    return true;
  }

  Handler handler_;
  int socket_ = -1, port_ = 0;
  std::atomic<bool> stopped_{false};
  std::atomic<int64_t> requests_{0};
  std::atomic<int> open_{0}, most_{0};
  std::thread acceptor_;
  std::vector<std::thread> threads_;
};

}  // namespace attar
