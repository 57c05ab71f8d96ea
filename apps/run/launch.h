// Which rank this process is, by the variables that launchers leave in its environment:
//
//   torchrun, others   RANK, WORLD_SIZE; place on its node: LOCAL_RANK, LOCAL_WORLD_SIZE
//   MPICH, Intel MPI   PMI_RANK, PMI_SIZE; MPI_LOCALRANKID, MPI_LOCALNRANKS
//   srun               SLURM_PROCID, SLURM_STEP_NUM_TASKS; SLURM_LOCALID
//   mpirun (OpenMPI)   OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE;
//                      OMPI_COMM_WORLD_LOCAL_RANK, OMPI_COMM_WORLD_LOCAL_SIZE
//   srun --mpi=pmix    PMIX_RANK beside srun's own, which hold unless MPI is asked for
//
// The first of them that is there holds, in this order, but what an inner launcher says holds
// before an outer one: torchrun and mpirun within a job of Slurm. Slurm holds before PMI's
// variables of the same rank, which srun --mpi=pmi2 sets beside its own. Others that say something
// else are an error.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mullion {

struct Launch {
  int64_t rank = 0, size = 1;
  int64_t local_rank = 0, local_size = 1;  // on this node
  std::string source;                      // the variable that says the rank
  bool by_mpi = false;                     // else by sockets:
  std::string address, key;                // SocketGroup's
};

// `variable` gives the value of one, "" where it is unset.
using Environment = std::function<std::string(const char*)>;

// `launcher`: auto, none, env, slurm or mpi. Nothing: this process is alone. `note` is set where
// that needs a word. Error(usage) names variables that are missing, contradict each other or are no
// numbers.
std::optional<Launch> find_launch(const std::string& launcher, const Environment& variable,
                                  std::string* note);

std::string host_name();  // of this machine
// What tells it from others: the number that its kernel drew when it started, which all containers
// on it see and those of another machine with the same host name do not; else the host name.
std::string machine_identity();
// The cores that this process may run on, by their numbers; launchers bind ranks to some of them.
std::vector<int> own_cores();
// The threads of process `mine` of a node, at least 1, where each core is divided among the
// processes that may run on it: `cores` of each of them, in ascending order.
int share_of_cores(const std::vector<std::vector<int>>& cores, size_t mine);

// The first host of a list as Slurm writes it: "n[007-012,15],m1" -> "n007"; "": it is none.
std::string first_host(const std::string& nodes);

}  // namespace mullion
