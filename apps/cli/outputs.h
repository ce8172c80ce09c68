// The files that a command will write, looked at before any work is done.
#pragma once

#include <filesystem>
#include <vector>

namespace limpid::cli {

/// Throws Error where one of them (empty ones are none) cannot be written in the end: in a folder
/// that does not exist, there already and not to be overwritten, or named twice. "-" always can.
void check_outputs(const std::vector<std::filesystem::path>& paths, bool overwrite);

}  // namespace limpid::cli
