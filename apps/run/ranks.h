// The ranks of this program: one process and one device each, started by mpirun, srun or torchrun
// (launch.h). A process that nobody has started so is the only one.
#pragma once
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "apps/options/options.h"
#include "tensor/collective.h"

namespace mullion {

// --launcher, --peer-timeout, --rendezvous-timeout, --share-device. A program whose table has them
// joins its ranks before its body runs (run_program).
void add_rank_options(OptionTable& table);

// Before the options are read, with the launcher that the arguments name, and after, with theirs:
// until the ranks meet, each says everything itself, with its name by the launcher's variables
// before it. With "none" it is alone, which an error in the arguments knows of these alone.
void expect_ranks(const std::string& launcher);
// For run_program, after expect_ranks(): joins the others where there are any, says who is there,
// and gives each process its part of the cores. From now on only rank 0 writes lines and results.
void join_ranks(const Options& options);
// For a dry run: rank_count() is the number that the launcher, or --ranks, would give. Ranks of a
// launcher meet, and refuse what they would in the run, but the first one plans alone: ranks() is
// null. False: this is another, which has nothing to do but to end with it. Error(usage) as
// join_ranks().
bool plan_for_ranks(const Options& options);
// The way out of an error before either of them, for a program that knows ranks: where a launcher
// without MPI has started this process, those who wait for it hear why it does not come.
void tell_waiting_ranks(const std::string& why);
// For a program without ranks: Error(usage) in another process than the first of a launcher, which
// would do the same work once more.
void refuse_ranks(const std::string& program);
// The end of all ranks when each has come here; the first one says its last words when all have,
// and nobody is gone before, for a launcher may then end the others.
void leave_ranks(const std::function<void()>& last_words);
// The end with the reason of one, which has been reported. Where that is the end of another rank,
// this one waits for it, within some seconds: who has started them hears of the cause first, and
// makes its exit code its own.
void abandon_ranks(const std::string& why);

Communicator* ranks();  // null: this process is alone, or plans for ranks
int64_t rank();         // 0 then
int64_t rank_count();   // and 1, or as many as are planned for
bool has_ranks();       // whether there are ranks, or they are planned for
inline bool is_first_rank() { return rank() == 0; }

// Rank 0 does it, then the others: what leaves a file behind that they find.
void first_rank_first(const std::function<void()>& work);
// Error(usage) that names the rank and the field, where a rank has other values than rank 0.
using NamedTexts = std::vector<std::pair<std::string, std::string>>;
void require_same_on_all_ranks(const NamedTexts& fields);
// The text of rank 0, on all.
std::string text_of_first_rank(const std::string& mine);
// Element by element over all ranks; the values themselves where this process is alone.
std::vector<double> sum_over_ranks(std::vector<double> values);
// The items of all ranks, those of rank 0 first.
std::vector<std::string> texts_of_ranks(const std::string& mine);
template <typename T>
std::vector<T> items_of_ranks(const std::vector<T>& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<T> all;
  for (const std::string& text : texts_of_ranks(
           std::string(reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(T)))) {
    const size_t before = all.size();
    all.resize(before + text.size() / sizeof(T));
    std::memcpy(all.data() + before, text.data(), text.size());
  }
  return all;
}
// Has the first rank say the warnings of all since the last call, where it has not said the same
// itself.
void tell_warnings_of_ranks();
bool any_rank(bool mine);  // whether it holds on one of them
// Within long work, as often as one likes: Error(peer_lost) where a rank has ended. Waits for none.
void check_ranks();

}  // namespace mullion
