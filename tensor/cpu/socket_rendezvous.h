// How the ranks of a run find each other before they talk by sockets (socket_transport.h).
#pragma once
#include <string>
#include <vector>

#include "tensor/cpu/socket.h"
#include "tensor/cpu/socket_transport.h"

namespace mullion {

struct MetRanks {
  std::vector<Socket> sockets;  // by rank; the own one has none
  std::vector<std::string> nodes;
  std::string first_why_not;  // of rank 0, as told to another that cannot be one
};
// Throws as connect_sockets().
MetRanks meet(const SocketGroup& group);

}  // namespace mullion
