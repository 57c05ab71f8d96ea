// Which rank a process is, by what launchers leave in its environment; contradictions are refused.
#include "apps/run/launch.h"

#include <gtest/gtest.h>

#include <map>

#include "tensor/check.h"

namespace mullion {
namespace {

using Variables = std::map<std::string, std::string>;

std::optional<Launch> launch(const Variables& variables, const std::string& launcher = "auto",
                             std::string* note = nullptr) {
  return find_launch(
      launcher,
      [&](const char* name) {
        const auto found = variables.find(name);
        return found == variables.end() ? std::string() : found->second;
      },
      note);
}

std::string refusal(const Variables& variables, const std::string& launcher = "auto") {
  try {
    launch(variables, launcher);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::usage);
    return error.what();
  }
  return "";
}

// As torchrun --nproc-per-node 4 --nnodes 2 sets them on its second node.
const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "n1"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "none"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
const Variables kSrun = {{"SLURM_PROCID", "3"},
                         {"SLURM_STEP_NUM_TASKS", "8"},
                         {"SLURM_LOCALID", "1"},
                         {"SLURM_JOB_ID", "77"},
                         {"SLURM_STEP_ID", "2"},
                         {"SLURM_STEP_NUM_NODES", "4"},
                         {"SLURM_STEP_NODELIST", "n[007-009,12]"},
                         {"SLURM_NTASKS", "8"}};
const Variables kMpirun = {{"OMPI_COMM_WORLD_RANK", "1"},
                           {"OMPI_COMM_WORLD_SIZE", "2"},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

TEST(Launch, WithoutALauncherAProcessIsAlone) {
  EXPECT_FALSE(launch({}));
  EXPECT_FALSE(launch(kTorchrun, "none"));
  EXPECT_FALSE(launch({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
}

TEST(Launch, OfTorchrun) {
  const auto found = launch(kTorchrun);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 5);
  EXPECT_EQ(found->size, 8);
  EXPECT_EQ(found->local_rank, 1);
  EXPECT_EQ(found->source, "RANK");
  EXPECT_FALSE(found->by_mpi);
  EXPECT_EQ(found->address, "n1:29501");  // torchrun itself listens at 29500
  const auto one_node = launch(with(kTorchrun, {{"LOCAL_WORLD_SIZE", "8"}}));
  EXPECT_EQ(one_node->address, "unix:mullion-29500-none");
}

TEST(Launch, OfSrun) {
  const auto found = launch(kSrun);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 3);
  EXPECT_EQ(found->size, 8);
  EXPECT_EQ(found->source, "SLURM_PROCID");
  EXPECT_EQ(found->address, "n007:21003");
  EXPECT_EQ(launch(with(kSrun, {{"SLURM_STEP_NUM_NODES", "1"}}))->address, "unix:mullion-77-2");
}

TEST(Launch, OfMpirun) {
  const auto found = launch(kMpirun);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->by_mpi);
  EXPECT_EQ(found->rank, 1);
}

// The tasks of an allocation are no ranks of what its shell starts.
TEST(Launch, AShellInAnAllocationIsAlone) {
  const Variables shell = {{"SLURM_JOB_ID", "77"}, {"SLURM_NTASKS", "8"}, {"SLURM_PROCID", "0"}};
  std::string note;
  EXPECT_FALSE(launch(shell, "auto", &note));
  EXPECT_NE(note.find("no srun has started this process"), std::string::npos) << note;
}

// Ranks of srun in the job of a shell, or what the shell of a step itself starts: the user says it.
TEST(Launch, AStepInAnInteractiveJobIsNotGuessed) {
  for (const std::string name : {"bash", "interactive"}) {
    const Variables step = with(kSrun, {{"SLURM_JOB_NAME", name}});
    EXPECT_NE(refusal(step).find("SLURM_JOB_NAME=" + name + " and SLURM_STEP_NUM_TASKS=8"),
              std::string::npos)
        << refusal(step);
    EXPECT_EQ(launch(step, "slurm")->rank, 3);
    EXPECT_FALSE(launch(step, "none"));
    EXPECT_EQ(launch(with(step, kMpirun))->source, "OMPI_COMM_WORLD_RANK");
    EXPECT_FALSE(launch(with(
        step, {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}})));
  }
}

TEST(Launch, ValuesThatCannotBeAreNamed) {
  const Variables two = {{"RANK", "1"},
                         {"WORLD_SIZE", "2"},
                         {"LOCAL_WORLD_SIZE", "2"},
                         {"LOCAL_RANK", "1"},
                         {"MASTER_PORT", "29500"}};
  ASSERT_TRUE(launch(two));
  for (const auto& [name, values] : std::map<std::string, std::vector<std::string>>{
           {"MASTER_PORT", {"70000", "0", "abc", "-1", "29500x", "99999999999999999999"}},
           {"WORLD_SIZE", {"1000000000", "0", "-2", "2.0"}},
           {"RANK", {"-1", "x", "1e0"}},
           {"LOCAL_RANK", {"2", "-1", "x"}},
           {"LOCAL_WORLD_SIZE", {"3", "0", "x"}}})
    for (const std::string& value : values)
      EXPECT_NE(refusal(with(two, {{name, value}})).find(name + "=" + value + ": not a number"),
                std::string::npos)
          << refusal(with(two, {{name, value}}));
  EXPECT_NE(refusal(with(two, {{"LOCAL_WORLD_SIZE", "1"}})).find("LOCAL_RANK=1 of LOCAL_WORLD"),
            std::string::npos);
  // One process a node, by hand: the first of its node.
  const auto first = launch({{"RANK", "1"},
                             {"WORLD_SIZE", "2"},
                             {"LOCAL_WORLD_SIZE", "1"},
                             {"MASTER_ADDR", "n1"},
                             {"MASTER_PORT", "29500"}});
  ASSERT_TRUE(first);
  EXPECT_EQ(first->local_rank, 0);
  for (const std::string list : {"n[", "n[]", "n[a-b]", "n[1-", ",n1", "n 1", "n1]"})
    EXPECT_EQ(refusal(with(kSrun, {{"SLURM_STEP_NODELIST", list}})),
              "SLURM_STEP_NODELIST=" + list + ": not a list of nodes");
  EXPECT_NE(refusal(with(kSrun, {{"SLURM_JOB_ID", "x"}})).find("SLURM_JOB_ID=x"),
            std::string::npos);
}

TEST(Launch, AnInnerLauncherHoldsBeforeAnOuterOne) {
  EXPECT_EQ(launch(with(kSrun, kTorchrun))->rank, 5);
  EXPECT_EQ(launch(with(kSrun, kMpirun))->rank, 1);
  EXPECT_EQ(launch(with(kSrun, kMpirun), "slurm")->rank, 3);
}

// srun --mpi=pmi2 leaves PMI's variables beside its own.
TEST(Launch, SlurmHoldsBeforePmiOfTheSameRank) {
  const Variables pmi2 = with(kSrun, {{"PMI_RANK", "3"}, {"PMI_SIZE", "8"}});
  EXPECT_EQ(launch(pmi2)->source, "SLURM_PROCID");
  EXPECT_FALSE(launch(pmi2)->by_mpi);
  EXPECT_TRUE(launch(pmi2, "mpi")->by_mpi);
  // mpiexec within a job, whose daemons srun starts: two of eight here.
  EXPECT_EQ(launch(with(kSrun, {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}))->rank, 1);
}

TEST(Launch, MpiUnderSrunByPmix) {
  const Variables pmix = with(kSrun, {{"PMIX_RANK", "3"}});
  EXPECT_FALSE(launch(pmix)->by_mpi);
  EXPECT_TRUE(launch(pmix, "mpi")->by_mpi);
  EXPECT_EQ(launch(pmix, "mpi")->size, 8);
  EXPECT_EQ(launch(with(kMpirun, {{"PMIX_RANK", "1"}}), "mpi")->source, "OMPI_COMM_WORLD_RANK");
  // mpirun within a step of one task (srun --pty bash): the size is the step's, the rank mpirun's.
  Variables within = with(with(kSrun, kMpirun), {{"PMIX_RANK", "1"}});
  within["SLURM_STEP_NUM_TASKS"] = "1";
  within["SLURM_PROCID"] = "0";
  EXPECT_EQ(launch(within, "auto")->source, "OMPI_COMM_WORLD_RANK");
}

TEST(Launch, CoresAreDividedAmongThoseThatMayUseThem) {
  const std::vector<int> all{0, 1, 2, 3, 4, 5, 6, 7};
  EXPECT_EQ(share_of_cores({all, all}, 0), 4);
  EXPECT_EQ(share_of_cores({{0, 1, 2, 3}, {4, 5, 6, 7}}, 1), 4);  // bound already: not once more
  EXPECT_EQ(share_of_cores({{0}, {1}, {2}, {3}}, 2), 1);
  EXPECT_EQ(share_of_cores({all, all, {0, 1}}, 2), 1);
  EXPECT_EQ(share_of_cores({all, all, all}, 0), 2);
  EXPECT_EQ(share_of_cores({{0, 1, 2}, {0, 1, 2}, {0, 1, 2}}, 1), 1);
  EXPECT_EQ(share_of_cores({{0}, {0}, {0}}, 1), 1);  // more ranks than cores
  EXPECT_FALSE(own_cores().empty());
}

TEST(Launch, ContradictionsAreNamed) {
  const std::string text = refusal(with(kMpirun, {{"RANK", "0"}, {"WORLD_SIZE", "2"}}));
  EXPECT_NE(text.find("RANK says rank 0 of 2, OMPI_COMM_WORLD_RANK rank 1 of 2"), std::string::npos)
      << text;
  EXPECT_NE(refusal({{"RANK", "2"}, {"WORLD_SIZE", "2"}}).find("RANK=2 of WORLD_SIZE=2"),
            std::string::npos);
  EXPECT_NE(refusal({{"RANK", "2"}}).find("WORLD_SIZE is unset"), std::string::npos);
  EXPECT_NE(refusal({{"RANK", "two"}, {"WORLD_SIZE", "2"}}).find("RANK=two"), std::string::npos);
  EXPECT_NE(refusal({{"RANK", "1"}, {"WORLD_SIZE", "2"}}).find("MASTER_ADDR"), std::string::npos);
  EXPECT_NE(refusal({}, "slurm").find("--launcher slurm"), std::string::npos);
  EXPECT_NE(refusal(kSrun, "mpi").find("OMPI_COMM_WORLD_RANK"), std::string::npos);
}

TEST(Launch, FirstHostOfAList) {
  EXPECT_EQ(first_host("n1"), "n1");
  EXPECT_EQ(first_host("n1,n2"), "n1");
  EXPECT_EQ(first_host("n[007-012,15],m1"), "n007");
  EXPECT_EQ(first_host("a[3,5]"), "a3");
  EXPECT_EQ(first_host("rack[1-2]-n[08,10].site,m[1-2]"), "rack1-n08.site");
}

}  // namespace
}  // namespace mullion
