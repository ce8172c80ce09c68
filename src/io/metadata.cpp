// What the metadata of a frame say about the sky.
#include <limpid/io.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <numbers>

namespace limpid {
namespace {

std::optional<double> number(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  // FITS allows the D of Fortran's double precision.
  std::string plain = *text;
  for (char& c : plain) c = c == 'D' || c == 'd' ? 'E' : c;
  char* end = nullptr;
  const double value = std::strtod(plain.c_str(), &end);
  if (end == plain.c_str() || !std::isfinite(value)) return std::nullopt;
  return value;
}

const Property* find_property(const Metadata& metadata, const std::string& id) {
  for (const Property& property : metadata.properties) {
    if (property.id == id) return &property;
  }
  return nullptr;
}

std::optional<double> property_number(const Metadata& metadata, const std::string& id) {
  const Property* property = find_property(metadata, id);
  return property == nullptr ? std::nullopt : number(property->value);
}

std::optional<double> positive(double arcsec) {
  if (std::isfinite(arcsec) && arcsec > 0.0) return arcsec;
  return std::nullopt;
}

/// sqrt |det| of a matrix in degrees per pixel, in arcseconds.
std::optional<double> scale_of_matrix(const std::array<double, 4>& m) {
  return positive(3600.0 * std::sqrt(std::abs(m[0] * m[3] - m[1] * m[2])));
}

/// FITS WCS: CDi_j, or CDELTi with PCi_j (Greisen & Calabretta 2002, A&A 395, 1061).
std::optional<double> scale_from_wcs(const Metadata& metadata) {
  const std::string axis = metadata.card("CTYPE1").value_or("");
  bool celestial = false;
  for (const char* prefix : {"RA", "DEC", "GLON", "GLAT", "ELON", "ELAT"}) {
    celestial = celestial || axis.starts_with(prefix);
  }
  if (!celestial) return std::nullopt;
  const auto value = [&](const char* keyword) { return number(metadata.card(keyword)); };
  if (value("CD1_1") || value("CD1_2")) {
    return scale_of_matrix({value("CD1_1").value_or(0.0), value("CD1_2").value_or(0.0),
                            value("CD2_1").value_or(0.0), value("CD2_2").value_or(0.0)});
  }
  const auto x = value("CDELT1");
  const auto y = value("CDELT2");
  if (!x || !y) return std::nullopt;
  return scale_of_matrix({*x * value("PC1_1").value_or(1.0), *x * value("PC1_2").value_or(0.0),
                          *y * value("PC2_1").value_or(0.0), *y * value("PC2_2").value_or(1.0)});
}

/// PixInsight's astrometric solution: degrees per pixel as a 2 x 2 matrix of doubles.
std::optional<double> scale_from_solution(const Metadata& metadata) {
  const Property* matrix =
      find_property(metadata, "PCL:AstrometricSolution:LinearTransformationMatrix");
  std::array<double, 4> m{};
  if (matrix == nullptr || matrix->data.size() != sizeof(m)) return std::nullopt;
  std::memcpy(m.data(), matrix->data.data(), sizeof(m));
  return scale_of_matrix(m);
}

}  // namespace

std::optional<std::string> Metadata::card(const std::string& keyword) const {
  for (const HeaderCard& card : cards) {
    if (card.keyword == keyword) return card.value;
  }
  return std::nullopt;
}

std::optional<double> pixel_scale_arcsec(const Metadata& metadata) {
  if (const auto scale = scale_from_wcs(metadata)) return scale;
  if (const auto scale = scale_from_solution(metadata)) return scale;
  constexpr double arcsec_per_radian = 180.0 * 3600.0 / std::numbers::pi;
  auto pixel_um = number(metadata.card("XPIXSZ"));
  if (!pixel_um) pixel_um = number(metadata.card("PIXSIZE1"));
  if (!pixel_um) pixel_um = property_number(metadata, "Instrument:Sensor:XPixelSize");
  auto focal_mm = number(metadata.card("FOCALLEN"));
  if (!focal_mm) {
    focal_mm = property_number(metadata, "Instrument:Telescope:FocalLength");  // in metres
    if (focal_mm) *focal_mm *= 1000.0;
  }
  if (!pixel_um || !focal_mm || *focal_mm <= 0.0) return std::nullopt;
  return positive(arcsec_per_radian * *pixel_um / (1000.0 * *focal_mm));
}

}  // namespace limpid
