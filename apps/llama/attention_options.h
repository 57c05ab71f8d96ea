// The options that choose an attention pattern: --attn --group-ratio --group-size --sinks
// --shift-heads.
#pragma once
#include <string>

#include "apps/options/options.h"
#include "tensor/attention_pattern.h"

namespace mullion {

void add_attention_options(OptionTable& table, const std::string& preset);
AttentionPattern attention_pattern(const Options& options, int64_t heads, int64_t context);

}  // namespace mullion
