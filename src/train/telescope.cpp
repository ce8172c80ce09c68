#include "train/telescope.h"

#include <cmath>
#include <numbers>
#include <utility>

namespace limpid {

Aberration draw_aberration(Random& random) {
  if (random.chance(0.15)) return Aberration::none;
  if (random.chance(0.4)) return Aberration::mixed;
  return static_cast<Aberration>(random.index(aberration_count));
}

std::optional<BankPsf> draw_psf(Random& random, Aberration aberration, double fwhm_px) {
  BankPsf entry;
  entry.aberration = aberration;
  const auto optics = draw_optics(random, aberration, fwhm_px);
  const auto render = [&](const std::array<Optics, 3>& channels,
                          std::array<Psf, 3>& described) -> torch::Tensor {
    std::vector<torch::Tensor> psfs;
    double dx = 0, dy = 0;
    const bool same = aberration == Aberration::none || aberration == Aberration::guiding ||
                      aberration == Aberration::defocus || aberration == Aberration::coma ||
                      aberration == Aberration::second_coma ||
                      aberration == Aberration::astigmatism || aberration == Aberration::trefoil ||
                      aberration == Aberration::spherical || aberration == Aberration::spider;
    for (std::size_t c = 0; c < 3; ++c) {
      if (same && c > 0) {
        psfs.push_back(psfs[0]);
        described[c] = described[0];
      } else {
        psfs.push_back(render_psf(channels[c]));
        const auto psf = describe_psf(psfs.back());
        if (!psf || psf->fwhm_px < 1.3F || psf->fwhm_px > 9.0F || psf->ellipticity() > 0.5F)
          return {};
        described[c] = *psf;
      }
      dx += described[c].dx / 3;
      dy += described[c].dy / 3;
    }
    // Positions are those of the mean over the channels: put the mean centroid on the pixel.
    for (std::size_t c = 0; c < 3; ++c) {
      described[c].dx -= static_cast<float>(dx);
      described[c].dy -= static_cast<float>(dy);
    }
    auto stack = torch::stack(psfs);
    const auto fy = torch::fft::fftfreq(psf_grid, torch::kFloat).unsqueeze(1),
               fx = torch::fft::rfftfreq(psf_grid, torch::kFloat).unsqueeze(0);
    const auto phase = 2 * std::numbers::pi * psf_oversampling * (fx * dx + fy * dy);
    stack =
        torch::fft::irfft2(torch::fft::rfft2(stack) * torch::polar(torch::ones_like(phase), phase),
                           at::IntArrayRef({psf_grid, psf_grid}))
            .clamp_min(0);
    return stack / (stack.sum({1, 2}, true) / (psf_oversampling * psf_oversampling));
  };
  entry.here = render(optics, entry.described);
  if (!entry.here.defined()) return std::nullopt;
  if (random.chance(0.3)) {
    entry.there = render(draw_neighbour(random, optics), entry.described_there);
    if (!entry.there.defined()) return std::nullopt;
  }
  return entry;
}

BankPsf turned_psf(const BankPsf& psf, int turn, const std::array<int, 3>& order) {
  const auto turn_tensor = [&](const torch::Tensor& x) {
    // sample (grid/2, grid/2) is the centre: mirroring must map it onto itself
    auto result = x.index_select(0, torch::tensor({order[0], order[1], order[2]}));
    if ((turn & 1) != 0) result = result.flip(-1).roll(1, -1);
    if ((turn & 2) != 0) result = result.flip(-2).roll(1, -2);
    if ((turn & 4) != 0) result = result.transpose(-1, -2);
    return result.contiguous();
  };
  const auto turn_psf = [&](Psf p) {
    if ((turn & 1) != 0) p.e2 = -p.e2, p.dx = -p.dx;
    if ((turn & 2) != 0) p.e2 = -p.e2, p.dy = -p.dy;
    if ((turn & 4) != 0) p.e1 = -p.e1, std::swap(p.dx, p.dy);
    return p;
  };
  BankPsf result = psf;
  result.here = turn_tensor(psf.here);
  if (psf.there.defined()) result.there = turn_tensor(psf.there);
  for (std::size_t c = 0; c < 3; ++c) {
    result.described[c] = turn_psf(psf.described[static_cast<std::size_t>(order[c])]);
    result.described_there[c] = turn_psf(psf.described_there[static_cast<std::size_t>(order[c])]);
  }
  return result;
}

}  // namespace limpid
