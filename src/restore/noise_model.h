// Where stars are, and how noisy the light is.
#pragma once

#include <algorithm>
#include <vector>

#include <limpid/image.h>
#include <limpid/stars.h>

namespace limpid {

/// Radius in which a star, with a Moffat's wings of beta 3, outshines half the noise; at most 48
/// px, 0 where it nowhere does. `peak` and `sigma` in one unit.
double star_radius(double peak, double fwhm_px, float sigma);

/// (1, part's size): 1 where a detected star outshines half the noise: star_radius().
/// `typical_fwhm_px`: of stars that were not fitted.
Image star_discs(const StarCatalogue& catalogue, double typical_fwhm_px, Rect part,
                 int threads = 1);

/// What tells differences between result and record from noise.
struct NoiseModel {
  std::vector<SkyLevel> sky;         ///< per channel
  std::vector<float> photon_shares;  ///< per channel: variance per unit of light
  float correlation = 1;             ///< StarCatalogue::noise_correlation
};

/// Noise variance of a pixel of one channel with this much light, in the frame's units.
class NoiseVariance {
 public:
  NoiseVariance(const NoiseModel& noise, int channel)
      : sky_(noise.sky[static_cast<std::size_t>(channel)]),
        share_(noise.photon_shares[static_cast<std::size_t>(channel)]),
        correlation_(noise.correlation * noise.correlation) {}
  [[nodiscard]] float operator()(float light) const {
    return correlation_ * (sky_.sigma * sky_.sigma + share_ * std::max(0.0F, light - sky_.sky));
  }

 private:
  SkyLevel sky_;
  float share_, correlation_;
};

/// Photons are told by how much noisier bright blocks without stars are than faint ones (Foi et al.
/// 2008, IEEE TIP 17, 1737), noise being what a kernel blind to planes sees (Immerkaer 1996, CVIU
/// 64, 300). Interpolated noise shows there too little, but as much so over the sky: only the ratio
/// is used. Their share is 0 where too few blocks tell. `typical_fwhm_px`: of stars that were not
/// fitted.
NoiseModel measure_noise(ConstView frame, const StarCatalogue& catalogue, double typical_fwhm_px,
                         int threads);

}  // namespace limpid
