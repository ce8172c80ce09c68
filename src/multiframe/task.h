// One channel of one frame in one tile, as the solver works on it.
#pragma once

#include <optional>

#include <limpid/image.h>

#include "core/fft_columns.h"
#include "core/fft_lines.h"
#include "multiframe/noise_model.h"

namespace limpid::multiframe {

struct Task {
  /// For transforms of `columns`, of which `rows` hold pixels of the tile.
  Task(int columns, int rows) : weighed(columns, rows) {}
  int member = 0, channel = 0;
  ConstView light;
  const ColumnSpectrum* estimate = nullptr;
  /// weight * observed + i weight * predicted, its rows transformed; column by column. The first
  /// of a pair also brings the predictions of both in it from the columns to the rows.
  ComplexLines weighed;
  std::optional<ColumnSpectrum> own_transfer;
  const ColumnSpectrum* transfer = nullptr;
  ResidualStatistics statistics;
  RowCounts counts;
};

}  // namespace limpid::multiframe
