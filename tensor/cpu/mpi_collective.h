// Bytes between processes that mpirun (or srun with PMI) has started, by MPI. In a build without
// MPI the functions are there and say so.
#pragma once
#include <memory>

#include "tensor/transport.h"

namespace mullion {

bool has_mpi();

// Joins the processes of MPI_COMM_WORLD; once in a process, before it has threads. `peer_seconds`:
// without a message of a rank that is waited for. Error(usage) in a build without MPI.
std::unique_ptr<Transport> connect_mpi(double peer_seconds);

}  // namespace mullion
