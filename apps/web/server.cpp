#include "web/server.h"

#include <httplib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include <limpid/error.h>

#include "web/session.h"

namespace limpid::web {
namespace {

namespace fs = std::filesystem;
using httplib::ContentReader;
using httplib::Request;
using httplib::Response;
using Json = Session::Json;

constexpr std::size_t longest_json = 64 * 1024;
constexpr int most_listeners = 16;  // open event streams, each of which holds a thread
constexpr int worker_threads = 64;

// Nothing from anywhere else, and no other page may put this one into a frame.
constexpr const char* content_security_policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// ---- the page itself ---------------------------------------------------------------------------

struct Asset {
  std::string content, type;
};

fs::path page_folder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& folder : {program / "page", program / ".." / "share" / "limpid" / "page",
                                 fs::path(LIMPID_PAGE_FOLDER)}) {
    if (fs::is_regular_file(folder / "index.html", error)) return folder;
  }
  throw Error(ErrorKind::failed,
              "the page is not installed; build limpid where npm is found, see docs/page.md");
}

/// By the path that a browser asks for.
std::map<std::string, Asset> load_page() {
  const std::map<std::string, std::string> types{{".html", "text/html; charset=utf-8"},
                                                 {".js", "text/javascript; charset=utf-8"},
                                                 {".css", "text/css; charset=utf-8"},
                                                 {".svg", "image/svg+xml"},
                                                 {".txt", "text/plain; charset=utf-8"}};
  std::map<std::string, Asset> assets;
  const fs::path folder = page_folder();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const auto type = types.find(entry.path().extension().string());
    if (!entry.is_regular_file() || type == types.end()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    std::string content(std::istreambuf_iterator<char>(file), {});
    assets["/" + fs::relative(entry.path(), folder).generic_string()] = {std::move(content),
                                                                         type->second};
  }
  assets["/"] = assets.at("/index.html");
  return assets;
}

// ---- who may call ------------------------------------------------------------------------------

