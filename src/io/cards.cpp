// FITS header cards: reading them from text and writing them back (FITS standard 4.0, section 4).
#include <algorithm>
#include <array>
#include <cctype>

#include "format.h"

namespace limpid::io {
namespace {

constexpr std::size_t card_columns = 80;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

std::string_view without_trailing_spaces(std::string_view text) {
  while (!text.empty() && (text.back() == ' ' || text.back() == '\0')) text.remove_suffix(1);
  return text;
}

/// What follows the equals sign: value, slash, comment.
void parse_value(std::string_view text, HeaderCard& card) {
  text = trimmed(text);
  if (text.starts_with('\'')) {
    card.is_string = true;
    std::size_t i = 1;
    for (; i < text.size(); ++i) {
      if (text[i] != '\'') {
        card.value += text[i];
      } else if (i + 1 < text.size() && text[i + 1] == '\'') {
        card.value += text[i++];
      } else {
        break;
      }
    }
    card.value = without_trailing_spaces(card.value);
    text = i < text.size() ? text.substr(i + 1) : std::string_view{};
    const std::size_t slash = text.find('/');
    if (slash != std::string_view::npos) card.comment = trimmed(text.substr(slash + 1));
    return;
  }
  const std::size_t slash = text.find('/');
  card.value = trimmed(text.substr(0, slash));
  if (slash != std::string_view::npos) card.comment = trimmed(text.substr(slash + 1));
}

std::string padded(std::string text) {
  text.resize(card_columns, ' ');
  return text;
}

/// FITS allows the printable ASCII characters only.
std::string ascii(std::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 32 || static_cast<unsigned char>(c) > 126) c = '?';
  }
  return clean;
}

bool is_commentary(std::string_view keyword) {
  return keyword == "COMMENT" || keyword == "HISTORY" || keyword.empty();
}

bool is_standard_keyword(std::string_view keyword) {
  return keyword.size() <= 8 && std::ranges::all_of(keyword, [](unsigned char c) {
           return std::isupper(c) || std::isdigit(c) || c == '-' || c == '_';
         });
}

/// "KEYWORD = " in fixed columns, or the HIERARCH convention for names that do not fit.
std::string card_start(const std::string& keyword) {
  if (is_standard_keyword(keyword)) {
    std::string start = keyword;
    start.resize(8, ' ');
    return start + "= ";
  }
  return "HIERARCH " + ascii(keyword) + " = ";
}

std::vector<std::string> commentary_cards(const HeaderCard& card) {
  constexpr std::size_t width = card_columns - 8;
  std::string start = card.keyword;
  start.resize(8, ' ');
  std::vector<std::string> cards;
  std::string_view rest = card.comment;
  do {
    cards.push_back(padded(start + ascii(rest.substr(0, width))));
    rest.remove_prefix(std::min(width, rest.size()));
  } while (!rest.empty());
  return cards;
}

/// A string that needs more than one card: '&' ends each part, CONTINUE starts the next.
std::vector<std::string> long_string_cards(const std::string& start, const std::string& value,
                                           const std::string& comment) {
  constexpr std::size_t part = 60;  // leaves room for quotes that double
  std::vector<std::string> cards;
  std::string line = start;
  std::string_view rest = value;
  while (true) {
    std::size_t count = std::min(part, rest.size());
    while (count > 1 &&
           line.size() + format_card_string(rest.substr(0, count)).size() + 1 > card_columns) {
      --count;
    }
    const bool last = count == rest.size();
    const std::string text = std::string(rest.substr(0, count)) + (last ? "" : "&");
    line += format_card_string(text);
    rest.remove_prefix(count);
    if (last) break;
    cards.push_back(padded(line));
    line = "CONTINUE  ";
  }
  if (!comment.empty() && line.size() + 4 < card_columns) line += " / " + comment;
  cards.push_back(padded(line.substr(0, card_columns)));
  return cards;
}

}  // namespace

std::string parse_card_string(std::string_view quoted) {
  HeaderCard card;
  parse_value(quoted, card);
  return card.value;
}

std::string format_card_string(std::string_view text) {
  std::string doubled;
  for (const char c : text) doubled.append(c == '\'' ? 2 : 1, c);
  if (doubled.size() < 8) doubled.resize(8, ' ');
  return "'" + doubled + "'";
}

HeaderCard parse_card(std::string_view text) {
  HeaderCard card;
  text = text.substr(0, card_columns);
  if (text.starts_with("HIERARCH ")) {
    const std::size_t equals = text.find('=');
    if (equals != std::string_view::npos) {
      card.keyword = trimmed(text.substr(9, equals - 9));
      parse_value(text.substr(equals + 1), card);
      return card;
    }
  }
  card.keyword = trimmed(text.substr(0, 8));
  if (text.size() >= 10 && text.substr(8, 2) == "= " && !is_commentary(card.keyword)) {
    parse_value(text.substr(10), card);
  } else if (text.size() > 8) {
    card.comment = without_trailing_spaces(text.substr(8));
  }
  return card;
}

