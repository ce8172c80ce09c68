// What tests of the background have in common.
#pragma once

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <limpid/background.h>
#include <limpid/error.h>

#include "core/statistics.h"
#include "synthetic_sky.h"

namespace limpid::background {

using synthetic::Gradient;
using synthetic::Object;

/// A sky of 720 x 480 px with 200 stars.
inline synthetic::SkySettings settings(Gradient gradient, Object object, float strength) {
  synthetic::SkySettings s;
  s.size = {720, 480};
  s.stars = 200;
  s.gradient = gradient;
  s.object = object;
  s.gradient_sigma = strength;
  return s;
}

/// Model minus true sky without its median where no object is, in units of the noise.
inline std::vector<float> errors(const synthetic::SkyFrame& truth, const Image& model,
                                 float sigma) {
  std::vector<float> all;
  const std::size_t plane = model.size().pixels();
  for (int c = 0; c < model.channels(); ++c) {
    std::vector<float> channel(plane), outside;
    for (std::size_t i = 0; i < plane; ++i) {
      const std::size_t at = static_cast<std::size_t>(c) * plane + i;
      channel[i] = (model.pixels()[at] - truth.sky.pixels()[at]) / sigma;
      if (truth.object.pixels()[at] == 0) outside.push_back(channel[i]);
    }
    const float offset = median_in_place(outside);
    for (const float value : channel) all.push_back(value - offset);
  }
  return all;
}

inline double rms(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values)
    squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

/// Of the error that is thrown.
inline ErrorKind kind_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.kind();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorKind::failed;
}

}  // namespace limpid::background
