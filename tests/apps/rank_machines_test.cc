// Which ranks share a machine, by the number that its kernel drew and not by its name: what they
// then divide is its cores. In namespaces of their own, as containers have them.
#include <thread>

#include "tensor/io/file.h"
#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

class RankMachines : public test::RankPrograms {
 protected:
  RankMachines() : RankPrograms({"train_llama"}) {}
  // The threads of each of two ranks, of which rank 1 has namespaces of its own (`unshare`), in
  // which `before` comes first.
  std::string threads(const std::string& unshare, const std::string& before) const {
    write_whole_file(at("plan"),
                     "exec train_llama pretrain --data train.bin --ctx-size 64 -m base -b 1 "
                     "--grad-accum-steps 2 --max-steps 1 --dry-run\n");
    write_whole_file(at("other"), before + " && . ./plan\n");
    const Ranks ranks = start(2, "env -u OMP_NUM_THREADS sh -c '[ $RANK = 0 ] && . ./plan; exec " +
                                     unshare + " sh other'");
    EXPECT_EQ(ranks.codes, (std::vector<int>{0, 0})) << ranks.logs[0] << ranks.logs[1];
    std::istringstream lines(ranks.logs[0]);
    std::string found;
    for (std::string line; std::getline(lines, line);)
      if (line.starts_with("launch ")) found += line.substr(line.rfind(", ") + 2) + " ";
    return found;
  }
};

TEST_F(RankMachines, AreToldApartByTheirKernels) {
  if (std::thread::hardware_concurrency() != 2) GTEST_SKIP() << "needs a machine of two cores";
  write_whole_file(at("boot"), "11111111-2222-3333-4444-555555555555\n");
  const std::string bind = "mount --bind boot /proc/sys/kernel/random/boot_id";
  if (run("unshare -m " + bind).code != 0 || run("unshare -u hostname elsewhere").code != 0)
    GTEST_SKIP() << "needs root, unshare and mount";
  EXPECT_EQ(threads("unshare -m", "true"), "1 thread 1 thread ");
  EXPECT_EQ(threads("unshare -u", "hostname elsewhere"), "1 thread 1 thread ");
  EXPECT_EQ(threads("unshare -m", bind), "2 threads 2 threads ");
}

}  // namespace
}  // namespace mullion
