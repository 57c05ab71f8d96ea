// Bytes between processes over sockets: one connection for each pair of ranks. For ranks that no
// MPI has started (torchrun, srun). On one node these are Unix sockets, so that nobody listens on a
// port.
//
// Rendez-vous: rank 0 listens at an address that all know; the others come to it, say who and where
// they are, and get the list of all; then each connects to those before it. What is not a rank of
// this run (another key, garbage) is sent away. Afterwards a connection carries frames, a header of
// 16 bytes and so many bytes as it says, of which the other side knows the number already.
#pragma once
#include <memory>
#include <string>

#include "tensor/transport.h"

namespace mullion {

struct SocketGroup {
  int64_t rank = 0, size = 1;
  std::string address;              // of rank 0: "unix:NAME" (abstract) or "HOST:PORT"
  std::string key;                  // the same on all ranks of a run
  double rendezvous_seconds = 120;  // for all to come
  double peer_seconds = 120;        // without a byte of a rank that is waited for
  std::string why_not = {};         // of a rank that cannot be one, and comes to say so; "": it can
};

// Error(peer_lost) that names the ranks that did not come, or gives the reason of one that cannot
// be one; Error(usage) where two say they are one rank, or the number of ranks differs. With
// `why_not`: null, when those who came within the time have heard it.
std::unique_ptr<Transport> connect_sockets(const SocketGroup& group);

}  // namespace mullion
