// What `limpid background` and the page share: the options, and how results are told and dithered.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <limpid/background.h>
#include <limpid/io.h>

#include "command.h"

namespace limpid::cli {

struct BackgroundArguments {
  std::vector<std::filesystem::path> inputs;
  std::filesystem::path output, mask, model, preview, points;
  bool overwrite = false, link_channels = false, neutral = false, dithered = false, refine = false;
  std::string downscale_with = "median", mode = "subtract", init = "grid", auto_mask = "on",
              start_values = "robust", validate = "on", depth = "as-input";
  BackgroundOptions fit;  ///< the options that are numbers; see fit_options()
};

/// The command with its options but nothing to do yet.
Command background_command(CLI::App& app, const Common& common, BackgroundArguments& arguments);

/// Without the mask and the control points.
BackgroundOptions fit_options(const BackgroundArguments& arguments, int threads);
RemoveOptions remove_options(const BackgroundArguments& arguments, int threads);
Depth depth_of(const BackgroundArguments& arguments);
/// For the depth of the output; false when that has no steps.
bool dither_as_asked(Frame& frame, const BackgroundArguments& arguments, int threads);

/// As --points takes them.
nlohmann::ordered_json points_json(const Background& background);
/// What such JSON has under "points", its places scaled by these. Throws Error(bad_input).
std::vector<ControlPoint> points_of(const nlohmann::ordered_json& list, float wide = 1,
                                    float high = 1);
nlohmann::ordered_json to_json(const Job& job, const Background& background,
                               const RemoveReport& removed);

}  // namespace limpid::cli
