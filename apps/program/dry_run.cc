// Puts a body in front of each verb's own that refuses the flag.
#include "apps/program/dry_run.h"

#include <utility>

#include "tensor/check.h"

namespace mullion {

Verb without_dry_run(Verb verb) {
  ProgramBody body = [work = std::move(verb.body)](const Options& options) {
    if (options.dry_run)
      throw Error(options.program() + " --dry-run: this has no plan to print, and nothing was done",
                  Fault::usage, "leave out --dry-run");
    return work(options);
  };
  return {std::move(verb.table), std::move(body)};
}

std::vector<Verb> without_dry_run(std::vector<Verb> verbs) {
  for (Verb& verb : verbs) verb = without_dry_run(std::move(verb));
  return verbs;
}

}  // namespace mullion
