// OUTPUT/ID/SCALE: results.json, table.md and report.html of one experiment.
#pragma once
#include <filesystem>
#include <string>

#include "apps/reproduce/experiment.h"
#include "apps/reproduce/runner.h"
#include "apps/reproduce/table.h"

namespace mullion {

struct Page {
  const Experiment& experiment;
  const Plan& plan;
  std::string scale, heading;  // "mini", "mini: 1.1 M parameters, made-up language"
  bool at_paper_scale, complete;
};

// Writes the three files into `folder`; returns what results.json holds.
nlohmann::json write_page(const Page& page, const std::vector<Measured>& rows,
                          const std::vector<Job>& jobs, const Runner& runner,
                          const std::filesystem::path& folder);

}  // namespace mullion
