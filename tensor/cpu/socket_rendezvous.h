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
};
// Throws as connect_sockets().
MetRanks meet(const SocketGroup& group);

}  // namespace mullion
