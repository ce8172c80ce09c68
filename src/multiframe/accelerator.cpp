#include "multiframe/accelerator.h"

#include "core/torch_library.h"
#include "nn/device.h"

namespace limpid::multiframe {

std::unique_ptr<Accelerator> open_accelerator(const Device& device) {
  if (!on_graphics_card(device)) return nullptr;
  return torch_library("a graphics card").accelerators->open(device);
}

}  // namespace limpid::multiframe
