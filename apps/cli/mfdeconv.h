// What `limpid mfdeconv` and the page share: the options, and the run from files to file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include <limpid/multiframe.h>

#include "command.h"

namespace limpid::cli {

struct MultiframeArguments {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path output, report, rejection_masks, psf_dir, save_iterations, checkpoint;
  bool overwrite = false, star_masks = false, variance_maps = false, resume = false;
  std::string loss = "huber", seed = "robust", color = "perchannel", memory = "auto";
  std::string device = "auto";
  MultiframeOptions solver;  ///< the options that are numbers
};

/// The command with its options but nothing to do yet.
Command mfdeconv_command(CLI::App& app, const Common& common, MultiframeArguments& arguments);

/// Of --memory; 0 for auto. Throws Error(usage).
std::size_t memory_bytes(const MultiframeArguments& arguments);

/// Reads the frames, solves, and writes all that the arguments name. Of several hosts only the first
/// writes; the result of the others is empty.
Result run_multiframe(const MultiframeArguments& arguments, int threads, const std::string& history,
                      const Progress& progress, const Hosts& hosts = {});

}  // namespace limpid::cli
