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
/// What such JSON holds.
struct SavedPoints {
  int order = 2;
  std::vector<ControlPoint> points = {};
  std::vector<ControlPoint> removed = {};  ///< those that the correction was made with, too
  Image correction = {};                   ///< empty where there is none
};
/// `frame`: places are scaled when the points come from a frame of another size. `order`: where the
/// JSON does not say it. Throws Error(bad_input).
SavedPoints saved_points_of(const nlohmann::ordered_json& json, Size frame, int order);
/// Starts from them, or keeps them.
void use_points(BackgroundOptions& fit, const SavedPoints& saved, bool refine);
nlohmann::ordered_json to_json(const Job& job, const Background& background,
                               const RemoveReport& removed);

}  // namespace limpid::cli
