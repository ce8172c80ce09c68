#include "measure/star_template.h"

#include <cmath>

namespace limpid {

StarTemplate::StarTemplate(float fwhm, float moffat_beta)
    : fwhm_px(fwhm),
      beta(moffat_beta),
      filter(fwhm) {
  const int side = 4 * filter.reach_px() + 1;
  Psf psf;
  psf.fwhm_px = fwhm;
  psf.beta = beta;
  const Image kernel = psf.kernel(side);
  const Image filtered = filter.apply(kernel.view(), 1);
  const int middle = side / 2;
  const auto light = kernel.view(), response = filtered.view();
  height = response(0, middle, middle);
  curvature =
      (2 * height - response(0, middle, middle - 1) - response(0, middle, middle + 1)) / height;
  neighbour = light(0, middle, middle + 1) / light(0, middle, middle);
  diagonal_neighbour = light(0, middle + 1, middle + 1) / light(0, middle, middle);
}

float StarTemplate::profile(float distance_px) const {
  const float scale = 2 * distance_px / fwhm_px;
  return std::pow(1 + scale * scale * (std::exp2(1 / beta) - 1), -beta);
}

}  // namespace limpid
