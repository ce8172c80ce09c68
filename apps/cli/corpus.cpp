// limpid corpus: a folder of sharp images packed for training.
#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>

#include <limpid/io.h>
#include <limpid/training.h>

#include "command.h"
#include "outputs.h"

namespace limpid::cli {
namespace {

struct Options {
  std::filesystem::path folder, output;
  bool overwrite = false;
  int patch_px = 512;
  double max_megapixels = 60, max_megabytes = 0;
  std::string bits = "16";
  std::vector<std::string> validation{"m51",    "horsehead",   "ring_m57",  "ngc1300",
                                      "m101",   "rho_oph",     "smacs0723", "omega_cen",
                                      "ngc604", "carina_ridge"};
};

/// One row of a MANIFEST.tsv: tab-separated, the first line names the columns.
using Row = std::map<std::string, std::string>;

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> fields;
  std::stringstream stream(line);
  for (std::string field; std::getline(stream, field, '\t');) {
    if (!field.empty() && field.back() == '\r') field.pop_back();
    fields.push_back(field);
  }
  return fields;
}

std::map<std::string, Row> read_manifest(const std::filesystem::path& folder) {
  std::map<std::string, Row> rows;
  std::ifstream stream(folder / "MANIFEST.tsv");
  std::string line;
  if (!std::getline(stream, line)) return rows;
  const auto columns = split(line);
  while (std::getline(stream, line)) {
    const auto fields = split(line);
    Row row;
    for (std::size_t i = 0; i < std::min(fields.size(), columns.size()); ++i)
      row[columns[i]] = fields[i];
    rows[row["file"]] = row;
  }
  return rows;
}

/// The text behind `key` in notes such as "...; suggested_reduce=1.5; group=hst_m51".
std::string noted(const std::string& notes, const std::string& key) {
  const auto at = notes.find(key);
  if (at == std::string::npos) return "";
  const auto start = at + key.size();
  return notes.substr(start, notes.find_first_of("; ", start) - start);
}

CorpusSource describe(const std::filesystem::path& path, Row row) {
  CorpusSource source;
  source.name = path.filename().string();
  const std::string group = noted(row["notes"], "group=");
  source.object = source.name + " " + group + " " + row["object"];
  std::ranges::transform(source.object, source.object.begin(),
                         [](unsigned char c) { return std::tolower(c); });
  source.credit = row["credit/licence"];
  const std::string reduce = noted(row["notes"], "suggested_reduce=");
  source.reduce =
      reduce.empty() ? 1.0 : std::clamp(std::strtod(reduce.c_str(), nullptr), 1.0, 16.0);
  source.linear = row["kind"].rfind("linear", 0) == 0;
  return source;
}

}  // namespace

void add_corpus(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(
      app, common, "corpus",
      "Packs a folder of sharp images for training; a MANIFEST.tsv there gives credits and scales.",
      "limpid corpus hubble/ -o corpus.safetensors");
  command
      .argument("folder", options->folder,
                "FITS, PNG, TIFF and JPEG images of HST or JWST sharpness; or a corpus, to make a "
                "smaller one of it")
      .output(options->output, options->overwrite, "the corpus, a safetensors file")
      .option("--patch", options->patch_px, {256, 2048}, "side of a patch in pixels")
      .option("--max-megapixels", options->max_megapixels, {1, 4000},
              "size of the corpus; the plainest patches are left out")
      .option("--max-megabytes", options->max_megabytes, {0, 1e6},
              "size of the file in millions of bytes; 0: no limit")
      .choice("--bits", options->bits, {"16", "8"},
              "8: a quarter of the bytes; 256 steps of brightness, colour for 2x2 pixels together")
      .option("--validation", options->validation,
              "objects held out: words that their names contain");
  command.run([options, common] {
    const bool repack = std::filesystem::is_regular_file(options->folder);
    if (!repack && !std::filesystem::is_directory(options->folder)) {
      throw Error(ErrorKind::bad_input, options->folder.string() + ": no folder and no corpus");
    }
    check_outputs({options->output}, options->overwrite);
    auto manifest = repack ? std::map<std::string, Row>() : read_manifest(options->folder);
    std::vector<std::filesystem::path> paths;
    std::filesystem::directory_iterator entries;
    if (!repack) entries = std::filesystem::directory_iterator(options->folder);
    for (const auto& entry : entries) {
      if (entry.is_regular_file() && entry.path().extension() != ".tsv" &&
          entry.path().extension() != ".md") {
        paths.push_back(entry.path());
      }
    }
    std::ranges::sort(paths);
    const Progress progress = common.progress();
    CorpusBuilder builder(options->output,
                          {options->patch_px, options->max_megapixels, options->max_megabytes,
                           options->bits == "8" ? 8 : 16, options->validation});
    int used = 0;
    if (repack) builder.add_corpus(options->folder);
    for (std::size_t i = 0; i < paths.size(); ++i) {
      progress.throw_if_stopped();
      progress(static_cast<double>(i) / static_cast<double>(paths.size()),
               paths[i].filename().string());
      try {
        CorpusSource source = describe(paths[i], manifest[paths[i].filename().string()]);
        source.image = read_frame(paths[i]).image;
        builder.add(source);
        ++used;
      } catch (const Error& error) {
        if (error.kind() != ErrorKind::bad_input) throw;
        common.note(std::string("left out: ") + error.what());
      }
    }
    const CorpusReport report = std::move(builder).finish();
    const auto megabytes = std::filesystem::file_size(options->output) >> 20U;
    const std::string origin = repack ? options->folder.string() : std::to_string(used) + " images";
    common.print({{{"images", used},
                   {"training_patches", report.training_patches},
                   {"validation_patches", report.validation_patches},
                   {"stars_removed", report.stars_removed},
                   {"manifest_hash", report.manifest_hash}},
                  origin + ", " + std::to_string(report.training_patches) + " training and " +
                      std::to_string(report.validation_patches) + " validation patches, " +
                      std::to_string(report.stars_removed) + " stars removed, " +
                      std::to_string(megabytes) + " MiB\n"});
  });
}

}  // namespace limpid::cli
