// The verbs of chat_llama: what each takes, and what it does.
#pragma once
#include "apps/program/main.h"

namespace mullion {

OptionTable complete_table();
Outcome complete_text(const Options& options);

OptionTable chat_table();
Outcome chat(const Options& options);

OptionTable serve_table();
Outcome serve_text(const Options& options);

}  // namespace mullion
