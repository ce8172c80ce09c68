// The writing half of the XISF format, and names that both halves share.
#pragma once

#include <array>
#include <utility>
#include <vector>

#include <pugixml.hpp>

#include "format.h"

namespace limpid::io {

inline constexpr std::array<std::pair<SampleType, const char*>, 6> xisf_sample_formats{
    {{SampleType::u8, "UInt8"},
     {SampleType::u16, "UInt16"},
     {SampleType::u32, "UInt32"},
     {SampleType::u64, "UInt64"},
     {SampleType::f32, "Float32"},
     {SampleType::f64, "Float64"}}};

/// Rows stored bottom first, as the `orientation` attribute says it.
inline constexpr const char* xisf_bottom_up = "180;flip";

/// The header of a monolithic file. Throws Error(bad_input).
pugi::xml_document read_xisf_header(const InputFile& file);
std::vector<pugi::xml_node> xisf_images(const pugi::xml_document& header);
/// The element itself, or the one that a Reference shares with others; null when there is none.
pugi::xml_node xisf_resolved(const pugi::xml_document& header, pugi::xml_node element);

void write_xisf(OutputFile& file, const WriteJob& job);

}  // namespace limpid::io
