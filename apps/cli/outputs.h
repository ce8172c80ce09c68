// The files that a command will write, looked at before any work is done.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace limpid::cli {

/// Throws Error where one of them (empty ones are none) cannot be written in the end: in a folder
/// that does not exist or may not be written to, there already and not to be overwritten, named
/// twice, or in the place of one of the `inputs`. "-" always can.
void check_outputs(const std::vector<std::filesystem::path>& paths, bool overwrite,
                   const std::vector<std::filesystem::path>& inputs = {});

/// Makes the folder if there is none; throws Error(cannot_write) where files cannot be put into it.
void make_writable_folder(const std::filesystem::path& folder);

/// What change_grid() dropped, in a sentence for the user; empty when that is nothing.
std::string dropped_in_words(const std::vector<std::string>& dropped);

}  // namespace limpid::cli
