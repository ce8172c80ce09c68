// What requests hold, checked; and answers, errors among them.
#pragma once

#include <functional>
#include <string>

#include <httplib.h>

#include "web/session.h"

namespace limpid::web {

void answer(httplib::Response& response, const Session::Json& json, int status = 200);
void refuse(httplib::Response& response, int status, const std::string& text);
/// Runs the body of a route; what it throws becomes an answer.
void guarded(httplib::Response& response, const std::function<void()>& body);

// Parameters of the address. Each throws Error(usage).
int whole(const httplib::Request& request, const char* name);
Look look_of(const httplib::Request& request);
/// The body as JSON. Refused unless the type is JSON, which no form of another page can send.
Session::Json json_body(const httplib::Request& request, const httplib::ContentReader& read);

}  // namespace limpid::web
