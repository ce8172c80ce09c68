// Prints how well skies of simulated frames are found, by limpid and by what others do: the tables
// of docs/background.md. Run by scripts/background-figures.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include <Eigen/Dense>

#include <limpid/background.h>

#include "background/loss.h"
#include "core/statistics.h"
#include "synthetic_sky.h"

namespace limpid {
namespace {

using synthetic::Gradient;
using synthetic::Object;

struct Sample {
  double x, y, value;
};

/// Medians of boxes of 25 px on a grid, as sample-based tools take them.
std::vector<Sample> grid_samples(ConstView channel, int across) {
  std::vector<Sample> samples;
  const int pitch = channel.width() / across;
  for (int y = pitch / 2; y < channel.height(); y += pitch) {
    for (int x = pitch / 2; x < channel.width(); x += pitch) {
      std::vector<float> box;
      for (int v = std::max(0, y - 12); v <= std::min(channel.height() - 1, y + 12); ++v) {
        for (int u = std::max(0, x - 12); u <= std::min(channel.width() - 1, x + 12); ++u)
          box.push_back(channel(0, v, u));
      }
      samples.push_back({2.0 * x / channel.width() - 1, 2.0 * y / channel.height() - 1,
                         static_cast<double>(median_in_place(box))});
    }
  }
  return samples;
}

template <typename At>
Image draw(const Image& frame, const At& at) {
  Image model(frame.channels(), frame.size());
  for (int c = 0; c < frame.channels(); ++c) {
    for (int y = 0; y < frame.height(); ++y) {
      for (int x = 0; x < frame.width(); ++x) {
        model.view()(c, y, x) =
            static_cast<float>(at(c, 2.0 * x / frame.width() - 1, 2.0 * y / frame.height() - 1));
      }
    }
  }
  return model;
}

/// Second order, by least squares through the samples, clipped at two sigma until none is left out.
Image polynomial(const Image& frame) {
  using Terms = Eigen::Matrix<double, 6, 1>;
  const auto terms = [](double x, double y) { return Terms{1, x, y, x * x, x * y, y * y}; };
  std::vector<Terms> fits;
  for (int c = 0; c < frame.channels(); ++c) {
    auto samples = grid_samples(frame.view().channel(c), 24);
    Terms fit;
    for (int round = 0; round < 20; ++round) {
      Eigen::Matrix<double, 6, 6> normal = Eigen::Matrix<double, 6, 6>::Zero();
      Terms right = Terms::Zero();
      for (const Sample& s : samples) {
        const Terms t = terms(s.x, s.y);
        normal += t * t.transpose();
        right += t * s.value;
      }
      fit = normal.ldlt().solve(right);
      double squares = 0;
      for (const Sample& s : samples) squares += std::pow(s.value - fit.dot(terms(s.x, s.y)), 2);
      const double sigma = std::sqrt(squares / static_cast<double>(samples.size()));
      const std::size_t before = samples.size();
      std::erase_if(samples, [&](const Sample& s) {
        return std::abs(s.value - fit.dot(terms(s.x, s.y))) > 2 * sigma;
      });
      if (samples.size() == before || samples.size() < 20) break;
    }
    fits.push_back(fit);
  }
  return draw(frame, [&](int c, double x, double y) {
    return fits[static_cast<std::size_t>(c)].dot(terms(x, y));
  });
}

/// Thin plate through samples that are not brighter than the median by more than the median
/// deviation, as Siril and GraXpert place theirs; smoothing 0.1.
Image radial_basis(const Image& frame) {
  using background::basis;
  struct Fit {
    std::vector<Sample> samples;
    Eigen::VectorXd solution;
  };
  std::vector<Fit> fits;
  for (int c = 0; c < frame.channels(); ++c) {
    auto samples = grid_samples(frame.view().channel(c), 16);
    std::vector<float> values;
    for (const Sample& s : samples) values.push_back(static_cast<float>(s.value));
    const Spread spread = robust_spread(values);
    std::erase_if(samples, [&](const Sample& s) {
      return s.value > static_cast<double>(spread.median + spread.sigma);
    });
    const auto n = static_cast<Eigen::Index>(samples.size());
    Eigen::MatrixXd system = Eigen::MatrixXd::Zero(n + 3, n + 3);
    Eigen::VectorXd right = Eigen::VectorXd::Zero(n + 3);
    for (Eigen::Index i = 0; i < n; ++i) {
      const Sample& a = samples[static_cast<std::size_t>(i)];
      for (Eigen::Index k = 0; k < n; ++k) {
        const Sample& b = samples[static_cast<std::size_t>(k)];
        system(i, k) = basis(2, std::pow(a.x - b.x, 2) + std::pow(a.y - b.y, 2));
      }
      system(i, i) += 0.1;
      system(i, n) = system(n, i) = 1;
      system(i, n + 1) = system(n + 1, i) = a.x;
      system(i, n + 2) = system(n + 2, i) = a.y;
      right[i] = a.value;
    }
    fits.push_back({samples, system.partialPivLu().solve(right)});
  }
  Image small(frame.channels(), {frame.width() / 8 + 1, frame.height() / 8 + 1});
  return draw(frame, [&](int c, double x, double y) {
    const Fit& fit = fits[static_cast<std::size_t>(c)];
    const auto n = static_cast<Eigen::Index>(fit.samples.size());
    double sum = fit.solution[n] + fit.solution[n + 1] * x + fit.solution[n + 2] * y;
    for (Eigen::Index k = 0; k < n; ++k) {
      const Sample& s = fit.samples[static_cast<std::size_t>(k)];
      sum += fit.solution[k] * basis(2, std::pow(s.x - x, 2) + std::pow(s.y - y, 2));
    }
    return sum;
  });
}

BackgroundOptions seed_options() {
  BackgroundOptions options;
  options.auto_mask = false;
  options.robust_start = false;
  options.complexity = 0;
  options.starts = 1;
  return options;
}

struct Errors {
  double frame = 0, object = 0;
  double kept = 1;  ///< share of the object's flux that is left
};

/// In units of the noise, without the constant, which the frame's kept median takes away.
Errors judge(const synthetic::SkyFrame& truth, const Image& model, float sigma) {
  Errors errors;
  double frame = 0, under = 0, eaten = 0, light = 0;
  std::size_t count = 0, object_count = 0;
  for (int c = 0; c < model.channels(); ++c) {
    const std::size_t plane = model.size().pixels(), first = static_cast<std::size_t>(c) * plane;
    const auto of = [&](const Image& image) { return image.pixels().subspan(first, plane); };
    std::vector<float> sky_error(plane), outside;
    for (std::size_t i = 0; i < plane; ++i) {
      sky_error[i] = (of(model)[i] - of(truth.sky)[i]) / sigma;
      if (of(truth.object)[i] == 0) outside.push_back(sky_error[i]);
    }
    const float offset = median_in_place(outside);
    for (std::size_t i = 0; i < plane; ++i) {
      const double error = static_cast<double>(sky_error[i] - offset);
      frame += error * error;
      ++count;
      const double object = static_cast<double>(of(truth.object)[i] / sigma);
      if (object == 0) continue;
      under += error * error;
      eaten += error;
      light += object;
      ++object_count;
    }
  }
  errors.frame = std::sqrt(frame / static_cast<double>(count));
  if (object_count > 0) errors.object = std::sqrt(under / static_cast<double>(object_count));
  if (light > 0) errors.kept = 1 - eaten / light;
  return errors;
}

const char* name(Gradient gradient) {
  constexpr std::array names{"none", "plane", "dome", "moon", "mixture"};
  return names[static_cast<std::size_t>(gradient)];
}
const char* name(Object object) {
  constexpr std::array names{"none", "nebula", "cirrus"};
  return names[static_cast<std::size_t>(object)];
}

}  // namespace
}  // namespace limpid

