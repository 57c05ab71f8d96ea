// The verbs of tool_llama: what each takes, and what it does.
#pragma once
#include "apps/program/main.h"

namespace mullion {

OptionTable merge_table();
Outcome merge_adapter(const Options& options);

OptionTable export_table();
Outcome export_model(const Options& options);

OptionTable quantize_table();
Outcome quantize_model(const Options& options);

OptionTable info_table();
Outcome model_info(const Options& options);

OptionTable compare_table();
Outcome compare_models(const Options& options);

OptionTable bench_table();
Outcome bench_model(const Options& options);

}  // namespace mullion
