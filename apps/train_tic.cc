// train_tic: trains a TiC on a folder of images, or on the generated cue task.
#include "apps/common/log.h"
#include "apps/common/main.h"
#include "apps/common/signals.h"
#include "apps/tic/run.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

Outcome train(const Options& options) {
  set_num_threads(options.threads());
  TicData data = open_tic_data(options);
  if (options.dry_run) {
    const TicConfig config = tic_config_of(options, static_cast<int64_t>(data.classes.size()));
    Tic model(config);
    const int size = data.train->shape().height;
    log_info(tic_schedule_of(options, data.train->size()).explanation);
    return JsonObject()
        .set("params", parameter_count(named_parameters(model)))
        .set("macs", tic_macs(config, size, size));
  }
  catch_stop_signals(options.get<std::vector<std::string>>("save.signals"));
  TicRun run(options, std::move(data));
  run.train();
  return Outcome(run.result(), run.stopped() ? kExitStopped : 0);
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::run_program(argc, argv, mullion::train_tic_table(), mullion::train);
}
