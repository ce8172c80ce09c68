// limpid serve: the page, for those who would rather look than type.
#include "command.h"
#include "web/server.h"

namespace limpid::cli {

void add_serve(CLI::App& app, const Common& common) {
  struct Options {
    std::filesystem::path folder = ".";
    std::string bind = "127.0.0.1";
    int port = 8417, max_upload_mb = 4096;
  };
  auto options = std::make_shared<Options>();
  Command command(app, common, "serve", "Shows a folder of frames as a page for your browser.",
                  "limpid serve ~/astro");
  command.optional_argument("folder", options->folder, "where the frames lie")
      .option("--port", options->port, {0, 65535}, "of the address; 0 takes any that is free")
      .option("--bind", options->bind,
              "address to listen on; others than this machine's own ask for a token")
      .option("--max-upload", options->max_upload_mb, {1, 1048576},
              "largest file that may be dropped on the page, MB");
  command.run([options, common] {
    web::ServeOptions serving;
    serving.folder = options->folder;
    serving.bind = options->bind;
    serving.port = options->port;
    serving.max_upload = static_cast<std::uint64_t>(options->max_upload_mb) << 20U;
    serving.threads = common.threads();
    const auto ready = [&common](const web::Serving& now) {
      if (now.guarded) {
        common.note(
            "everyone who reaches this machine can try this address; the connection is "
            "not encrypted, and the token in it opens the folder");
      }
      common.print({{{"url", now.url}, {"folder", now.folder.string()}},
                    now.folder.string() + " is at " + now.url + "  (Ctrl-C ends)"});
    };
    web::serve(serving, ready, common.progress().stop);
  });
}

}  // namespace limpid::cli
