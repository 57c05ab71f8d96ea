// Rank 0 listens at the address that all know; the others come to it with a greeting and get the
// list of all; then each connects to those before it.
#include "tensor/cpu/socket_rendezvous.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <utility>

#include "tensor/check.h"

namespace mullion {
namespace {

constexpr char kGreeting[] = "mullion ranks 1";
constexpr char kCannot = '!';  // in front of a reason where others say their address

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool same_key(const std::string& a, const std::string& b) {  // in a time that tells nothing
  unsigned differ = a.size() != b.size();
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    differ |= static_cast<unsigned char>(a[i] ^ b[i]);
  return differ == 0;
}

class Meeting {
 public:
  explicit Meeting(const SocketGroup& group)
      : group_(group), end_(socket_deadline(group.rendezvous_seconds)) {
    sockets_.resize(static_cast<size_t>(group.size));
    nodes_.resize(static_cast<size_t>(group.size));
    addresses_.resize(static_cast<size_t>(group.size));
    nodes_[static_cast<size_t>(group.rank)] = host_name();
  }

  MetRanks hold() {
    if (group_.rank == 0)
      receive_all();
    else
      come();
    return {std::move(sockets_), std::move(nodes_)};
  }

 private:
  bool on_one_node() const { return group_.address.starts_with("unix:"); }

  std::string greeting(const std::string& address) const {
    return concat(kGreeting, "\n", group_.key, "\n", group_.rank, "\n", group_.size, "\n",
                  nodes_[static_cast<size_t>(group_.rank)], "\n", address, "\n");
  }

  // Who has come; nothing where it is no rank of this run. Error(usage) where it is one but cannot
  // be.
  std::optional<int64_t> greet(Socket socket) {
    const auto text = read_text(socket, std::min(end_, socket_deadline(5)));
    if (!text) return std::nullopt;
    const auto lines = lines_of(*text);
    if (lines.size() != 6 || lines[0] != kGreeting || !same_key(lines[1], group_.key))
      return std::nullopt;
    const int64_t rank = std::atoll(lines[2].c_str());
    const std::string who = concat("rank ", lines[2], " of ", lines[3], " (node ", lines[4], ")");
    CHECK_AS(Fault::usage, lines[3] == std::to_string(group_.size), who, " came to a run of ",
             group_.size, " ranks");
    CHECK_AS(Fault::usage, rank > 0 && rank < group_.size, who, ": no such rank");
    const auto at = static_cast<size_t>(rank);
    if (group_.why_not.empty() && lines[5].starts_with(kCannot))
      fail(Fault::peer_lost, who, " ended: ", lines[5].substr(1));
    CHECK_AS(Fault::usage, !sockets_[at], who, " came twice, the first time from node ",
             nodes_[at]);
    sockets_[at] = std::move(socket);
    nodes_[at] = lines[4];
    addresses_[at] = lines[5];
    return rank;
  }

  void receive_all() {
    const Socket listener = listen_at(group_.address);
    std::string answer = "ok\n";
    std::optional<Error> error;
    int64_t missing = group_.size - 1;
    try {
      while (missing > 0) {
        auto socket = accept_until(listener, end_);
        if (!socket) fail_missing(0);
        missing -= greet(std::move(*socket)).has_value();
      }
      for (size_t r = 0; r < sockets_.size(); ++r)
        answer += nodes_[r] + "\n" + addresses_[r] + "\n";
    } catch (const Error& e) {
      error = e;
      answer = e.what();
      await_more(listener, missing - 1);
    }
    if (!group_.why_not.empty())
      answer = concat("rank 0 of ", group_.size, " (node ", nodes_[0], ") ended: ", reason());
    for (const Socket& socket : sockets_)
      if (socket) write_text(socket, answer, socket_deadline(5));
    if (error) throw *error;
  }

  // After an error those who have not come yet, as far as they come soon, are told of it as well.
  void await_more(const Socket& listener, int64_t missing) {
    const SocketTime soon = std::min(end_, socket_deadline(5));
    while (missing > 0) {
      auto socket = accept_until(listener, soon);
      if (!socket) return;
      try {
        missing -= greet(std::move(*socket)).has_value();
      } catch (const Error&) {  // another that cannot
        --missing;
      }
    }
  }

  // In one line.
  std::string reason() const {
    std::string line = group_.why_not.substr(0, 4096);
    std::replace(line.begin(), line.end(), '\n', ' ');
    return line;
  }

  [[noreturn]] void fail_missing(int64_t first) const {
    std::string missing;
    for (size_t r = static_cast<size_t>(first) + 1; r < sockets_.size(); ++r)
      if (!sockets_[r] && static_cast<int64_t>(r) != group_.rank)
        missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    throw Error(concat("rendez-vous: of ", group_.size, " ranks these did not come to ",
                       group_.address, " within ", group_.rendezvous_seconds, " s: ", missing),
                Fault::peer_lost, "look for their errors, or start as many ranks as there are");
  }

  void come() {
    Socket& first = sockets_[0];
    try {
      first = connect_until(group_.address, end_);
    } catch (const Error& error) {
      throw Error(concat("rendez-vous: rank 0: ", error.what()), error.fault());
    }
    if (!group_.why_not.empty()) {
      write_text(first, greeting(kCannot + reason()), end_);
      return;
    }
    Socket listener;
    std::string address;
    if (on_one_node()) {
      address = concat(group_.address, "-", group_.rank);
      listener = listen_at(address);
    } else {
      address = address_of(first, first);
      address = address.substr(0, address.rfind(':')) + ":0";
      listener = listen_at(address);
      address = address_of(listener, first);
    }
    const bool said = write_text(first, greeting(address), end_);
    const auto answer = said ? read_text(first, end_ + std::chrono::seconds(10)) : std::nullopt;
    CHECK_AS(Fault::peer_lost, answer, "rendez-vous: rank 0 at ", group_.address,
             " does not answer, or sent this rank away (another run?)");
    const auto lines = lines_of(*answer);
    CHECK_AS(Fault::peer_lost, !lines.empty() && lines[0] == "ok", *answer);
    CHECK_AS(Fault::peer_lost, lines.size() == 1 + 2 * sockets_.size(),
             "rendez-vous: rank 0 sent what is no list of ranks");
    for (size_t r = 0; r < sockets_.size(); ++r) nodes_[r] = lines[1 + 2 * r];
    for (int64_t r = 1; r < group_.rank; ++r) {
      Socket& socket = sockets_[static_cast<size_t>(r)];
      socket = connect_until(lines[2 + 2 * static_cast<size_t>(r)], end_);
      CHECK_AS(Fault::peer_lost, write_text(socket, greeting(""), end_), "rendez-vous: rank ", r,
               " does not listen");
    }
    for (int64_t missing = group_.size - 1 - group_.rank; missing > 0;) {
      auto socket = accept_until(listener, end_);
      if (!socket) fail_missing(group_.rank);
      missing -= greet(std::move(*socket)).has_value();
    }
  }

  const SocketGroup group_;
  const SocketTime end_;
  std::vector<Socket> sockets_;  // by rank; the own one has none
  std::vector<std::string> nodes_, addresses_;
};

}  // namespace

MetRanks meet(const SocketGroup& group) { return Meeting(group).hold(); }

}  // namespace mullion
