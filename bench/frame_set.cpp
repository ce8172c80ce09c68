// Simulated sets of frames as files, stacks to compare with, and the figures of docs/mfdeconv.md.
//   limpid_frame_set make FOLDER [FRAMES SIDE NEBULA SEED STARS]
//     frames and truth.fits; STARS: a factor on the stars' light
//   limpid_frame_set stack mean|median|clipped OUT FRAME...
//   limpid_frame_set judge FOLDER RESULT...                  error, widths, light, outliers
//   limpid_frame_set rings STACK RESULT...                   the sky about the brightest stars
#include <limpid/io.h>
#include <limpid/multiframe.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "frame_sets.h"

namespace {

namespace fs = std::filesystem;
using namespace limpid;
using synthetic::FrameSet;
using synthetic::FrameSetSettings;

void write(const fs::path& path, Image image) {
  Frame frame;
  frame.image = std::move(image);
  frame.metadata.format = "fits";
  write_frame(path, frame, {.depth = Depth::f32, .overwrite = true});
}

/// Read back from the folder's name-giving file, so that `judge` knows the same truth. `stars`: a
/// factor on their light, of which S/N 60 to 1500 is the usual.
FrameSetSettings settings_of(int frames, int side, double nebula, int seed, double stars) {
  FrameSetSettings settings;
  settings.snr_low *= static_cast<float>(stars);
  settings.snr_high *= static_cast<float>(stars);
  settings.frames = frames;
  settings.size = {side, side};
  settings.nebula_sigma = static_cast<float>(nebula);
  settings.seed = static_cast<std::uint32_t>(seed);
  settings.satellites = true;
  settings.cosmic_rays = side * side / 4000;
  settings.sky_step = 2;
  settings.scale_step = 0.1F;
  settings.gain = 2;
  return settings;
}

int make(int argc, char** argv) {
  const fs::path folder = argv[2];
  const int frames = argc > 3 ? std::atoi(argv[3]) : 12, side = argc > 4 ? std::atoi(argv[4]) : 400;
  const double nebula = argc > 5 ? std::atof(argv[5]) : 30;
  const int seed = argc > 6 ? std::atoi(argv[6]) : 1;
  const double stars = argc > 7 ? std::atof(argv[7]) : 1;
  const FrameSet set = synthetic::make_frame_set(settings_of(frames, side, nebula, seed, stars));
  fs::create_directories(folder);
  for (std::size_t i = 0; i < set.frames.size(); ++i) {
    char name[40];
    std::snprintf(name, sizeof name, "frame-%03zu.fits", i + 1);
    write(folder / name, set.frames[i].clone());
  }
  std::FILE* file = std::fopen((folder / "set.txt").c_str(), "w");
  if (file == nullptr) return 1;
  std::fprintf(file, "%d %d %g %d %g\n", frames, side, nebula, seed, stars);
  std::fclose(file);
  write(folder / "truth.fits", set.ideal(2.0F));
  return 0;
}

int stack(int argc, char** argv) {
  std::vector<InputFrame> frames;
  for (int i = 4; i < argc; ++i) {
    const auto reader = std::make_shared<TileReader>(argv[i]);
    InputFrame& frame = frames.emplace_back();
    frame.name = argv[i];
    frame.size = reader->info().size;
    frame.channels = reader->info().channels;
    frame.read = [reader](Rect rect) {
      Image part = reader->read(rect);  // in the file's own numbers: frames differ in their scale
      for (float& value : part.pixels()) value *= static_cast<float>(reader->info().metadata.scale);
      return part;
    };
  }
  const std::string kind = argv[2];
  write(argv[3], stack_frames(frames, kind == "median"    ? Stacking::median
                                      : kind == "clipped" ? Stacking::clipped
                                                          : Stacking::mean));
  return 0;
}

double middle(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto half = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), half, values.end());
  return *half;
}

