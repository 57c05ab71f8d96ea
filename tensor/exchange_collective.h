// A Communicator over a Transport. Every collective is messages between pairs and sums on the host:
//
//   all_reduce      1. each rank gets from all others its share of the elements, and adds the
//   shares up
//                      in the order of the ranks; 2. it sends the sum of its share to all
//   reduce_scatter  the first of these alone,  all_gather  the second one
//
// so the order of a sum depends on the number of ranks alone, and as many bytes travel as in a
// ring. Collectives run one after another in a thread of their own, in the order of the calls,
// while the caller computes. Tensors of another device than the CPU pass through memory of the
// host.
#pragma once
#include <memory>

#include "tensor/collective.h"
#include "tensor/transport.h"

namespace mullion {

std::unique_ptr<Communicator> make_communicator(std::unique_ptr<Transport> transport);

}  // namespace mullion