bool is_loopback(const std::string& address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

std::string in_url(const std::string& address) {
  return address.find(':') == std::string::npos ? address : "[" + address + "]";
}

std::string random_token() {
  std::random_device source;  // getrandom() on Linux
  std::string token;
  for (int i = 0; i < 32; ++i) token += "0123456789abcdef"[source() % 16];
  return token;
}

/// Takes the same time wherever the texts differ.
bool same_secret(const std::string& a, const std::string& b) {
  unsigned differences = a.size() == b.size() ? 0 : 1;
  for (std::size_t i = 0; i < b.size(); ++i)
    differences |=
        static_cast<unsigned char>(i < a.size() ? a[i] : 0) ^ static_cast<unsigned char>(b[i]);
  return differences == 0;
}

std::string cookie(const Request& request, const std::string& name) {
  const std::string all = "; " + request.get_header_value("Cookie");
  const std::size_t start = all.find("; " + name + "=");
  if (start == std::string::npos) return "";
  const std::size_t value = start + name.size() + 3;
  return all.substr(value, all.find(';', value) - value);
}

struct Gate {
  std::set<std::string> hosts;  ///< what "Host" may say; empty: anything, the token guards
  std::string token;            ///< empty: none is asked for

  /// Why this request is refused; empty when it is not.
  [[nodiscard]] std::string refusal(const Request& request) const {
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
  [[nodiscard]] bool opened_by(const Request& request) const {
    if (token.empty()) return true;
    const std::string bearer = request.get_header_value("Authorization");
    return same_secret(cookie(request, "limpid"), token) || same_secret(bearer, "Bearer " + token);
  }
};

// ---- requests and answers ----------------------------------------------------------------------

void answer(Response& response, const Json& json, int status = 200) {
  response.status = status;
  response.set_content(json.dump(-1, ' ', false, Json::error_handler_t::replace),
                       "application/json");
}

void refuse(Response& response, int status, const std::string& text) {
  answer(response, {{"error", text}}, status);
}

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

/// Runs the body of a route; what it throws becomes an answer.
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

template <typename T>
T number_of(const Request& request, const char* name) {
  const std::string text = request.get_param_value(name);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty())
    throw Error(ErrorKind::usage, std::string(name) + ": a number is wanted");
  return value;
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

/// The body as JSON. Refused unless the type is JSON, which no form of another page can send.
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

// ---- the routes --------------------------------------------------------------------------------

class Routes {
 public:
  Routes(httplib::Server& server, Session& session, std::uint64_t max_upload)
      : session_(session),
        max_upload_(max_upload) {
    add_reads(server);
    add_pixels(server);
    add_actions(server);
    server.Get("/api/events", [this](const Request&, Response& r) { events(r); });
    server.Post("/api/upload", [this](const Request& q, Response& r, const ContentReader& read) {
      guarded(r, [&] { upload(q, r, read); });
    });
  }
  void stop() { stopping_ = true; }

 private:
  static void get(httplib::Server& server, const char* path,
                  const std::function<Json(const Request&)>& body) {
    server.Get(path,
               [body](const Request& q, Response& r) { guarded(r, [&] { answer(r, body(q)); }); });
  }
  static void post(httplib::Server& server, const char* path,
                   const std::function<Json(const Json&)>& body) {
    server.Post(path, [body](const Request& q, Response& r, const ContentReader& read) {
      guarded(r, [&] { answer(r, body(json_body(q, read))); });
    });
  }
  /// For what starts something: the answer is the state.
  void act(httplib::Server& server, const char* path,
           const std::function<void(const Json&)>& body) {
    post(server, path, [this, body](const Json& request) {
      body(request);
      return session_.state();
    });
  }

  void add_reads(httplib::Server& server) {
    get(server, "/api/state", [this](const Request&) { return session_.state(); });
    get(server, "/api/schema", [](const Request&) { return Session::schema(); });
    get(server, "/api/models", [this](const Request&) { return session_.models(); });
    get(server, "/api/files",
        [this](const Request& q) { return session_.folder().list(q.get_param_value("folder")); });
    get(server, "/api/measurement", [this](const Request&) { return session_.measurement(); });
    get(server, "/api/report", [this](const Request&) { return session_.report(); });
  }

  void add_pixels(httplib::Server& server) {
    get(server, "/api/pixel",
        [this](const Request& q) { return session_.pixel(whole(q, "x"), whole(q, "y")); });
    get(server, "/api/histogram", [this](const Request& q) {
      return session_.histogram(q.get_param_value("layer"), look_of(q));
    });
    server.Get("/api/picture.png", [this](const Request& q, Response& r) {
      guarded(r, [&] {
        const auto png = session_.picture(
            q.get_param_value("layer"), whole(q, "level"),
            {whole(q, "x"), whole(q, "y"), whole(q, "w"), whole(q, "h")}, look_of(q));
        r.set_content(reinterpret_cast<const char*>(png.data()), png.size(), "image/png");
        // a layer never changes: another one has another name
        r.set_header("Cache-Control", "private, max-age=86400, immutable");
      });
    });
  }

  void add_actions(httplib::Server& server) {
    act(server, "/api/open",
        [this](const Json& q) { session_.open(q.at("name").get<std::string>()); });
    act(server, "/api/close", [this](const Json&) { session_.close(); });
    act(server, "/api/run", [this](const Json& q) { session_.run(q); });
    act(server, "/api/measure", [this](const Json&) { session_.measure(); });
    act(server, "/api/cancel", [this](const Json&) { session_.cancel(); });
    act(server, "/api/discard", [this](const Json&) { session_.forget_result(); });
    post(server, "/api/preview", [this](const Json& q) { return session_.preview(q); });
    post(server, "/api/save", [this](const Json& q) { return session_.save(q); });
    post(server, "/api/command", [this](const Json& q) { return session_.command(q); });
  }

  /// The state whenever it changes, as server-sent events. A comment each second tells a closed
  /// page from one that waits.
  void events(Response& response) {
    if (++listeners_ > most_listeners) {
      --listeners_;
      return refuse(response, 503, "too many pages are open");
    }
    response.set_header("Cache-Control", "no-store");
    response.set_chunked_content_provider(
        "text/event-stream",
        [this, seen = std::uint64_t{0}](std::size_t, httplib::DataSink& sink) mutable {
          if (stopping_) return false;
          const std::uint64_t now = session_.wait_for_change(seen);
          std::string text = ":\n\n";
          if (now != seen) {
            text =
                "data: " + session_.state().dump(-1, ' ', false, Json::error_handler_t::replace) +
                "\n\n";
            seen = now;
          }
          return sink.write(text.data(), text.size());
        },
        [this](bool) { --listeners_; });
  }

  /// A dropped file is copied into the folder under a free name, and looked at before it stays.
  void upload(const Request& request, Response& response, const ContentReader& read) {
    const Folder& folder = session_.folder();
    const std::string name = request.get_param_value("name");
    if (name.find('/') != std::string::npos || !names_an_image(fs::path(name)))
      throw Error(ErrorKind::usage, "the name of a FITS, XISF, TIFF, PNG or JPEG file is wanted");
    if (!request.has_header("Content-Length") ||
        request.get_header_value("Content-Type") != "application/octet-stream")
      throw Error(ErrorKind::usage, "application/octet-stream with its length is wanted");
    const auto length = request.get_header_value<std::uint64_t>("Content-Length");
    if (length == 0) throw Error(ErrorKind::usage, name + ": the file is empty");
    if (length > max_upload_)
      return refuse(response, 413,
                    name + ": larger than " + std::to_string(max_upload_ >> 20U) +
                        " MB; copy it into the folder, or see --max-upload");
    const fs::path target = folder.target(name);
    std::error_code error;
    if (const auto room = fs::space(folder.root(), error); !error && room.available < length)
      throw Error(ErrorKind::cannot_write, name + ": there is no room on the disk");
    const fs::path part =
        folder.root() / (".limpid-upload-" + random_token() + target.extension().string());
    struct Removal {
      const fs::path& path;
      ~Removal() {
        std::error_code ignored;
        fs::remove(path, ignored);
      }
    } const removal{part};
    std::uint64_t got = 0;
    {
      std::ofstream file(part, std::ios::binary);
      const bool arrived = read([&](const char* data, std::size_t count) {
        got += count;
        if (got > length) return false;
        file.write(data, static_cast<std::streamsize>(count));
        return file.good();
      });
      file.close();
      if (!file) throw Error(ErrorKind::cannot_write, name + ": the folder cannot be written");
      if (!arrived || got != length) throw Error(ErrorKind::usage, name + ": broken off");
    }
    try {
      static_cast<void>(read_info(part));
    } catch (const Error& failure) {
      std::string text = failure.what();
      if (const auto at = text.find(part.string()); at != std::string::npos)
        text.replace(at, part.string().size(), name);
      throw Error(failure.kind(), text);
    }
    const std::scoped_lock lock(upload_mutex_);
    const std::string own_name = folder.free_name(name);
    fs::rename(part, folder.target(own_name));
    answer(response, {{"name", own_name}});
  }

  Session& session_;
  const std::uint64_t max_upload_;
  std::atomic<int> listeners_ = 0;
  std::atomic<bool> stopping_ = false;
  std::mutex upload_mutex_;
};

}  // namespace

void serve(const ServeOptions& options, const std::function<void(const Serving&)>& ready,
           const std::stop_token& stop) {
  Folder folder(options.folder);
  const auto assets = load_page();
  Session session(std::move(folder), options.threads);
  httplib::Server server;
  Routes routes(server, session, options.max_upload);

  server.new_task_queue = [] { return new httplib::ThreadPool(worker_threads); };
  server.set_keep_alive_timeout(2);  // an idle connection holds a thread
  server.set_keep_alive_max_count(1000);
  server.set_read_timeout(10);
  server.set_write_timeout(30);
  server.set_tcp_nodelay(true);
  server.set_payload_max_length(options.max_upload);

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
