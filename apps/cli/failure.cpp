#include "failure.h"

#include <algorithm>
#include <new>
#include <string>

namespace limpid::cli {
namespace {

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace

Error as_error(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return {error.kind(), one_line(error.what())};
  } catch (const std::bad_alloc&) {
    return {ErrorKind::exhausted, "out of memory; a smaller --tile or fewer --threads may help"};
  } catch (const std::exception& error) {
    const std::string text = error.what();  // some libraries add a page of addresses
    return {ErrorKind::failed, text.substr(0, text.find('\n'))};
  }
}

}  // namespace limpid::cli