int main(int argc, char** argv) {
  using namespace limpid;
  // --quick: limpid alone; then the seed (7 is the one that constants were chosen on), objects and
  // skies
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  if (quick) ++argv, --argc;
  const auto seed = static_cast<std::uint32_t>(argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 101);
  const BackgroundOptions own;
  std::printf("%-8s %-7s %5s | %-17s %-17s %-17s %-17s | %6s %5s\n", "sky", "object", "sigma",
              "polynomial", "radial basis", "seed's method", "limpid", "kept %", "mask%");
  double seconds = 0;
  for (const auto object : {Object::none, Object::nebula, Object::cirrus}) {
    for (const auto gradient :
         {Gradient::none, Gradient::plane, Gradient::dome, Gradient::moon, Gradient::mixture}) {
      for (const float strength : {3.0F, 20.0F, 60.0F}) {
        if (gradient == Gradient::none && strength != 3.0F) continue;
        if (argc > 2 && std::string(argv[2]).find(name(object)) == std::string::npos) continue;
        if (argc > 3 && std::string(argv[3]).find(name(gradient)) == std::string::npos) continue;
        synthetic::SkySettings settings;
        settings.gradient = gradient;
        settings.object = object;
        settings.gradient_sigma = strength;
        settings.seed = seed;
        const auto truth = synthetic::make_sky(settings);
        const ConstView frame = truth.frame.view();
        std::vector<Errors> all;
        if (!quick) {
          all.push_back(judge(truth, polynomial(truth.frame), settings.sigma));
          all.push_back(judge(truth, radial_basis(truth.frame), settings.sigma));
          all.push_back(
              judge(truth, fit_background(frame, seed_options()).render(), settings.sigma));
        }
        const Background fit = fit_background(frame, own);
        seconds += fit.report().seconds;
        const Errors mine = judge(truth, fit.render(), settings.sigma);
        all.push_back(mine);
        std::printf("%-8s %-7s %5.0f |", name(gradient), name(object),
                    static_cast<double>(strength));
        for (const Errors& errors : all) std::printf(" %7.3f %7.3f  ", errors.frame, errors.object);
        std::printf("| %6.1f %5.0f  %s (%.1f s)\n", 100 * mine.kept,
                    100 * fit.report().masked_share,
                    fit.report().sky_hidden   ? "plane"
                    : fit.report().start_kept ? "start"
                                              : "fit",
                    fit.report().seconds);
        std::fflush(stdout);
      }
    }
  }
  std::printf("%.1f s in fit_background\n", seconds);
}
