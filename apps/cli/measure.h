// What `limpid measure` and the page share: a frame measured, and how that is told.
#pragma once

#include <optional>

#include <limpid/stars.h>

#include "command.h"

namespace limpid::cli {

struct Measurement {
  StarCatalogue catalogue;
  std::optional<PsfField> field;
  std::optional<SpectralPsf> spectral;  ///< only without a field
  FrameReport report;
  std::optional<double> pixel_scale;
};

Measurement measure_frame(ConstView frame, const DetectOptions& options, const Progress& progress);

nlohmann::ordered_json to_json(const Measurement& measured);

}  // namespace limpid::cli
