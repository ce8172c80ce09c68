// One channel of one frame in one tile, as the solver works on it.
#pragma once

#include <optional>

#include <limpid/image.h>

#include "core/fft_columns.h"
#include "multiframe/noise_model.h"

namespace limpid::multiframe {

struct Task {
  Task(int in_member, int in_channel, Size size)
      : member(in_member),
        channel(in_channel),
        predicted(1, size),
        observed(1, size) {}
  int member, channel;
  ConstView light;
  const ColumnSpectrum* estimate = nullptr;
  ColumnSpectrum predicted, observed;  ///< weighed, after predict_and_weigh
  std::optional<ColumnSpectrum> own_transfer;
  const ColumnSpectrum* transfer = nullptr;
  ResidualStatistics statistics;
  RowCounts counts;
};

}  // namespace limpid::multiframe
