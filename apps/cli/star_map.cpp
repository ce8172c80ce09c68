#include "star_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace limpid::cli {
namespace {

constexpr double map_side = 640, margin = 40, plot_height = 240;

/// From blue (sharp) over white to red (soft).
std::string colour_of(double share) {
  const double t = std::clamp(share, 0.0, 1.0);
  constexpr std::array<double, 3> sharp{59, 111, 182}, middle{245, 245, 240}, soft{198, 72, 58};
  std::ostringstream text;
  text << "rgb(";
  for (std::size_t i = 0; i < 3; ++i) {
    const double value = t < 0.5 ? sharp[i] + 2 * t * (middle[i] - sharp[i])
                                 : middle[i] + (2 * t - 1) * (soft[i] - middle[i]);
    text << (i == 0 ? "" : ",") << std::lround(value);
  }
  return text.str() + ")";
}

void draw_map(std::ostream& svg, const FrameReport& report, Size frame, double scale) {
  const auto [sharpest, softest] =
      std::ranges::minmax_element(report.field, {}, &FrameReport::Cell::fwhm_px);
  // Colours span at least 10 %, so that an even frame looks even.
  const double middle = 0.5 * (sharpest->fwhm_px + softest->fwhm_px);
  const double span = std::max<double>(softest->fwhm_px - sharpest->fwhm_px, 0.1 * middle);
  const double width = frame.width * scale / report.field_columns;
  const double height = frame.height * scale / report.field_rows;
  for (const FrameReport::Cell& cell : report.field) {
    const double x = margin + (cell.x + 0.5) * scale, y = margin + (cell.y + 0.5) * scale;
    svg << "<rect x='" << x - width / 2 << "' y='" << y - height / 2 << "' width='" << width
        << "' height='" << height << "' fill='" << colour_of((cell.fwhm_px - middle) / span + 0.5)
        << "'/>\n";
    // A whole cell long at ellipticity 0.5.
    const double half = std::min(width, height) * std::min<double>(cell.ellipticity, 0.5);
    const double dx = half * std::cos(cell.angle_rad), dy = half * std::sin(cell.angle_rad);
    svg << "<line x1='" << x - dx << "' y1='" << y - dy << "' x2='" << x + dx << "' y2='" << y + dy
        << "' stroke='black' stroke-width='2'/>\n";
    svg << "<text x='" << x << "' y='" << y + height / 2 - 4 << "' text-anchor='middle'>" << cell.fwhm_px
        << "</text>\n";
  }
}

void draw_profiles(std::ostream& svg, const std::vector<std::vector<RadialPoint>>& profiles, double top,
                   double width) {
  float furthest = 0;
  for (const auto& profile : profiles) {
    if (!profile.empty()) furthest = std::max(furthest, profile.back().radius_px);
  }
  if (furthest == 0) return;
  // Four decades of light, so that the wings are seen.
  const auto place_x = [&](double radius) { return margin + width * radius / furthest; };
  const auto place_y = [&](double light) {
    return top + plot_height * std::clamp(-std::log10(std::max(light, 1e-9)) / 4, -0.03, 1.0);
  };
  svg << "<rect x='" << margin << "' y='" << top << "' width='" << width << "' height='" << plot_height
      << "' fill='none' stroke='#888'/>\n";
  for (int decade = 0; decade <= 4; ++decade) {
    const double y = top + plot_height * decade / 4;
    svg << "<line x1='" << margin << "' y1='" << y << "' x2='" << margin + width << "' y2='" << y
        << "' stroke='#ddd'/><text x='" << margin - 6 << "' y='" << y + 4 << "' text-anchor='end'>"
        << (decade == 0 ? "1" : "1e-" + std::to_string(decade)) << "</text>\n";
  }
  for (int radius = 0; radius <= static_cast<int>(furthest); radius += std::max(1, static_cast<int>(furthest) / 10)) {
    svg << "<text x='" << place_x(radius) << "' y='" << top + plot_height + 16
        << "' text-anchor='middle'>" << radius << "</text>\n";
  }
  svg << "<text x='" << margin + width / 2 << "' y='" << top + plot_height + 34
      << "' text-anchor='middle'>distance from the star, px (light relative to its peak)</text>\n";
  const std::array<const char*, 3> colours =
      profiles.size() == 3 ? std::array{"#c0392b", "#27803b", "#2c5fb3"} : std::array{"#222", "#222", "#222"};
  for (std::size_t c = 0; c < profiles.size() && c < colours.size(); ++c) {
    svg << "<polyline fill='none' stroke-width='2' stroke='" << colours[c] << "' points='";
    for (const RadialPoint& point : profiles[c]) {
      svg << place_x(point.radius_px) << ',' << place_y(point.light) << ' ';
    }
    svg << "'/>\n";
  }
}

}  // namespace

std::string star_map_svg(const StarCatalogue& catalogue, const FrameReport& report,
                         const std::vector<std::vector<RadialPoint>>& profiles) {
  const Size frame = catalogue.frame;
  const double scale = map_side / std::max({frame.width, frame.height, 1});
  const double width = frame.width * scale, height = frame.height * scale;
  const double plot_top = margin + height + 60, plot_width = std::max(width, map_side / 2);
  std::ostringstream svg;
  svg << std::fixed << std::setprecision(2)
      << "<svg xmlns='http://www.w3.org/2000/svg' font-family='sans-serif' font-size='12' width='"
      << plot_width + 2 * margin << "' height='" << plot_top + plot_height + 50 << "'>\n"
      << "<rect width='100%' height='100%' fill='white'/>\n"
      << "<text x='" << margin << "' y='24' font-size='14'>FWHM in pixels, and the long axis of the "
         "stars</text>\n";
  if (!report.field.empty()) draw_map(svg, report, frame, scale);
  for (const Star& star : catalogue.stars) {
    if (star.fits.empty()) continue;
    svg << "<circle cx='" << margin + (star.x + 0.5F) * scale << "' cy='" << margin + (star.y + 0.5F) * scale
        << "' r='1' fill='#333' fill-opacity='0.4'/>\n";
  }
  svg << "<text x='" << margin << "' y='" << margin + height + 24 << "'>" << report.summary << "</text>\n";
  draw_profiles(svg, profiles, plot_top, plot_width);
  svg << "</svg>\n";
  return svg.str();
}

}  // namespace limpid::cli