void append_card(std::vector<HeaderCard>& cards, std::string_view text) {
  const bool continues = text.starts_with("CONTINUE  ") && !cards.empty() &&
                         cards.back().is_string && cards.back().value.ends_with('&');
  if (!continues) {
    cards.push_back(parse_card(text));
    return;
  }
  HeaderCard more;
  parse_value(text.substr(10), more);
  HeaderCard& card = cards.back();
  card.value.pop_back();
  card.value += more.value;
  if (!more.comment.empty()) card.comment += (card.comment.empty() ? "" : " ") + more.comment;
}

std::vector<std::string> format_card(const HeaderCard& card) {
  if (is_commentary(card.keyword)) return commentary_cards(card);
  const std::string start = card_start(card.keyword);
  const std::string comment = ascii(card.comment);
  std::string value = ascii(card.value);
  // A number that does not fit into its card is not a number.
  const bool string = card.is_string || start.size() + value.size() > card_columns;
  if (string) {
    std::string text = format_card_string(value);
    if (start.size() + text.size() > card_columns) {
      return long_string_cards(start, value, comment);
    }
    if (text.size() < 20) text.resize(20, ' ');
    value = text;
  } else if (value.size() < 20) {
    value.insert(0, 20 - value.size(), ' ');
  }
  std::string line = start + value;
  if (!comment.empty()) line += " / " + comment;
  return {padded(line.substr(0, card_columns))};
}

bool is_structural(std::string_view keyword) {
  static constexpr std::array names{
      "SIMPLE",  "XTENSION", "BITPIX",   "NAXIS",    "PCOUNT",   "GCOUNT",   "GROUPS",  "EXTEND",
      "BSCALE",  "BZERO",    "BLANK",    "CHECKSUM", "DATASUM",  "END",      "INHERIT", "TFIELDS",
      "THEAP",   "ZIMAGE",   "ZSIMPLE",  "ZTENSION", "ZEXTEND",  "ZBITPIX",  "ZNAXIS",  "ZPCOUNT",
      "ZGCOUNT", "ZCMPTYPE", "ZQUANTIZ", "ZDITHER0", "ZHECKSUM", "ZDATASUM", "ZBLANK",  "ZSCALE",
      "ZZERO",   "ZBLOCKED", "ZMASKCMP", "LONGSTRN"};
  if (std::ranges::find(names, keyword) != names.end()) return true;
  for (const std::string_view prefix : {"NAXIS", "ZNAXIS", "ZTILE", "ZNAME", "ZVAL", "TTYPE",
                                        "TFORM", "TUNIT", "TDIM", "TZERO", "TSCAL", "TNULL"}) {
    if (keyword.size() > prefix.size() && keyword.starts_with(prefix) &&
        std::ranges::all_of(keyword.substr(prefix.size()),
                            [](unsigned char c) { return std::isdigit(c); })) {
      return true;
    }
  }
  return false;
}

std::string bayer_pattern(const std::vector<HeaderCard>& cards) {
  for (const HeaderCard& card : cards) {
    if (card.keyword != "BAYERPAT" && card.keyword != "COLORTYP") continue;
    std::string pattern;
    for (const char c : card.value) {
      if (c != ' ') pattern += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    // Red, green, blue, or the complementary colours; cameras without a filter write NONE or MONO.
    if (pattern.size() >= 4 && pattern.find_first_not_of("RGBCMYEW") == std::string::npos) {
      return pattern;
    }
  }
  return {};
}

std::vector<HeaderCard> cards_to_write(const WriteJob& job) {
  const Metadata& metadata = job.frame.metadata;
  std::vector<HeaderCard> cards;
  bool row_order = false;
  for (HeaderCard card : metadata.cards) {
    if (is_structural(card.keyword)) continue;
    if (card.keyword == "ROWORDER") {
      if (row_order) continue;
      row_order = true;
      card.value = metadata.bottom_up ? "BOTTOM-UP" : "TOP-DOWN";
      card.is_string = true;
    }
    cards.push_back(std::move(card));
  }
  if (!row_order && !metadata.bottom_up) {
    cards.push_back({"ROWORDER", "TOP-DOWN", "Order of the rows in the image array", true});
  }
  if (!job.options.history.empty()) cards.push_back({"HISTORY", "", job.options.history, false});
  return cards;
}

}  // namespace limpid::io
