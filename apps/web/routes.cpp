#include "web/routes.h"

#include <filesystem>
#include <fstream>

#include <limpid/error.h>

#include "web/gate.h"
#include "web/requests.h"

namespace limpid::web {

namespace fs = std::filesystem;
using httplib::ContentReader;
using httplib::Request;
using httplib::Response;
using Json = Session::Json;

namespace {

constexpr int most_listeners = 16;  // open event streams, each of which holds a thread

void get(httplib::Server& server, const char* path,
         const std::function<Json(const Request&)>& body) {
  server.Get(path,
             [body](const Request& q, Response& r) { guarded(r, [&] { answer(r, body(q)); }); });
}

/// Of a layer, which never changes: another one has another name.
void get_png(httplib::Server& server, const char* path,
             const std::function<std::vector<std::byte>(const Request&)>& body) {
  server.Get(path, [body](const Request& q, Response& r) {
    guarded(r, [&] {
      const auto png = body(q);
      r.set_content(reinterpret_cast<const char*>(png.data()), png.size(), "image/png");
      r.set_header("Cache-Control", "private, max-age=86400, immutable");
    });
  });
}

void post(httplib::Server& server, const char* path, const std::function<Json(const Json&)>& body) {
  server.Post(path, [body](const Request& q, Response& r, const ContentReader& read) {
    guarded(r, [&] { answer(r, body(json_body(q, read))); });
  });
}

}  // namespace

Routes::Routes(httplib::Server& server, Session& session, std::uint64_t max_upload)
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

void Routes::act(httplib::Server& server, const char* path,
                 const std::function<void(const Json&)>& body) {
  post(server, path, [this, body](const Json& request) {
    body(request);
    return session_.state();
  });
}

void Routes::add_reads(httplib::Server& server) {
  get(server, "/api/state", [this](const Request&) { return session_.state(); });
  get(server, "/api/schema", [](const Request& q) {
    return Session::schema(q.has_param("command") ? q.get_param_value("command") : "deconvolve");
  });
  get(server, "/api/models", [this](const Request&) { return session_.models(); });
  get(server, "/api/files",
      [this](const Request& q) { return session_.folder().list(q.get_param_value("folder")); });
  get(server, "/api/measurement", [this](const Request&) { return session_.measurement(); });
  get(server, "/api/report", [this](const Request&) { return session_.report(); });
  get(server, "/api/sky", [this](const Request&) { return session_.sky(); });
  get(server, "/api/combination", [this](const Request&) { return session_.combination(); });
}

void Routes::add_pixels(httplib::Server& server) {
  get(server, "/api/pixel",
      [this](const Request& q) { return session_.pixel(whole(q, "x"), whole(q, "y")); });
  get(server, "/api/histogram", [this](const Request& q) {
    return session_.histogram(q.get_param_value("layer"), look_of(q));
  });
  get_png(server, "/api/picture.png", [this](const Request& q) {
    return session_.picture(q.get_param_value("layer"), whole(q, "level"),
                            {whole(q, "x"), whole(q, "y"), whole(q, "w"), whole(q, "h")},
                            look_of(q));
  });
  get_png(server, "/api/mask.png",
          [this](const Request& q) { return session_.sky_mask(q.get_param_value("layer")); });
}

void Routes::add_actions(httplib::Server& server) {
  act(server, "/api/open",
      [this](const Json& q) { session_.open(q.at("name").get<std::string>()); });
  act(server, "/api/close", [this](const Json&) { session_.close(); });
  act(server, "/api/run", [this](const Json& q) { session_.run(q); });
  act(server, "/api/combine", [this](const Json& q) { session_.combine(q); });
  act(server, "/api/measure", [this](const Json&) { session_.measure(); });
  act(server, "/api/cancel", [this](const Json&) { session_.cancel(); });
  act(server, "/api/discard", [this](const Json&) { session_.forget_result(); });
  post(server, "/api/preview", [this](const Json& q) { return session_.preview(q); });
  post(server, "/api/fit", [this](const Json& q) { return session_.fit_sky(q); });
  post(server, "/api/save", [this](const Json& q) { return session_.save(q); });
  post(server, "/api/command", [this](const Json& q) { return session_.command(q); });
}

void Routes::events(Response& response) {
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
          text = "data: " + session_.state().dump(-1, ' ', false, Json::error_handler_t::replace) +
                 "\n\n";
          seen = now;
        }
        return sink.write(text.data(), text.size());
      },
      [this](bool) { --listeners_; });
}

void Routes::upload(const Request& request, Response& response, const ContentReader& read) {
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

}  // namespace limpid::web
