#include "core/torch_library.h"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include <limpid/error.h>

namespace limpid {
namespace {

/// Beside the library that this function is in, or wherever the system finds it.
void* load_library() {
  Dl_info own{};
  if (dladdr(reinterpret_cast<const void*>(&load_library), &own) != 0 && own.dli_fname != nullptr) {
    const auto beside = std::filesystem::path(own.dli_fname).parent_path() / LIMPID_TORCH_LIBRARY;
    std::error_code failure;
    // global: LibTorch loads parts of itself that look for the others
    if (std::filesystem::exists(beside, failure))
      return dlopen(beside.c_str(), RTLD_NOW | RTLD_GLOBAL);
  }
  return dlopen(LIMPID_TORCH_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
}

const TorchLibrary* open_library(const std::string& purpose) {
  const auto fail = [&](const std::string& reason) {
    throw Error(ErrorKind::failed, purpose + " needs LibTorch: " + reason);
  };
  void* const library = load_library();
  if (library == nullptr) fail(dlerror());
  const auto tell =
      reinterpret_cast<const TorchLibrary* (*)()>(dlsym(library, "limpid_torch_library"));
  if (tell == nullptr) fail(LIMPID_TORCH_LIBRARY " is another library");
  const std::string version = tell()->version;
  if (version != LIMPID_VERSION)
    fail(LIMPID_TORCH_LIBRARY " belongs to limpid " + version + ", not " LIMPID_VERSION);
  return tell();
}

}  // namespace

const TorchLibrary& torch_library(const std::string& purpose) {
  static std::mutex mutex;
  static const TorchLibrary* library = nullptr;
  const std::scoped_lock lock(mutex);
  if (library == nullptr) library = open_library(purpose);
  return *library;
}

}  // namespace limpid
