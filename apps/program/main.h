// What every program's main does around its work: parse, run, and turn what happened into an exit
// code, two lines on stderr, and with --json one object as the last line of stdout.
//
//   0 done · 1 any other error · 2 usage or config · 3 bad input file · 4 disk or permission ·
//   5 diverged · 6 out of memory or device fault · 7 another rank of the run is lost ·
//   75 stopped, saved, resumable · 130 second Ctrl-C
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/program/json_object.h"

namespace mullion {

// What a program's body returns: the result for --json, and 0 or kExitStopped.
struct Outcome {
  Outcome(JsonObject fields) : result(std::move(fields)) {}
  Outcome(JsonObject fields, int code) : result(std::move(fields)), exit_code(code) {}
  JsonObject result;
  int exit_code = 0;
};
using ProgramBody = std::function<Outcome(const Options&)>;

// Text for people on stdout, where --json does not claim it for programs. Error(disk) where it
// cannot be written.
void print_text(const Options& options, const std::string& text);
// A line of the result: as above, and to stderr under --json.
void print_result(const Options& options, const std::string& line);

// One job of a program that has several: `train_llama pretrain`. The table's program name holds
// both words.
struct Verb {
  OptionTable table;
  ProgramBody body;
};

// For main(): return run_program(argc, argv, table, train);
int run_program(int argc, char** argv, const OptionTable& table, const ProgramBody& body);
int run_program(int argc, char** argv, const std::string& about, const std::vector<Verb>& verbs);

// The same without the process-wide settings, for tests. `arguments` are those after the program.
int run_command(const std::vector<std::string>& arguments, const OptionTable& table,
                const ProgramBody& body);
int run_command(const std::vector<std::string>& arguments, const std::string& about,
                const std::vector<Verb>& verbs);

}  // namespace mullion
