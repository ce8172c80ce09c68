// Walks a folder of files by other programs, when there is one: each is read as its manifest says
// or refused for the reason stated here.
#include <algorithm>
#include <array>
#include <map>
#include <sstream>

#include "test_support.h"

namespace limpid {
namespace {

namespace fs = std::filesystem;

std::optional<fs::path> conformance_folder() {
  const fs::path source = fs::path(__FILE__).parent_path();
  const fs::path folder = source / "../../../shared/data/conformance";
  std::error_code error;
  if (!fs::exists(folder / "MANIFEST.tsv", error)) return std::nullopt;
  return fs::canonical(folder);
}

/// Files, by parts of their path, that are refused, and what the message says. The first match
/// counts.
struct Refused {
  const char* part;
  const char* reason;
};
constexpr std::array refused{
    Refused{"8ca036_XISF_test1", "cut short"},  // its block ends 24 bytes beyond the file
    Refused{"bomb-40000", "cut short"},
    Refused{"bayer/", "debayer"},
    Refused{".fits.Z", "uncompress"},
    Refused{"WFPC2u5780205r", "4 planes"},
    Refused{"crash-cmyk-1bit", "1-bit"},
    Refused{"crash-", "damaged TIFF"},
    Refused{"colormap-shl-overflow", "damaged TIFF"},
    Refused{"palette-08", "palette"},
    Refused{"palette-16", "palette"},
    Refused{"8b-palette", "palette"},
    Refused{"palette-1c-8b", "palette"},
    Refused{"jello", "palette"},
    Refused{"cmyk-i8", "8-bit signed"},
    Refused{"gray-i8", "8-bit signed"},
    Refused{"1c-i8", "8-bit signed"},
    Refused{"int8", "8-bit signed"},
    Refused{"cmyk", "CMYK"},
    Refused{"separated", "CMYK"},
    Refused{"off_l", "LogLuv"},
    Refused{"ycbcr-cat", "YCbCr"},
    Refused{"zackthecat", "YCbCr"},
    Refused{"smallliz", "YCbCr"},
    Refused{"dscf0013", "YCbCr"},
    Refused{"fax", "1-bit"},
    Refused{"g3test", "1-bit"},
    Refused{"big_g4", "1-bit"},
    Refused{"12bit", "12-bit"},
};

/// Depths that limpid does not take are named in the file's name: "-1c-12b", "-contig-24".
std::string refused_depth(const std::string& file) {
  for (const char* bits : {"1", "2", "3", "4", "5", "6", "7", "10", "12", "14", "24"}) {
    const std::string padded = std::string(bits).size() == 1 ? "0" + std::string(bits) : bits;
    for (const std::string& part : {"c-" + std::string(bits) + "b", "-minisblack-" + padded,
                                    "-contig-" + padded, "-planar-" + padded}) {
      if (file.find(part) != std::string::npos) return std::string(bits) + "-bit";
    }
  }
  return {};
}

std::string expected_refusal(const std::string& file, const std::string& notes) {
  for (const Refused& entry : refused) {
    if (file.find(entry.part) != std::string::npos) return entry.reason;
  }
  if (notes.find("no image HDU") != std::string::npos) return "no image";
  if (file.ends_with(".ppm")) return "not a FITS";
  return refused_depth(file);
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  std::istringstream stream(line);
  std::string field;
  while (std::getline(stream, field, '\t')) fields.push_back(field);
  return fields;
}

void check_size(const FrameInfo& info, const std::vector<std::string>& fields) {
  const auto number = [&](std::size_t i) { return std::atoi(fields[i].c_str()); };
  if (number(3) == 3 && number(5) > 3) {  // its axes in the file's order: the channel comes first
    EXPECT_EQ(info.size, (Size{number(4), number(5)}));
    EXPECT_EQ(info.channels, 3);
    return;
  }
  if (number(3) > 0) {
    EXPECT_EQ(info.size, (Size{number(3), number(4)}));
  }
  if (number(5) > 0) {
    EXPECT_EQ(info.channels, number(5) >= 3 ? 3 : 1);
  }
}

/// The samples as the column "bit depth" has them; nothing where it leaves their kind open.
std::optional<SampleType> stated_type(const std::string& depth) {
  using enum SampleType;
  static const std::map<std::string, SampleType> types{{"UInt16", u16},
                                                       {"UInt32", u32},
                                                       {"Float32", f32},
                                                       {"Float64", f64},
                                                       {"-32", f32},
                                                       {"-64", f64},
                                                       {"8", u8},
                                                       {"16", i16},
                                                       {"32", i32},
                                                       {"64", i64},
                                                       {"16 (unsigned via BZERO)", u16},
                                                       {"32 (unsigned via BZERO)", u32}};
  const auto found = types.find(depth);
  return found == types.end() ? std::nullopt : std::optional(found->second);
}

void check_contents(const FrameInfo& info, const std::vector<std::string>& fields) {
  const Metadata& metadata = info.metadata;
  const std::string& notes = fields[11];
  const auto says = [&](const char* words) { return notes.find(words) != std::string::npos; };
  const auto type = stated_type(fields[6]);
  const bool scaled = std::ranges::any_of(metadata.notes, [](const std::string& note) {
    return note.find("BSCALE") != std::string::npos;
  });
  if (type && !scaled) {
    EXPECT_EQ(metadata.sample_type, *type);
  }
  if (says("images=1;")) {
    EXPECT_EQ(info.image_count, 1);
  }
  if (says("ICC=True")) {
    EXPECT_FALSE(metadata.icc_profile.empty());
  }
  if (says("thumbnail=True") && !says("past")) {
    EXPECT_FALSE(metadata.thumbnail.samples.empty());
  }
  if (says("FITSKeyword=53")) {
    EXPECT_GT(metadata.cards.size(), 40U);  // less those that describe the data unit
  }
  if (says("sha1'")) {
    EXPECT_EQ(info.checksum, "sha1");
  }
}

TEST(Conformance, EveryFileIsReadAsItsManifestSaysOrRefusedForTheRightReason) {
  const auto folder = conformance_folder();
  if (!folder) GTEST_SKIP() << "there is no folder ../shared/data/conformance";
  std::istringstream manifest(read_text(*folder / "MANIFEST.tsv"));
  std::string line;
  std::getline(manifest, line);
  int count = 0;
  while (std::getline(manifest, line)) {
    const std::vector<std::string> fields = fields_of(line);
    if (fields.size() < 12 || !fs::is_regular_file(*folder / fields[0])) continue;
    SCOPED_TRACE(fields[0]);
    ++count;
    const std::string reason = expected_refusal(fields[0], fields[11]);
    if (!reason.empty()) {
      EXPECT_NE(refusal(*folder / fields[0]).find(reason), std::string::npos);
      continue;
    }
    try {
      const Frame frame = read_frame(*folder / fields[0]);
      const FrameInfo info = read_info(*folder / fields[0]);
      EXPECT_EQ(info.size, frame.image.size());
      check_size(info, fields);
      check_contents(info, fields);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
  EXPECT_GT(count, 200);
}

}  // namespace
}  // namespace limpid
