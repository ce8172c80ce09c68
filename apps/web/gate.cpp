#include "web/gate.h"

#include <random>

namespace limpid::web {
namespace {

using httplib::Request;

std::string cookie(const Request& request, const std::string& name) {
  const std::string all = "; " + request.get_header_value("Cookie");
  const std::size_t start = all.find("; " + name + "=");
  if (start == std::string::npos) return "";
  const std::size_t value = start + name.size() + 3;
  return all.substr(value, all.find(';', value) - value);
}

}  // namespace

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

std::string random_token() {
  std::random_device source;  // getrandom() on Linux
  std::string token;
  for (int i = 0; i < 32; ++i) token += "0123456789abcdef"[source() % 16];
  return token;
}

bool same_secret(const std::string& a, const std::string& b) {
  unsigned differences = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < b.size(); ++i)
    differences |=
        static_cast<unsigned char>(i < a.size() ? a[i] : 0) ^ static_cast<unsigned char>(b[i]);
  return differences == 0;
}

std::string Gate::refusal(const Request& request) const {
  // A name of someone else that was made to point here (DNS rebinding).
  const std::string host = request.get_header_value("Host");
  if (request.get_header_value_count("Host") != 1 || (!hosts.empty() && !hosts.contains(host)))
    return "this address is not served";
  if (request.has_header("Origin") && request.get_header_value("Origin") != "http://" + host)
    return "requests of other pages are not served";
  const std::string site = request.get_header_value("Sec-Fetch-Site");
  const bool visit = request.method == "GET" && request.path == "/" &&
                     request.get_header_value("Sec-Fetch-Mode") == "navigate";
  if ((site == "cross-site" || site == "same-site") && !visit)
    return "requests of other pages are not served";
  return "";
}

bool Gate::opened_by(const Request& request) const {
  if (token.empty()) return true;
  const std::string bearer = request.get_header_value("Authorization");
  return same_secret(cookie(request, "limpid"), token) || same_secret(bearer, "Bearer " + token);
}

}  // namespace limpid::web
