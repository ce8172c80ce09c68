// The evaluation as Markdown, for docs/models.md and for the weights themselves.
#include <array>
#include <cmath>
#include <cstdio>

#include <limpid/training.h>

namespace limpid {
namespace {

std::string line(const char* format, auto... values) {
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

/// "1.034 ± .012": the figure and half the width of its interval; "-" for what does not apply.
std::string figure(const Estimate& e, int digits, double scale = 1, double offset = 0) {
  if (!std::isfinite(e.value)) return "-";
  const std::string value = line("%.*f", digits, offset + scale * e.value);
  if (!std::isfinite(e.low)) return value;
  std::string half = line("%.*f", digits, scale * (e.high - e.low) / 2);
  if (half.starts_with("0.")) half.erase(0, 1);
  return value + " ± " + half;
}

std::string star_table(const char* title, const std::vector<StarRow>& rows) {
  std::string text =
      std::string(title) +
      " (isolated stars, unsaturated, S/N of the peak 60 to 3000 where nothing else is said; "
      "medians):\n\n"
      "| class | FWHM asked / input | achieved / asked | ellipticity before | after | flux, % | "
      "to wanted, % | "
      "centroid before, px | after | ring, % | colour shift px | stars |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const StarRow& r : rows) {
    text += line("| %s | %.2f | ", r.label.c_str(), r.asked_fwhm_ratio) +
            figure(r.fwhm_ratio_error, 3, 1, 1) + " | " + figure(r.ellipticity_before, 3) + " | " +
            figure(r.ellipticity_after, 3) + " | " + figure(r.flux_error, 2, 100) + " | " +
            figure(r.flux_to_wanted, 2, 100) + " | " + figure(r.centroid_before_px, 3) + " | " +
            figure(r.centroid_after_px, 3) + " | " + figure(r.ring_depth, 2, 100) + " | " +
            figure(r.colour_shift_px, 3) + line(" | %d |\n", r.stars);
  }
  return text;
}

std::string nebula_table(const std::vector<NebulaRow>& rows) {
  std::string text =
      "\nNon-stellar gain over the input in dB, against f*g' + n (N = 0.9, held-out objects; "
      "Richardson-Lucy and its total-variation form at the best of 5, 10, 20, 40 steps):\n\n"
      "| class | network | previous | PSF measured in 300 stars | in use | guide 0.7 | guide 8 | "
      "Richardson-Lucy | with total variation "
      "| in use over the better | best linear filter | share of it |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const NebulaRow& r : rows) {
    text += "| " + r.label + " | " + figure(r.network, 2) + " | " + figure(r.previous, 2) + " | " +
            figure(r.measured_psf, 2) + " | " + figure(r.in_use, 2) + " | " +
            figure(r.guide_low, 2) + " | " + figure(r.guide_high, 2) + " | ";
    if (std::isfinite(r.wiener_bound.value)) {
      text += figure(r.richardson_lucy, 2) + line(" (%d)", r.richardson_lucy_steps) + " | " +
              figure(r.variation_lucy, 2) + line(" (%d, %g)", r.variation_lucy_steps, r.variation) +
              " | " + figure(r.over_lucy, 2) + " | " + figure(r.wiener_bound, 2) +
              line(" | %.0f %% |\n",
                   100 * (std::isfinite(r.in_use.value) ? r.in_use : r.network).value /
                       r.wiener_bound.value);
    } else {
      text += "- | - | - | - | - |\n";
    }
  }
  return text;
}

std::string clipped_table(const std::string& title, const std::vector<ClippedRow>& rows) {
  std::string text = "\n" + title +
                     " (S 0.25), the light within four FWHM against the wanted picture; ring: "
                     "deepest mean below it, % of full scale; medians:\n\n"
                     "| star's peak | gain, dB | light, % | ring, % | peak / wanted | stars |\n"
                     "| --- | --- | --- | --- | --- | --- |\n";
  for (const ClippedRow& r : rows) {
    text += "| " + r.label + " | " + figure(r.gain_db, 2) + " | " + figure(r.light_error, 2, 100) +
            " | " + figure(r.ring_depth, 2, 100) + " | " + figure(r.peak_ratio, 2) +
            line(" | %d |\n", r.stars);
  }
  return text;
}

}  // namespace

std::string Evaluation::table() const {
  std::string text;
  if (!program_stars.empty()) {
    text += star_table("Stars as `limpid deconvolve` makes them, the PSF measured in each scene",
                       program_stars) +
            "\n";
  }
  if (!stars.empty())
    text += star_table("The network alone, told the PSF with a measurement's errors", stars);
  if (!nebulae.empty()) text += nebula_table(nebulae);
  if (!program_clipped.empty())
    text += clipped_table("Clipped stars as `limpid deconvolve` makes them", program_clipped);
  if (!clipped.empty()) text += clipped_table("Clipped stars, the network alone", clipped);
  if (std::isfinite(noise_change_sigma.value))
    text += "\nPure noise changed by " + figure(noise_change_sigma, 3) + " sigma rms.\n";
  if (starless_megapixels > 0) {
    text += line("\nStars invented in %.2f megapixels of starless truth: %d, ", starless_megapixels,
                 invented) +
            line("%.2f per 4 megapixels (95 %%: %.2f to %.2f); ", invented_per_4_megapixels.value,
                 invented_per_4_megapixels.low, invented_per_4_megapixels.high) +
            line(
                "by the network alone %d. Found at 5 sigma where the wanted picture shows no star "
                "at 3.5 were %d; of the others' light it has more than half.\n",
                invented_by_network, unseen);
  }
  text +=
      "\n±: half the 95 % interval, from drawing whole scenes anew 1000 times (bootstrap); that of "
      "the invented stars is Poisson's.\n";
  return text;
}

}  // namespace limpid
