#include "multiframe/kernels.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "measure/moffat.h"
#include "multiframe/super_resolution.h"

namespace limpid::multiframe {
namespace {

/// Kernels reach this many FWHM from their centre: beyond lies under half a per cent of the light
/// of a Moffat with beta 2.5.
constexpr float reach_fwhm = 6;

}  // namespace

int native_reach(std::span<const InputFrame> frames, const Survey& survey) {
  int reach = static_cast<int>(std::ceil(reach_fwhm * survey.widest_fwhm_px));
  for (const Member& member : survey.members) {
    const Image& psf = frames[static_cast<std::size_t>(member.index)].psf;
    if (!psf.empty()) reach = std::max(reach, std::max(psf.width(), psf.height()) / 2);
  }
  const int shorter = std::min(survey.size.width, survey.size.height);
  return std::clamp(reach, 8, std::max(8, std::min(64, shorter / 2)));
}

std::vector<std::vector<Image>> make_kernels(std::span<const InputFrame> frames,
                                             const Survey& survey, const MultiframeOptions& options,
                                             int reach, const Progress& progress) {
  const int grid = options.psf_grid, side = 2 * reach + 1;
  const int members = static_cast<int>(survey.members.size());
  std::vector<std::vector<Image>> kernels(static_cast<std::size_t>(grid * grid));
  for (int cell = 0; cell < grid * grid; ++cell) {
    progress.throw_if_stopped();
    progress(static_cast<double>(cell) / (grid * grid), "PSFs");
    const float x = (static_cast<float>(cell % grid) + 0.5F) *
                        static_cast<float>(survey.size.width) / static_cast<float>(grid) -
                    0.5F;
    const float y = (static_cast<float>(cell / grid) + 0.5F) *
                        static_cast<float>(survey.size.height) / static_cast<float>(grid) -
                    0.5F;
    auto& row = kernels[static_cast<std::size_t>(cell)];
    row.resize(static_cast<std::size_t>(members * survey.channels));
    parallel_for(static_cast<int>(row.size()), options.threads, [&](int i) {
      const int member_index = i / survey.channels, channel = i % survey.channels;
      const Member& member = survey.members[static_cast<std::size_t>(member_index)];
      if (!options.hosts.owns(member.index)) return;
      const InputFrame& frame = frames[static_cast<std::size_t>(member.index)];
      const auto native = [&](float u, float v) {
        return kernel_at(member, frame, x, y, channel, side, u, v);
      };
      row[static_cast<std::size_t>(i)] =
          options.super_resolution == 1
              ? native(0, 0)
              : lift_kernel(native, {options.super_resolution, options.sr_sigma,
                                     options.sr_psf_iterations});
    });
  }
  return kernels;
}

Image kernel_at(const Member& member, const InputFrame& frame, float x, float y, int channel,
                int side, float shift_u, float shift_v) {
  Image kernel(1, {side, side});
  shift_u += member.shift_x;
  shift_v += member.shift_y;
  if (member.field) {
    Psf psf = member.field->at(x, y, channel);
    psf.beta = std::clamp(psf.beta * member.beta_factor, static_cast<float>(min_moffat_beta),
                          static_cast<float>(max_moffat_beta));
    psf.fwhm_px *= member.fwhm_factor;
    psf.dx = shift_u;
    psf.dy = shift_v;
    std::vector<float> beyond;
    if (const EffectivePsf* effective = member.field->effective())
      beyond = effective->residual(x, y, channel, side, psf.dx, psf.dy);
    kernel = psf.kernel(side, beyond);
  } else {
    const ConstView given = frame.psf.view().channel(std::min(channel, frame.psf.channels() - 1));
    for (int v = 0; v < side; ++v) {
      const int from_v = v - side / 2 + given.height() / 2;
      for (int u = 0; u < side; ++u) {
        const int from_u = u - side / 2 + given.width() / 2;
        if (from_v >= 0 && from_v < given.height() && from_u >= 0 && from_u < given.width())
          kernel.view()(0, v, u) = given(0, from_v, from_u);
      }
    }
    if (shift_u != 0 || shift_v != 0) kernel = moved(kernel.view(), shift_u, shift_v);
  }
  double sum = 0;
  for (float& value : kernel.pixels()) {
    value = std::isfinite(value) ? std::max(value, 0.0F) : 0.0F;
    sum += value;
  }
  if (!(sum > 0)) throw Error(ErrorKind::bad_input, frame.name + ": its PSF has no light");
  for (float& value : kernel.pixels()) value = static_cast<float>(value / sum);
  return kernel;
}

ColumnSpectrum scaled_transfer(const Image& kernel, Size size) {
  Image scaled = kernel.clone();
  const float scale = 1.0F / static_cast<float>(size.pixels());
  for (float& value : scaled.pixels()) value *= scale;
  return column_transfer({&scaled, 1}, size);
}

}  // namespace limpid::multiframe