/// Root of the mean square in frame pixels' units, their mean difference taken out.
double error_against(ConstView image, ConstView truth, int factor) {
  std::vector<double> differences;
  for (int y = 12 * factor; y < image.height() - 12 * factor; ++y) {
    for (int x = 12 * factor; x < image.width() - 12 * factor; ++x)
      differences.push_back((image(0, y, x) - truth(0, y, x)) *
                            static_cast<double>(factor * factor));
  }
  const double level = middle(differences);
  double squares = 0;
  for (const double difference : differences)
    squares += (difference - level) * (difference - level);
  return std::sqrt(squares / static_cast<double>(differences.size()));
}

int judge(int argc, char** argv) {
  const fs::path folder = argv[2];
  std::FILE* file = std::fopen((folder / "set.txt").c_str(), "r");
  int frames = 0, side = 0, seed = 0;
  double nebula = 0, stars = 1;
  if (file == nullptr ||
      std::fscanf(file, "%d %d %lf %d %lf", &frames, &side, &nebula, &seed, &stars) != 5)
    return 1;
  std::fclose(file);
  const FrameSet set = synthetic::make_frame_set(settings_of(frames, side, nebula, seed, stars));
  std::printf(
      "| image | error at 2 px | at 1.5 px | star FWHM (px) | light | shift (px) | noise | "
      "outliers (sigma) |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (int i = 3; i < argc; ++i) {
    const Frame frame = read_frame(argv[i]);
    Image image = frame.image.clone();
    for (float& value : image.pixels()) value *= static_cast<float>(frame.metadata.scale);
    const int factor = image.width() / side;
    const Image truth = set.ideal(2.0F, factor);
    const auto f = static_cast<double>(factor);
    std::vector<double> differences;
    for (int y = 12 * factor; y < image.height() - 12 * factor; ++y) {
      for (int x = 12 * factor; x < image.width() - 12 * factor; ++x)
        differences.push_back((image.view()(0, y, x) - truth.view()(0, y, x)) * f * f);
    }
    const double level = middle(differences);
    double squares = 0, outliers = 0;
    int count = 0;
    std::vector<double> quiet;
    std::size_t index = 0;
    for (int y = 12 * factor; y < image.height() - 12 * factor; ++y) {
      for (int x = 12 * factor; x < image.width() - 12 * factor; ++x, ++index) {
        const double difference = differences[index] - level;
        squares += difference * difference;
        if (truth.view()(0, y, x) * f * f > 40) continue;
        if (set.outliers.view()(0, y / factor, x / factor) > 0) {
          outliers += difference;
          ++count;
        } else {
          quiet.push_back(std::abs(difference));
        }
      }
    }
    const StarCatalogue catalogue = detect_stars(image.view());
    std::vector<double> fwhm, light, dx, dy;
    for (const auto& star : set.stars) {
      const double x = (star.x + 0.5) * f - 0.5, y = (star.y + 0.5) * f - 0.5;
      const Star* found = synthetic::find_star(catalogue, static_cast<float>(x),
                                               static_cast<float>(y), static_cast<float>(2 * f));
      if (found == nullptr || found->fits.empty() || static_cast<double>(found->snr) < 50 * stars)
        continue;
      fwhm.push_back(found->fits[0].psf.fwhm_px / f);
      dx.push_back((found->fits[0].x - x) / f);
      dy.push_back((found->fits[0].y - y) / f);
      if (star.flux > 2000 * stars)
        light.push_back(
            synthetic::light_against_truth(image.view(), truth.view(), x, y, star.flux, factor));
    }
    std::printf("| %s | %.2f | %.2f | %.2f | %.4f | %.3f | %.2f | %.2f |\n",
                fs::path(argv[i]).stem().c_str(),
                std::sqrt(squares / static_cast<double>(differences.size())),
                error_against(image.view(), set.ideal(1.5F, factor).view(), factor), middle(fwhm),
                middle(light), std::hypot(middle(dx), middle(dy)), 1.4826 * middle(quiet),
                count > 0 ? outliers / count : 0.0);
  }
  return 0;
}

