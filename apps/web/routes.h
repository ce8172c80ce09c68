// What the server answers, address by address.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include <httplib.h>

#include "web/session.h"

namespace limpid::web {

class Routes {
 public:
  Routes(httplib::Server& server, Session& session, std::uint64_t max_upload);
  void stop() { stopping_ = true; }

 private:
  /// For what starts something: the answer is the state.
  void act(httplib::Server& server, const char* path,
           const std::function<void(const Session::Json&)>& body);
  void add_reads(httplib::Server& server);
  void add_pixels(httplib::Server& server);
  void add_actions(httplib::Server& server);
  /// The state whenever it changes, as server-sent events. A comment each second tells a closed
  /// page from one that waits.
  void events(httplib::Response& response);
  /// A dropped file is copied into the folder under a free name, and looked at before it stays.
  void upload(const httplib::Request& request, httplib::Response& response,
              const httplib::ContentReader& read);

  Session& session_;
  const std::uint64_t max_upload_;
  std::atomic<int> listeners_ = 0;
  std::atomic<bool> stopping_ = false;
  std::mutex upload_mutex_;
};

}  // namespace limpid::web
