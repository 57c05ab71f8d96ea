// The sets of LongBench (Bai et al. 2023): prompt, length of an answer and metric of each, with the
// numbers of its dataset2maxlen.json and the rules of its metrics.py.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mullion {

struct LongbenchSet {
  const char *name, *category, *metric;
  // From 0 to 1. `classes`: what an answer may name, of trec.
  double (*grade)(const std::string& answer, const std::string& right,
                  const std::vector<std::string>& classes);
  int64_t max_tokens;
  bool chat;           // a model that is talked to gets its template around the prompt
  bool one_line;       // an answer ends with its line
  const char* prompt;  // asks what LongBench's asks, in this project's words
};

// Those that are in English or code, in the order of its tables.
std::span<const LongbenchSet> longbench_sets();

}  // namespace mullion
