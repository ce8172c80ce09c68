#include "fits_structure.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <string>
#include <string_view>

#include <limpid/error.h>

#include "format.h"

namespace limpid::io {
namespace {

constexpr std::size_t block_bytes = 2880, card_bytes = 80;

/// Whole numbers of the keywords that shape a HDU.
using Numbers = std::map<std::string, long long, std::less<>>;

bool shapes_the_hdu(std::string_view keyword) {
  return keyword == "BITPIX" || keyword.starts_with("NAXIS") || keyword == "PCOUNT" ||
         keyword == "GCOUNT" || keyword == "TFIELDS" || keyword.starts_with("ZNAXIS") ||
         keyword.starts_with("ZTILE");
}

/// CFITSIO 4.2 reads these as whole numbers and, where they are none, copies thirty characters of the
/// value behind a message that leaves room for 29: the program ends.
bool breaks_cfitsio(const HeaderCard& parsed) {
  constexpr std::size_t harmless = 25;
  constexpr std::array<std::string_view, 5> words{"ZBITPIX", "ZBLANK", "BLANK", "ZDITHER0", "THEAP"};
  constexpr std::array<std::string_view, 3> numbered{"ZVAL", "TNULL", "TBCOL"};
  const std::string_view keyword = parsed.keyword;
  const bool whole_number = std::ranges::find(words, keyword) != words.end() ||
                            std::ranges::any_of(numbered, [&](std::string_view start) {
                              return keyword.starts_with(start);
                            });
  return whole_number && parsed.value.size() > harmless;
}

/// The message when the value is none, or another than that of an earlier card (which of them
/// CFITSIO takes depends on where it starts to look), else empty.
std::string take_number(const HeaderCard& parsed, Numbers& numbers) {
  if (breaks_cfitsio(parsed)) return parsed.keyword + " is not a whole number";
  if (!shapes_the_hdu(parsed.keyword)) return {};
  long long value = 0;
  const char* end = parsed.value.data() + parsed.value.size();
  const auto result = std::from_chars(parsed.value.data(), end, value);
  if (parsed.is_string || result.ec != std::errc{} || result.ptr != end) {
    return parsed.keyword + " is not a whole number";
  }
  const auto [place, is_new] = numbers.emplace(parsed.keyword, value);
  if (!is_new && place->second != value) return parsed.keyword + " is there with two values";
  return {};
}

struct Header {
  Numbers numbers;
  std::string rice_block = "32";  ///< ZVAL1, which CFITSIO takes for the pixels of a Rice block
  bool rice = false;              ///< ZCMPTYPE is RICE_1 or its like
  bool extension = false;
  std::uint64_t data_start = 0;
  std::string fault;  ///< empty for a sound header
};

Header read_header(const InputFile& file, std::uint64_t position) {
  Header header;
  std::array<std::byte, block_bytes> block{};
  bool first = true;
  std::map<std::string, std::string> parameters;
  while (position + block_bytes <= file.size()) {
    file.read_at(position, block);
    position += block_bytes;
    const std::string_view text(reinterpret_cast<const char*>(block.data()), block.size());
    for (std::size_t i = 0; i < block_bytes; i += card_bytes) {
      const std::string_view card = text.substr(i, card_bytes);
      if (first) header.extension = card.starts_with("XTENSION=");
      first = false;
      if (card.starts_with("END     ")) {
        header.data_start = position;
        return header;
      }
      const HeaderCard parsed = parse_card(card);
      if (parsed.keyword == "ZVAL1" || parsed.keyword == "ZVAL2") {
        const auto [place, is_new] = parameters.emplace(parsed.keyword, parsed.value);
        if (!is_new && place->second != parsed.value) header.rice_block.clear();
        else if (parsed.keyword == "ZVAL1") header.rice_block = parsed.value;
      }
      if (parsed.keyword == "ZCMPTYPE") header.rice = parsed.value.starts_with("RICE");
      header.fault = take_number(parsed, header.numbers);
      if (!header.fault.empty()) return header;
    }
  }
  header.fault = "its header has no end";
  return header;
}

long long number_or(const Header& header, std::string_view keyword, long long otherwise) {
  const auto found = header.numbers.find(keyword);
  return found == header.numbers.end() ? otherwise : found->second;
}

/// CFITSIO divides by the sides of the tiles and by the pixels of a Rice block.
bool has_sound_tiles(const Header& header) {
  const std::string& block = header.rice_block;
  if (header.rice && (block.empty() || block.size() > 4 || block.front() == '0' ||
                      block.find_first_not_of("0123456789") != std::string::npos)) {
    return false;
  }
  return std::ranges::all_of(header.numbers, [](const auto& entry) {
    const auto& [keyword, value] = entry;
    constexpr long long longest = 0x7fffffff;
    if (keyword == "ZNAXIS") return value >= 0 && value <= 9;
    return keyword.front() != 'Z' || (value >= 1 && value <= longest);
  });
}

/// Where the next HDU starts (FITS standard 4.0, equation 2). Sets `fault` when nothing makes
/// sense.
std::uint64_t end_of_data(Header& header) {
  const long long bitpix = number_or(header, "BITPIX", 0);
  const long long axes = number_or(header, "NAXIS", -1);
  const long long parameters = number_or(header, "PCOUNT", 0);
  const long long groups = number_or(header, "GCOUNT", 1);
  const long long fields = number_or(header, "TFIELDS", 0);
  constexpr std::array<long long, 6> depths{8, 16, 32, 64, -32, -64};
  const auto reject = [&](const std::string& keyword) {
    header.fault = keyword + " makes no sense";
    return header.data_start;
  };
  if (std::ranges::find(depths, bitpix) == depths.end()) return reject("BITPIX");
  if (axes < 0 || axes > 999) return reject("NAXIS");
  if (parameters < 0) return reject("PCOUNT");
  if (groups < 0) return reject("GCOUNT");
  if (fields < 0 || fields > 999) return reject("TFIELDS");
  if (!has_sound_tiles(header)) return reject("ZTILE");
  // Beyond 2^60 bytes is beyond every file; checked as double so that nothing wraps on the way.
  constexpr double most = 1152921504606846976.0;
  long long values = axes == 0 ? 0 : 1;
  for (long long i = 1; i <= axes; ++i) {
    const std::string keyword = "NAXIS" + std::to_string(i);
    const long long length = number_or(header, keyword, -1);
    if (length < 0) return reject(keyword);
    if (i == 1 && length == 0 && axes > 1 && !header.extension) continue;  // random groups
    if (static_cast<double>(values) * static_cast<double>(length) > most) return reject(keyword);
    values *= length;
  }
  const long long sample_bytes = (bitpix < 0 ? -bitpix : bitpix) / 8;
  const double bytes = (static_cast<double>(values) + static_cast<double>(parameters)) *
                       static_cast<double>(groups) * static_cast<double>(sample_bytes);
  if (bytes > most) return reject("GCOUNT");
  const auto whole = static_cast<std::uint64_t>((values + parameters) * groups * sample_bytes);
  return header.data_start + (whole + block_bytes - 1) / block_bytes * block_bytes;
}

}  // namespace

int count_sound_hdus(const InputFile& file) {
  constexpr int most = 10000;
  std::uint64_t position = 0;
  int count = 0;
  while (count < most && position < file.size()) {
    Header header = read_header(file, position);
    if (header.fault.empty()) position = end_of_data(header);
    if (header.fault.empty() && count > 0 && !header.extension) break;  // not a HDU: filling
    if (!header.fault.empty()) {
      if (count > 0) break;
      throw Error(ErrorKind::bad_input,
                  shown(file.path()) + ": damaged FITS: " + clean_text(header.fault));
    }
    ++count;
  }
  return count;
}

}  // namespace limpid::io
