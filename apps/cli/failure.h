// What has gone wrong, in limpid's own words.
#pragma once

#include <limpid/error.h>

#include <exception>
#include <filesystem>

namespace limpid::cli {

/// Any exception as an Error of one line: those of libraries are failures, lack of memory is
/// `exhausted`.
Error as_error(const std::exception_ptr& failure);

/// Calls `body`; what it cannot do with the file is told with the file's name. Weights have names
/// of their own.
template <typename Body>
auto naming(const std::filesystem::path& path, const Body& body) {
  try {
    return body();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::interrupted || error.kind() == ErrorKind::bad_model) throw;
    throw Error(error.kind(), path.string() + ": " + error.what());
  }
}

}  // namespace limpid::cli
