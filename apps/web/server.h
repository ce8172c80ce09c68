// The page's server: routes, who may call them, and the files that the page is made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <stop_token>
#include <string>

namespace limpid::web {

struct ServeOptions {
  std::filesystem::path folder = ".";
  std::string bind = "127.0.0.1";
  int port = 8417;                         ///< 0: any that is free
  std::uint64_t max_upload = 4ULL << 30U;  ///< bytes
  int threads = 0;
};

struct Serving {
  std::string url;       ///< to be opened in a browser; has the token, if one is needed
  bool guarded = false;  ///< others can reach the server, so that the token is asked for
  std::filesystem::path folder;
};

/// Serves until `stop` is asked for. `ready` is told once the port is open. Throws Error(failed)
/// when the page is not installed or the address cannot be had.
void serve(const ServeOptions& options, const std::function<void(const Serving&)>& ready,
           const std::stop_token& stop);

}  // namespace limpid::web
