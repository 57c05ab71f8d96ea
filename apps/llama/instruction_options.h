// The options by which programs name instruction data, and the rows they stand for.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"
#include "data/instruction_rows.h"

namespace mullion {

// --template --truncate --mask-prompt --train-on --bad-rows; --encoding is add_encoding()'s.
void add_instruction_options(OptionTable& table);
InstructionOptions instruction_options(const Options& options, int64_t context);

// The rows of `files`, encoded; says on stderr their shapes, the template, the first ids, and what
// was cut, left out or not used. Error where a signal ends it.
std::unique_ptr<InstructionRows> open_instructions(const Options& options,
                                                   const std::vector<std::string>& files,
                                                   int64_t context, const ChatTemplate& chat,
                                                   const Tokenizer& tokenizer);
// Warns of the fields that nobody reads.
void tell_unused(const ConversationFile& file);
// {template, files, rows, kept, ...}
JsonObject describe(const InstructionRows& rows, const ChatTemplate& chat);

}  // namespace mullion
