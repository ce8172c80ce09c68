#include "web/server.h"

#include <atomic>
#include <initializer_list>

#include <httplib.h>

#include <limpid/error.h>

#include "web/assets.h"
#include "web/gate.h"
#include "web/requests.h"
#include "web/routes.h"
#include "web/session.h"

namespace limpid::web {
namespace {

using httplib::Request;
using httplib::Response;

constexpr int worker_threads = 64;

// Nothing from anywhere else, and no other page may put this one into a frame.
constexpr const char* content_security_policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

std::string in_url(const std::string& address) {
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

void set_limits(httplib::Server& server, std::uint64_t max_upload) {
  server.new_task_queue = [] { return new httplib::ThreadPool(worker_threads); };
  server.set_keep_alive_timeout(2);  // an idle connection holds a thread
  server.set_keep_alive_max_count(1000);
  server.set_read_timeout(10);
  server.set_write_timeout(30);
  server.set_tcp_nodelay(true);
  server.set_payload_max_length(max_upload);
}

/// What comes before the routes: who may call, and the files of the page.
void set_handlers(httplib::Server& server, const Gate& gate,
                  const std::map<std::string, Asset>& assets) {
  server.set_pre_routing_handler([&](const Request& request, Response& response) {
    using Handled = httplib::Server::HandlerResponse;
    for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const char*>>{
             {"Content-Security-Policy", content_security_policy},
             {"X-Content-Type-Options", "nosniff"},
             {"Referrer-Policy", "no-referrer"},
             {"Cross-Origin-Resource-Policy", "same-origin"},
             {"Cross-Origin-Opener-Policy", "same-origin"}})
      response.set_header(name, value);
    if (const std::string why = gate.refusal(request); !why.empty()) {
      refuse(response, 403, why);
      return Handled::Handled;
    }
    if (!gate.token.empty() && request.path == "/" && request.has_param("token") &&
        same_secret(request.get_param_value("token"), gate.token)) {
      response.set_header("Set-Cookie",
                          "limpid=" + gate.token + "; HttpOnly; SameSite=Strict; Path=/");
      response.set_redirect("/", 303);
      return Handled::Handled;
    }
    if (!gate.opened_by(request)) {
      refuse(response, 401, "open the address that `limpid serve` has printed, with its token");
      return Handled::Handled;
    }
    if (request.method != "GET" && request.method != "HEAD" && request.method != "POST") {
      refuse(response, 405, "GET and POST are served");
      return Handled::Handled;
    }
    if (request.method != "POST") {
      if (const auto asset = assets.find(request.path); asset != assets.end()) {
        // names of scripts and styles change with their content
        response.set_header("Cache-Control", request.path.starts_with("/assets/")
                                                 ? "private, max-age=31536000, immutable"
                                                 : "no-cache");
        response.set_content(asset->second.content, asset->second.type.c_str());
        response.status = 200;
        return Handled::Handled;
      }
    }
    return Handled::Unhandled;
  });
  server.set_error_handler([](const Request&, Response& response) {
    if (response.body.empty())
      refuse(response, response.status,
             response.status == 404 ? "there is nothing here" : "that request makes no sense");
  });
  server.set_exception_handler([](const Request&, Response& response, std::exception_ptr) {
    refuse(response, 400, "that request makes no sense");
  });
}

}  // namespace

void serve(const ServeOptions& options, const std::function<void(const Serving&)>& ready,
           const std::stop_token& stop) {
  Folder folder(options.folder);
  const auto assets = load_page();
  Session session(std::move(folder), options.threads);
  httplib::Server server;
  Routes routes(server, session, options.max_upload);

  set_limits(server, options.max_upload);

  int listening = -1;
  server.set_socket_options([&](int socket) {
    // not SO_REUSEPORT, with which a second server would share the port in silence
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    listening = socket;
  });

  const bool guarded_by_token = !is_loopback(options.bind);
  const std::string address = in_url(options.bind);
  const int port = options.port == 0 ? server.bind_to_any_port(options.bind)
                   : server.bind_to_port(options.bind, options.port) ? options.port
                                                                     : -1;
  if (port < 0)
    throw Error(ErrorKind::failed, address + ":" + std::to_string(options.port) +
                                       ": cannot be had; another --port may be free");
  // the library lets five connections wait, and the sixth for seconds
  ::listen(listening, SOMAXCONN);
  const std::string with_port = ":" + std::to_string(port);
  Gate gate;
  if (guarded_by_token) {
    gate.token = random_token();
  } else {
    for (const std::string& name :
         {address, std::string("localhost"), std::string("127.0.0.1"), std::string("[::1]")}) {
      gate.hosts.insert(name + with_port);
      if (port == 80) gate.hosts.insert(name);
    }
  }

  set_handlers(server, gate, assets);

  std::atomic<bool> over = false;
  const std::stop_callback when_stopped(stop, [&] {
    over = true;
    routes.stop();
    session.stop();
    server.stop();
  });
  if (over) return;
  ready({"http://" + address + with_port + "/" + (gate.token.empty() ? "" : "?token=" + gate.token),
         guarded_by_token, session.folder().root()});
  if (!server.listen_after_bind() && !over)
    throw Error(ErrorKind::failed, "the server ended unexpectedly");
}

}  // namespace limpid::web
