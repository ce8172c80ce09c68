// Who may call: this machine's own browser, or those who have the token.
#pragma once

#include <set>
#include <string>

#include <httplib.h>

namespace limpid::web {

bool is_loopback(const std::string& address);
std::string random_token();
/// Takes the same time wherever the texts differ.
bool same_secret(const std::string& a, const std::string& b);

struct Gate {
  std::set<std::string> hosts;  ///< what "Host" may say; empty: anything, the token guards
  std::string token;            ///< empty: none is asked for

  /// Why this request is refused; empty when it is not.
  [[nodiscard]] std::string refusal(const httplib::Request& request) const;
  [[nodiscard]] bool opened_by(const httplib::Request& request) const;
};

}  // namespace limpid::web
