#include "web/requests.h"

#include <charconv>

#include <limpid/error.h>

namespace limpid::web {

using httplib::ContentReader;
using httplib::Request;
using httplib::Response;
using Json = Session::Json;

namespace {

constexpr std::size_t longest_json = 256 * 1024;  // some thousand names of frames

int status_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
      return 400;
    case ErrorKind::cannot_write:
    case ErrorKind::interrupted:
      return 409;
    case ErrorKind::exhausted:
      return 507;
    case ErrorKind::failed:
    case ErrorKind::bad_input:
    case ErrorKind::bad_model:
      return 422;
  }
  return 500;
}

template <typename T>
T number_of(const Request& request, const char* name) {
  const std::string text = request.get_param_value(name);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty())
    throw Error(ErrorKind::usage, std::string(name) + ": a number is wanted");
  return value;
}

}  // namespace

void answer(Response& response, const Json& json, int status) {
  response.status = status;
  response.set_content(json.dump(-1, ' ', false, Json::error_handler_t::replace),
                       "application/json");
}

void refuse(Response& response, int status, const std::string& text) {
  answer(response, {{"error", text}}, status);
}

void guarded(Response& response, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    Json json{{"error", error.what()}};
    if (error.kind() == ErrorKind::interrupted) json["interrupted"] = true;
    answer(response, json, status_of(error.kind()));
  } catch (const Gone& error) {
    refuse(response, 404, error.what());
  } catch (const Busy& error) {
    refuse(response, 409, error.what());
  } catch (const Json::exception&) {
    refuse(response, 400, "the request is not the JSON that is wanted");
  } catch (const std::bad_alloc&) {
    refuse(response, 507, "out of memory");
  } catch (const std::exception& error) {
    refuse(response, 500, error.what());
  }
}

int whole(const Request& request, const char* name) {
  const int value = number_of<int>(request, name);
  if (value < 0 || value > (1 << 28))
    throw Error(ErrorKind::usage, std::string(name) + ": out of range");
  return value;
}

Look look_of(const Request& request) {
  Look look;
  if (request.has_param("sky")) look.sky = number_of<float>(request, "sky");
  if (!(look.sky >= 0.02F && look.sky <= 0.9F))
    throw Error(ErrorKind::usage, "sky: 0.02 to 0.9 is wanted");
  look.linked = request.get_param_value("linked") == "1";
  return look;
}

Json json_body(const Request& request, const ContentReader& read) {
  const std::string type = request.get_header_value("Content-Type");
  if (!type.starts_with("application/json"))
    throw Error(ErrorKind::usage, "the body must be application/json");
  std::string body;
  const bool whole_body = read([&](const char* data, std::size_t count) {
    if (body.size() + count > longest_json) return false;
    body.append(data, count);
    return true;
  });
  if (!whole_body) throw Error(ErrorKind::usage, "the body is too long, or broken off");
  Json json = Json::parse(body);
  if (!json.is_object()) throw Error(ErrorKind::usage, "an object is wanted");
  return json;
}

}  // namespace limpid::web
