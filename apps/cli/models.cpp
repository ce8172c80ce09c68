// limpid models: which weights are installed, and where they come from.
#include <limpid/network.h>

#include <iomanip>
#include <sstream>

#include "command.h"

namespace limpid::cli {

void add_models(CLI::App& app, const Common& common) {
  Command command(app, common, "models", "Lists the installed weights with their provenance.",
                  "limpid models");
  command.run([common] {
    Result result;
    result.json["models"] = nlohmann::ordered_json::array();
    std::ostringstream text;
    bool first = true;
    for (const InstalledModel& model : installed_models()) {
      const NetworkInfo& info = model.info;
      result.json["models"].push_back({{"name", info.name},
                                       {"file", model.path.string()},
                                       {"default", first},
                                       {"architecture", info.architecture},
                                       {"steps", info.steps},
                                       {"patches", info.patches},
                                       {"config_hash", info.config_hash},
                                       {"corpus_hash", info.corpus_hash},
                                       {"validation_table", info.validation_table}});
      text << info.name << (first ? " (default)" : "") << "\n  file          "
           << model.path.string() << "\n  architecture  " << info.architecture
           << "\n  trained       " << info.steps << " steps, " << info.patches
           << " patches\n  corpus        " << info.corpus_hash << "\n  configuration "
           << info.config_hash << '\n';
      if (common.verbose()) text << '\n' << info.validation_table << '\n';
      first = false;
    }
    if (first)
      text << "No weights are installed. Name a folder of them in LIMPID_MODELS, or give --ai "
              "FILE.\n";
    result.text = text.str();
    common.print(result);
  });
}

}  // namespace limpid::cli
