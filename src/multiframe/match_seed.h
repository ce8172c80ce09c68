// A given beginning, made to fit the frames.
#pragma once

#include <string>

#include <limpid/image.h>

#include "multiframe/survey.h"

namespace limpid::multiframe {

/// `given` (working channels, shared units) in matched units. Where its level or its light is not
/// that of `stack`, the frames' own in matched units, it is brought to it; pixels that are not
/// finite come from there. Throws Error(bad_input) that begins with `name` where it shows nothing
/// of what the frames show.
Image match_seed(Image given, const Image& stack, const Survey& survey, const std::string& name);

}  // namespace limpid::multiframe
