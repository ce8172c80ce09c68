// limpid convert: the same frame in another format, depth or packing.
#include <limpid/io.h>
#include <limpid/picture.h>

#include "command.h"

namespace limpid::cli {
namespace {

struct Options {
  std::vector<std::filesystem::path> paths;
  std::string format = "as-input", depth = "as-input", compress = "none", checksum = "none";
  int image = 0;
  bool overwrite = false;
  std::vector<int> region;
  bool stretch = false;
  std::filesystem::path stretch_as;
  int zoom = 1;
};

/// The place of `word` in the list that its option offers, as a value of the enumeration that lists
/// the same things in the same order.
template <typename Enumeration>
Enumeration chosen(const std::string& word, const std::vector<std::string>& words) {
  return static_cast<Enumeration>(std::ranges::find(words, word) - words.begin());
}

const std::vector<std::string> depths{"as-input", "u8", "u16", "f32"};
const std::vector<std::string> compressions{"none", "zlib", "lz4", "zstd", "rice", "lzw"};
const std::vector<std::string> checksums{"none",    "sha-1",    "sha-256",
                                         "sha-512", "sha3-256", "sha3-512"};

/// The stretch asked for, if any: the frame's own, or another's so that the two can be compared.
std::optional<Stretch> stretch_of(const Frame& frame, const Options& options) {
  if (options.stretch_as.empty())
    return options.stretch ? std::optional(measure_stretch(frame.image.view())) : std::nullopt;
  const Frame other = read_frame(options.stretch_as);
  if (other.image.channels() != frame.image.channels())
    throw Error(ErrorKind::usage,
                options.stretch_as.string() + ": --stretch-as takes a frame with as many channels");
  return measure_stretch(other.image.view());
}

/// What the stretch, --region and --zoom make of a frame: something to look at, which has no place
/// in the sky and no scale any more, so that the file's header does not apply to it.
Frame picture_of(const Frame& frame, const Options& options, const std::string& name) {
  ConstView shown = frame.image.view();
  if (!options.region.empty()) {
    if (options.region.size() != 4) throw Error(ErrorKind::usage, "--region: write X,Y,W,H");
    const Rect rect{options.region[0], options.region[1], options.region[2], options.region[3]};
    if (rect.width < 1 || rect.height < 1 ||
        intersect(rect, {0, 0, shown.width(), shown.height()}) != rect) {
      throw Error(ErrorKind::usage, name + ": --region reaches outside the frame");
    }
    shown = shown.crop(rect);
  }
  const auto stretch = stretch_of(frame, options);
  Image image = stretch ? apply(*stretch, shown) : copy(shown);
  if (options.zoom > 1) image = enlarge(image.view(), options.zoom);
  return {std::move(image), {}};
}

Result convert(const Job& job, const Options& options, const std::string& history,
               const Progress& progress) {
  const WriteOptions writing{.depth = chosen<Depth>(options.depth, depths),
                             .compression = chosen<Compression>(options.compress, compressions),
                             .checksum = chosen<Checksum>(options.checksum, checksums),
                             .overwrite = options.overwrite,
                             .format = options.format == "as-input" ? "" : options.format,
                             .history = history};
  check_writable(job.output, writing);
  Frame frame = read_frame(job.input, {.image = options.image}, progress.part(0.0, 0.5));
  for (const std::string& note : frame.metadata.notes) progress.say(note);
  if (options.stretch || !options.stretch_as.empty() || !options.region.empty() ||
      options.zoom > 1) {
    frame = picture_of(frame, options, job.input.string());
  }
  write_frame(job.output, frame, writing, progress.part(0.5, 1.0));
  return {{{"input", job.input.string()},
           {"output", job.output.string()},
           {"width", frame.image.width()},
           {"height", frame.image.height()},
           {"channels", frame.image.channels()}},
          job.output.string()};
}

}  // namespace

void add_convert(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(app, common, "convert", "Writes a frame in another format, depth or packing.",
                  "limpid convert m31.fits m31.xisf --compress zstd");
  command
      .inputs(options->paths, "what to read, and last the file or FOLDER/ to write; - is a stream")
      .choice("--format", options->format, {"as-input", "fits", "xisf", "tif", "png"},
              "format of the files in FOLDER/, or of a stream")
      .choice("--depth", options->depth, depths, "samples: unsigned integers or floats")
      .choice("--compress", options->compress, compressions,
              "packing; FITS: zlib, rice; XISF: zlib, lz4, zstd; TIFF: zlib, zstd, lzw")
      .choice("--checksum", options->checksum, checksums, "of each block of an XISF file")
      .option("--image", options->image, {0, 9999}, "which image of a file that holds several")
      .flag("--stretch", options->stretch, "make it visible: sky dark grey, faint things bright")
      .option("--stretch-as", options->stretch_as,
              "--stretch by the brightness of this frame, to compare the two")
      .option("--region", options->region, "X,Y,W,H: only that part, to look at")
      .option("--zoom", options->zoom, {1, 32}, "each pixel as a square of so many")
      .flag("--overwrite", options->overwrite, "replace files that exist");
  command.run([options, common] {
    if (options->paths.size() < 2) {
      throw Error(ErrorKind::usage, "convert: name what to read and what to write");
    }
    const std::vector<std::filesystem::path> inputs(options->paths.begin(),
                                                    options->paths.end() - 1);
    const std::string ending = options->format == "as-input" ? "" : "." + options->format;
    common.for_each(inputs, options->paths.back(), ending,
                    [&](const Job& job, const Progress& progress) {
                      return convert(job, *options, common.history(), progress);
                    });
  });
}

}  // namespace limpid::cli
