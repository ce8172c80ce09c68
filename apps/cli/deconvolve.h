// What `limpid deconvolve` and the page share: the options, and how results are told and written.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <limpid/deconvolve.h>
#include <limpid/io.h>

#include "command.h"

namespace limpid::cli {

struct DeconvolveArguments {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path output, mask, judge, report, trust_map;
  bool overwrite = false;
  float sharpen_stars = 0.25F, adjust_halos = 0, sharpen_nonstellar = 0.9F, overlap = 0.2F;
  std::string psf = "auto", ai, device = "auto", precision = "auto", depth = "as-input";
  bool correct_only = false, correct_first = false, nonstellar_then_stellar = false,
       luminance_only = false, no_stars = false;
  std::vector<int> region;
  int tile_px = 512;
};

/// The command with its options but nothing to do yet.
Command deconvolve_command(CLI::App& app, const Common& common, DeconvolveArguments& arguments);

/// Without the mask. Throws Error(usage).
DeconvolveOptions pipeline_options(const DeconvolveArguments& arguments, int threads);
Depth depth_of(const DeconvolveArguments& arguments);

nlohmann::ordered_json to_json(const Job& job, const DeconvolveReport& report);

/// The map as a file: floats as they are; where samples are 0 to 1, 0.5 means no difference and the
/// ends ten times the noise.
void write_trust_map(const std::filesystem::path& path, Image map, const Metadata& metadata,
                     const WriteOptions& like);

}  // namespace limpid::cli
