// limpid simulate: frames of known truth.
#include <fstream>

#include <limpid/io.h>
#include <limpid/training.h>

#include "command.h"
#include "outputs.h"

namespace limpid::cli {
namespace {

struct Options {
  std::filesystem::path output, truth, stars, corpus;
  bool overwrite = false;
  std::string scene = "demo";
  int width = 1536, height = 1024, star_count = 5000;
  double fwhm_px = 3.6;
  std::uint64_t seed = 1;
};

/// Places in the frame and light per channel, for other programs.
void write_catalogue(const std::filesystem::path& path, const std::vector<SimulatedStar>& stars,
                     bool overwrite) {
  std::ostringstream text;
  text << "x,y,flux_1,flux_2,flux_3,saturated\n";
  for (const SimulatedStar& star : stars) {
    text << star.x << ',' << star.y << ',' << star.flux[0] << ',' << star.flux[1] << ','
         << star.flux[2] << ',' << star.saturated << '\n';
  }
  const std::string bytes = text.str();
  write_file_atomically(path, bytes.data(), bytes.size(), overwrite);
}

Frame framed(Image image) {
  Frame frame;
  frame.image = std::move(image);
  frame.metadata.format = "fits";
  frame.metadata.cards.push_back({.keyword = "OBJECT",
                                  .value = "limpid simulation",
                                  .comment = "not a recorded frame",
                                  .is_string = true});
  return frame;
}

}  // namespace

void add_simulate(CLI::App& app, const Common& common) {
  auto options = std::make_shared<Options>();
  Command command(app, common, "simulate",
                  "Renders a frame whose truth is known: a night's work, or one training scene.",
                  "limpid simulate -o night.fits --truth truth.fits --stars stars.csv");
  command.output(options->output, options->overwrite, "the recorded frame")
      .choice("--scene", options->scene, {"demo", "training"},
              "demo: nebula, dust, stars, coma in the corners; training: what the trainer draws")
      .option("--truth", options->truth, "also write what the sharp frame would be")
      .option("--stars", options->stars,
              "also write the stars as CSV; light in units of the sky noise")
      .option("--corpus", options->corpus,
              "for --scene training: sharp patches; without it nebulae are procedural")
      .option("--width", options->width, {256, 16384}, "of a demo frame in pixels")
      .option("--height", options->height, {256, 16384}, "of a demo frame in pixels")
      .option("--star-count", options->star_count, {0, 1e6}, "of a demo frame")
      .option("--fwhm", options->fwhm_px, {1.5, 7},
              "of stars on the axis of a demo frame in pixels")
      .option("--seed", options->seed, "another number, another sky");
  command.run([options, common] {
    const Options& o = *options;
    const WriteOptions writing{
        .depth = Depth::f32, .overwrite = o.overwrite, .history = common.history()};
    check_writable(o.output, writing);
    if (!o.truth.empty()) check_writable(o.truth, writing);
    check_outputs({o.output, o.truth, o.stars}, o.overwrite);
    Image recorded, truth;
    std::vector<SimulatedStar> stars;
    if (o.scene == "demo") {
      SimulatedNight night =
          simulate_night({{o.width, o.height}, o.seed, o.fwhm_px, o.star_count, common.threads()},
                         common.progress());
      recorded = std::move(night.recorded);
      truth = std::move(night.truth);
      stars = std::move(night.stars);
    } else {
      const Simulator simulator(o.corpus, false, o.seed, 0, common.threads(), common.progress());
      SimulatedScene scene = simulator.draw(0);
      recorded = std::move(scene.input);
      truth = std::move(scene.target);
      stars = std::move(scene.stars);
    }
    const nlohmann::ordered_json json{{"output", o.output.string()},
                                      {"width", recorded.width()},
                                      {"height", recorded.height()},
                                      {"stars", stars.size()}};
    write_frame(o.output, framed(std::move(recorded)), writing);
    if (!o.truth.empty()) write_frame(o.truth, framed(std::move(truth)), writing);
    if (!o.stars.empty()) write_catalogue(o.stars, stars, o.overwrite);
    common.print({json, o.output.string() + "\n"});
  });
}

}  // namespace limpid::cli
