// Options as the page sends them, as the command line that a shell would take: the page does what
// that command does because it is parsed by the same parser.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/background.h"
#include "cli/deconvolve.h"
#include "cli/mfdeconv.h"
#include "web/folder.h"

namespace limpid::web {

/// What `limpid COMMAND --schema` prints, for "deconvolve", "background" and "mfdeconv". Throws
/// Error(usage) for other commands.
const nlohmann::ordered_json& schema_of(const std::string& command);

/// Options without the control points that were put by hand, which a command reads from a file.
nlohmann::ordered_json without_points(nlohmann::ordered_json options);
/// Those points: `options["points"]`, an object as --points has it. Throws Error(usage).
cli::SavedPoints points_by_hand(const nlohmann::ordered_json& options, Size frame);

/// The words of the options that differ from their defaults, in the order of the schema. `options`
/// is an object such as {"sharpen-stars": 0.4, "psf": "auto", "mask": "mask.fits"}; what names
/// files is looked up in `folder`, models must be installed. Throws Error(usage).
std::vector<std::string> option_words(const std::string& command,
                                      const nlohmann::ordered_json& options, const Folder& folder);

/// What the command's own parser makes of these words, the first of which names it. Throws
/// Error(usage).
cli::DeconvolveArguments parse_deconvolve(const std::vector<std::string>& words);
cli::BackgroundArguments parse_background(const std::vector<std::string>& words);
cli::MultiframeArguments parse_multiframe(const std::vector<std::string>& words);

}  // namespace limpid::web
