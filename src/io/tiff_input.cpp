#include "tiff_input.h"

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>

#include <limpid/error.h>

namespace limpid::io {
namespace {

/// Fewer bytes than asked mean an error to libtiff; a negative count, its own sign for one, makes
/// libtiff 4.5 write in front of its buffer.
tmsize_t read_bytes(thandle_t handle, void* buffer, tmsize_t count) {
  auto& input = *static_cast<TiffInput*>(handle);
  const std::uint64_t size = input.file->size();
  if (count < 0 || input.position >= size) return 0;
  const auto wanted = static_cast<std::size_t>(
      std::min<std::uint64_t>(size - input.position, static_cast<std::uint64_t>(count)));
  try {
    input.file->read_at(input.position, {static_cast<std::byte*>(buffer), wanted});
  } catch (const Error&) {
    return 0;
  }
  input.position += wanted;
  return static_cast<tmsize_t>(wanted);
}
tmsize_t refuse_to_write(thandle_t, void*, tmsize_t) { return -1; }
toff_t seek(thandle_t handle, toff_t offset, int whence) {
  auto& input = *static_cast<TiffInput*>(handle);
  if (whence == SEEK_CUR) offset += input.position;
  if (whence == SEEK_END) offset += input.file->size();
  return input.position = offset;
}
int keep_open(thandle_t) { return 0; }
toff_t size_of(thandle_t handle) { return static_cast<TiffInput*>(handle)->file->size(); }

int keep_message(TIFF*, void* user, const char* module, const char* format, va_list arguments) {
  std::array<char, 300> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  auto& message = static_cast<TiffInput*>(user)->message;
  if (message.empty()) message = std::string(module != nullptr ? module : "") + ": " + text.data();
  return 1;
}
int ignore_message(TIFF*, void*, const char*, const char*, va_list) { return 1; }

/// Packs of fax, PackBits and JPEG need some room even in tiny files.
constexpr std::uint64_t smallest_limit = std::uint64_t{1} << 24;

}  // namespace

TiffHandle open_tiff(const InputFile& file, TiffInput& input) {
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  const std::uint64_t limit =
      std::max(smallest_limit, std::min(file.size(), std::uint64_t{1} << 40) * most_per_byte);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, static_cast<tmsize_t>(limit));
  TIFFOpenOptionsSetErrorHandlerExtR(options, keep_message, &input);
  TIFFOpenOptionsSetWarningHandlerExtR(options, ignore_message, nullptr);
  // 'm': no memory mapping, the file may be cut while it is read.
  TIFF* tiff =
      TIFFClientOpenExt(shown(file.path()).c_str(), "rm", &input, read_bytes, refuse_to_write, seek,
                        keep_open, size_of, nullptr, nullptr, options);
  TIFFOpenOptionsFree(options);
  return {tiff, TIFFClose};
}

}  // namespace limpid::io
