// The parts of a report, each from what runs left behind.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "apps/report/document.h"
#include "apps/report/run_record.h"

namespace mullion {

// What was run: a table, the settings that differ, commands and whole configurations.
void add_overview(Document& document, const std::vector<RunRecord>& runs);
// Loss (raw and smoothed by `decay`), learning rate, gradient norm, throughput, waiting for data.
void add_curves(Document& document, const std::vector<RunRecord>& runs, double decay);
// Results of eval/: perplexity by context, accuracy by size, and everything as tables.
void add_evaluations(Document& document, const std::vector<RunRecord>& runs);
// The same as pictures: passkey by length and depth, LongBench's categories, caches by budget.
void add_evaluation_pictures(Document& document, const std::vector<RunRecord>& runs);
// Of an answer of eval_llama choice: the tokens that each cache that evicts held. `file` is the
// answer's, for errors.
std::vector<Picture> kept_pictures(const nlohmann::json& answer, const std::string& name,
                                   const std::string& file);
extern const char kKeptStrips[];
// Who sees whom under full, S2 and SF attention, and under what the runs used beside them.
void add_attention(Document& document, const std::vector<RunRecord>& runs);
// Who sees whom under one preset: a picture for each group of heads that see the same.
void add_pattern(Document& document, const std::string& name);
// `count` images of an image folder, spread over its classes, with the predictions of a run.
void add_predictions(Document& document, const RunRecord& run, const std::filesystem::path& images,
                     int count);
// {"notes": [text], "tables": [{title, columns, rows, note}], "charts": [{title, x, y, log_x,
// log_y, series: [{name, points: [[x, y]]}]}]}, every key optional.
void add_extra(Document& document, const std::filesystem::path& json_file);

}  // namespace mullion
