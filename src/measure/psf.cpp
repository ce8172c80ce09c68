// The PSF anywhere on a frame, from its polynomials.
#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include <Eigen/Dense>

#include <limpid/stars.h>

#include "measure/polynomials.h"

namespace limpid {
PsfField::PsfField(Size frame, int order, int star_count, std::vector<ChannelModel> channels,
                   float relative_error, std::vector<double> covariance)
    : frame_(frame),
      order_(order),
      star_count_(star_count),
      relative_error_(relative_error),
      channels_(std::move(channels)),
      covariance_(std::move(covariance)) {}

PsfField PsfField::constant(const Psf& psf, Size frame, int channels) {
  const ChannelModel model{{std::log(static_cast<double>(psf.fwhm_px))}, {psf.e1}, {psf.e2},
                           {std::log(static_cast<double>(psf.beta))},    {psf.dx}, {psf.dy}};
  return {frame, 0, 0, std::vector<ChannelModel>(static_cast<std::size_t>(channels), model), 0.0F};
}

Psf PsfField::at(float x, float y, int channel) const {
  const double u = unit(origin_x_ + scale_ * x, frame_.width);
  const double v = unit(origin_y_ + scale_ * y, frame_.height);
  const ChannelModel& model = channels_[static_cast<std::size_t>(channel)];
  Psf psf;
  psf.fwhm_px = static_cast<float>(std::exp(evaluate_polynomial(model.log_fwhm, u, v)) / scale_);
  psf.beta = static_cast<float>(std::exp(evaluate_polynomial(model.log_beta, u, v)));
  psf.e1 = static_cast<float>(evaluate_polynomial(model.e1, u, v));
  psf.e2 = static_cast<float>(evaluate_polynomial(model.e2, u, v));
  constexpr float most_elongated = 0.8F;
  if (psf.ellipticity() > most_elongated) {
    const float shrink = most_elongated / psf.ellipticity();
    psf.e1 *= shrink;
    psf.e2 *= shrink;
  }
  psf.dx = static_cast<float>(evaluate_polynomial(model.dx, u, v) / scale_);
  psf.dy = static_cast<float>(evaluate_polynomial(model.dy, u, v) / scale_);
  return psf;
}

Psf PsfField::mean_at(float x, float y) const {
  Psf mean;
  double log_fwhm = 0, log_beta = 0;
  const auto count = static_cast<float>(channels());
  for (int channel = 0; channel < channels(); ++channel) {
    const Psf psf = at(x, y, channel);
    log_fwhm += std::log(psf.fwhm_px);
    log_beta += std::log(psf.beta);
    mean.e1 += psf.e1 / count;
    mean.e2 += psf.e2 / count;
  }
  mean.fwhm_px = static_cast<float>(std::exp(log_fwhm / count));
  mean.beta = static_cast<float>(std::exp(log_beta / count));
  return mean;
}

float PsfField::fwhm_uncertainty(float x, float y) const {
  if (covariance_.empty()) return relative_error_;
  const int count =
      static_cast<int>(std::lround(std::sqrt(static_cast<double>(covariance_.size()))));
  const Eigen::VectorXd terms =
      polynomial_terms(unit(origin_x_ + scale_ * x, frame_.width),
                       unit(origin_y_ + scale_ * y, frame_.height), count);
  const Eigen::Map<const Eigen::MatrixXd> covariance(covariance_.data(), count, count);
  return static_cast<float>(std::hypot(relative_error_, std::sqrt(terms.dot(covariance * terms))));
}

PsfField PsfField::binned(int factor) const {
  // The Moffat is meant before pixel integration, and the sum of pixel integrals is the integral
  // over the large pixel: only the unit of length changes.
  PsfField field = *this;
  field.origin_x_ = origin_x_ + scale_ * 0.5F * static_cast<float>(factor - 1);
  field.origin_y_ = origin_y_ + scale_ * 0.5F * static_cast<float>(factor - 1);
  field.scale_ = scale_ * static_cast<float>(factor);
  return field;
}

PsfField PsfField::shifted(float x, float y) const {
  PsfField field = *this;
  field.origin_x_ = origin_x_ + scale_ * x;
  field.origin_y_ = origin_y_ + scale_ * y;
  return field;
}

std::vector<float> PsfField::residual(float x, float y, int channel, int side_px,
                                      bool centred) const {
  if (!effective_) return {};
  const float frame_x = origin_x_ + scale_ * x, frame_y = origin_y_ + scale_ * y;
  return beyond_moffat(at(x, y, channel), side_px, centred, [&](int side, float dx, float dy) {
    return effective_->residual(frame_x, frame_y, channel, side, dx, dy);
  });
}

std::vector<float> PsfField::with_wings(std::vector<float> sum, float x, float y, int channel,
                                        int side_px, bool centred) const {
  if (!wings_) return sum;
  sum.resize(static_cast<std::size_t>(side_px * side_px));
  const auto wings =
      beyond_moffat(at(x, y, channel), side_px, centred, [&](int side, float dx, float dy) {
        std::vector<float> light(static_cast<std::size_t>(side * side));
        for (int j = 0; j < side; ++j) {
          for (int i = 0; i < side; ++i) {
            light[static_cast<std::size_t>(j * side + i)] =
                wings_->at(channel, std::hypot(static_cast<float>(i - side / 2) - dx,
                                               static_cast<float>(j - side / 2) - dy));
          }
        }
        return light;
      });
  std::ranges::transform(sum, wings, sum.begin(), std::plus<>());
  return sum;
}

std::vector<float> PsfField::beyond_moffat(
    const Psf& psf, int side_px, bool centred,
    const std::function<std::vector<float>(int side, float dx, float dy)>& draw) const {
  // On a binned grid each pixel holds the sum of factor * factor of the frame's, whose centres lie
  // up to (factor - 1) / 2 around its own.
  const int factor = static_cast<int>(std::lround(scale_)), fine_side = factor * side_px;
  const auto shift = [&](float by) {
    return (centred ? 0 : scale_ * by) + 0.5F * static_cast<float>(factor - 1) +
           static_cast<float>(factor * (side_px / 2) - fine_side / 2);
  };
  const auto fine = draw(fine_side, shift(psf.dx), shift(psf.dy));
  if (factor == 1) return fine;
  std::vector<float> sums(static_cast<std::size_t>(side_px * side_px));
  for (int j = 0; j < fine_side; ++j) {
    for (int i = 0; i < fine_side; ++i) {
      sums[static_cast<std::size_t>(j / factor * side_px + i / factor)] +=
          fine[static_cast<std::size_t>(j * fine_side + i)];
    }
  }
  return sums;
}

Image PsfField::kernel(float x, float y, int channel, int side_px) const {
  return at(x, y, channel).kernel(side_px, residual(x, y, channel, side_px));
}

std::pair<float, float> PsfField::coma(float x, float y) const {
  constexpr int side = 64;
  double sum_x = 0, sum_y = 0;
  for (int channel = 0; channel < channels(); ++channel) {
    const auto beyond = residual(x, y, channel, side, true);
    const double reach =
        2 * static_cast<double>(at(x, y, channel).fwhm_px);  // further out it is noise
    for (std::size_t i = 0; i < beyond.size(); ++i) {
      const int dx = static_cast<int>(i) % side - side / 2,
                dy = static_cast<int>(i) / side - side / 2;
      if (std::hypot(dx, dy) > reach) continue;
      sum_x += static_cast<double>(beyond[i]) * dx / channels();
      sum_y += static_cast<double>(beyond[i]) * dy / channels();
    }
  }
  return {static_cast<float>(sum_x), static_cast<float>(sum_y)};
}

}  // namespace limpid