/// Mean and standard deviation without what lies over 3 of them from the mean. Not sigma_clip(),
/// which begins with the median deviation: in rings that a star's light fills it leaves out more
/// (noise of 0.49 instead of 0.63 at 4 to 6 px), and docs/mfdeconv.md has figures of versions that
/// are no more.
struct Clipped {
  double mean = 0, sigma = 0;
};
Clipped clipped(std::vector<double> values) {
  Clipped result;
  for (std::size_t before = 0; before != values.size() && !values.empty();) {
    before = values.size();
    double sum = 0, squares = 0;
    for (const double value : values) sum += value;
    result.mean = sum / static_cast<double>(before);
    for (const double value : values) squares += (value - result.mean) * (value - result.mean);
    result.sigma = std::sqrt(squares / static_cast<double>(before));
    std::erase_if(values,
                  [&](double value) { return std::abs(value - result.mean) > 3 * result.sigma; });
  }
  return result;
}

/// Pixels that far from a place, those near other stars left out.
std::vector<double> pixels_about(ConstView image, const StarCatalogue& stars, const Star& star,
                                 double from, double to) {
  std::vector<double> values;
  const int reach = static_cast<int>(to) + 1;
  const int x0 = static_cast<int>(star.x), y0 = static_cast<int>(star.y);
  for (int y = std::max(0, y0 - reach); y <= std::min(image.height() - 1, y0 + reach); ++y) {
    for (int x = std::max(0, x0 - reach); x <= std::min(image.width() - 1, x0 + reach); ++x) {
      const auto away = [x, y](const Star& s) { return std::hypot(x - s.x, y - s.y); };
      const bool alone = std::ranges::none_of(
          stars.stars, [&](const Star& s) { return s.x != star.x && away(s) < to; });
      if (alone && away(star) >= from && away(star) < to && std::isfinite(image(0, y, x)))
        values.push_back(image(0, y, x));
    }
  }
  return values;
}

/// Levels and noise in rings about the five brightest stars of a stack, over the sky of the same
/// image and in units of its noise: medians.
int rings(int argc, char** argv) {
  const StarCatalogue catalogue = detect_stars(read_frame(argv[2]).image.view());
  std::printf(
      "| image | 4 to 6 px | 6 to 8 | 8 to 10 | 10 to 14 | 14 to 20 |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  for (int i = 3; i < argc; ++i) {
    const Image image = read_frame(argv[i]).image.clone();
    const auto pixels = image.view().channel(0);
    std::vector<double> all;
    for (int y = 0; y < pixels.height(); ++y) {
      for (const float value : pixels.row(0, y)) {
        if (std::isfinite(value)) all.push_back(value);
      }
    }
    const Clipped sky = clipped(std::move(all));
    std::printf("| %s |", fs::path(argv[i]).stem().c_str());
    constexpr double edges[] = {4, 6, 8, 10, 14, 20};
    for (int ring = 0; ring < 5; ++ring) {
      std::vector<double> means, noises;
      for (std::size_t s = 0; s < std::min<std::size_t>(5, catalogue.stars.size()); ++s) {
        const auto about =
            pixels_about(pixels, catalogue, catalogue.stars[s], edges[ring], edges[ring + 1]);
        if (about.size() < 20) continue;
        const Clipped here = clipped(about);
        means.push_back((here.mean - sky.mean) / sky.sigma);
        noises.push_back(here.sigma / sky.sigma);
      }
      std::printf(" %.2f, %.2f |", middle(means), middle(noises));
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string what = argc > 2 ? argv[1] : "";
    if (what == "make") return make(argc, argv);
    if (what == "stack" && argc > 5) return stack(argc, argv);
    if (what == "judge" && argc > 3) return judge(argc, argv);
    if (what == "rings" && argc > 3) return rings(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  std::fprintf(stderr,
               "limpid_frame_set make FOLDER | stack mean|median|clipped OUT FRAME... | judge "
               "FOLDER RESULT... | rings STACK RESULT...\n");
  return 2;
}
