// The work on a tile as tensors, which LibTorch computes on a graphics card.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <stdexcept>
#include <utility>

#include "multiframe/accelerator.h"
#include "nn/torch_device.h"

namespace limpid::multiframe {
namespace {

using torch::indexing::None;
using torch::indexing::Slice;

/// Everything that LibTorch throws, as what the solver can act on.
template <typename Work>
auto guarded(const std::string& device, Work work) {
  try {
    const torch::NoGradGuard no_gradients;
    return work();
  } catch (const c10::OutOfMemoryError&) {
    throw DeviceFault(true, device + ": out of memory");
  } catch (const c10::Error& error) {
    const std::string what = error.what_without_backtrace();
    throw DeviceFault(false, device + " failed: " + what.substr(0, what.find('\n')));
  } catch (const std::runtime_error& error) {
    throw DeviceFault(false, device + " failed: " + error.what());
  }
}

torch::Tensor tensor_of(ConstView view) {
  // its memory is only read, and only until it lies on the device
  return torch::from_blob(const_cast<float*>(view.data()),
                          {view.channels(), view.height(), view.width()},
                          {view.channel_stride(), view.row_stride(), 1}, torch::kFloat);
}

void add_to(MutableView sums, const torch::Tensor& values) {
  for (int c = 0; c < sums.channels(); ++c) {
    for (int y = 0; y < sums.height(); ++y) {
      const float* from = values[c][y].data_ptr<float>();
      for (float& sum : sums.row(c, y)) sum += *from++;
    }
  }
}

class TorchAccelerator : public Accelerator {
 public:
  explicit TorchAccelerator(const torch::Device& device) : device_(device) {}

  [[nodiscard]] std::string name() const override { return device_.str(); }

  void begin(const AcceleratedTile& tile, ConstView estimate) override {
    guarded(name(), [&] {
      if (tile.tile->cell != cell_ || tile.transform != tile_.transform) transfers_.clear();
      cell_ = tile.tile->cell;
      tile_ = tile;
      estimate_ = transformed(tensor_of(estimate).to(device_), 0);
      numerator_ = torch::zeros_like(estimate_);
      denominator_ = torch::zeros_like(estimate_);
      const Tile& part = *tile.tile;
      window_ = torch::Tensor();
      if (!part.window_x.empty()) {
        const auto x = torch::tensor(part.window_x), y = torch::tensor(part.window_y);
        window_ = (y.unsqueeze(1) * x.unsqueeze(0)).to(device_);
      }
    });
  }

  std::vector<AcceleratedSums> add(std::span<const AcceleratedFrame> frames) override {
    return guarded(name(), [&] {
      Products products;
      try {
        products = products_of(frames);
      } catch (const c10::OutOfMemoryError&) {
        if (!keep_transfers_) throw;
        keep_transfers_ = false;  // made anew for each tile from now on
        transfers_.clear();
        products = products_of(frames);
      }
      // in the order of the frames: sums are rounded
      for (std::size_t i = 0; i < frames.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i);
        numerator_[frames[i].channel] += products.observed[row];
        denominator_[frames[i].channel] += products.expected[row];
      }
      return std::move(products.sums);
    });
  }

  void finish(MutableView numerator, MutableView denominator) override {
    guarded(name(), [&] {
      for (auto& [spectrum, sums] :
           {std::pair{&numerator_, &numerator}, std::pair{&denominator_, &denominator}}) {
        const torch::Tensor values =
            back(*spectrum)
                .index({Slice(), Slice(0, sums->height()), Slice(0, sums->width())})
                .contiguous()
                .cpu();
        add_to(*sums, values);
      }
    });
  }

  void forget() override {
    transfers_.clear();
    estimate_ = numerator_ = denominator_ = window_ = torch::Tensor();
  }

 private:
  struct Batch {
    torch::Tensor light, known, sigma;  ///< (n, height, width), (n, 1, 1) for one sigma
    torch::Tensor floor, shot, misfit;  ///< (n, 1, 1)
    torch::Tensor transfers;            ///< (n, rows, columns)
    torch::Tensor channels;             ///< (n)
  };
  /// What is added to the spectra of numerator and denominator.
  struct Products {
    torch::Tensor observed, expected;
    std::vector<AcceleratedSums> sums;
  };

  Products products_of(std::span<const AcceleratedFrame> frames) {
    const Batch batch = load(frames);
    const torch::Tensor predicted = predict(batch), kernels = torch::conj(batch.transfers);
    const auto [observed, expected] = weigh(batch, predicted);
    return {transformed(spread(observed), tile_.reach) * kernels,
            transformed(spread(expected), tile_.reach) * kernels, observe(batch, predicted)};
  }

  /// The spectrum of fields laid into the transform's size, `at` pixels from its corner.
  [[nodiscard]] torch::Tensor transformed(const torch::Tensor& fields, int at) const {
    const std::int64_t right = tile_.transform.width - at - fields.size(2);
    const std::int64_t below = tile_.transform.height - at - fields.size(1);
    return torch::fft::rfft2(torch::constant_pad_nd(fields, {at, right, at, below}));
  }
  [[nodiscard]] torch::Tensor back(const torch::Tensor& spectra) const {
    return torch::fft::irfft2(spectra,
                              c10::IntArrayRef{tile_.transform.height, tile_.transform.width});
  }

  Batch load(std::span<const AcceleratedFrame> frames) {
    Batch batch;
    std::vector<torch::Tensor> light, sigma, transfers;
    std::vector<float> floor, shot, misfit;
    std::vector<std::int64_t> channels;
    for (const AcceleratedFrame& frame : frames) {
      light.push_back(tensor_of(frame.light)[0].to(device_));
      const bool one = frame.sigma.size() == 1;
      sigma.push_back(torch::tensor(frame.sigma)
                          .view({one ? 1 : frame.light.height(), one ? 1 : frame.light.width()}));
      transfers.push_back(transfer_of(frame));
      floor.push_back(frame.noise.floor);
      shot.push_back(frame.noise.shot);
      misfit.push_back(frame.noise.misfit);
      channels.push_back(frame.channel);
    }
    const auto column = [&](const std::vector<float>& values) {
      return torch::tensor(values).view({-1, 1, 1}).to(device_);
    };
    batch.light = torch::stack(light);
    batch.known = batch.light == batch.light;  // not NaN
    batch.light = torch::where(batch.known, batch.light, torch::zeros_like(batch.light));
    batch.sigma = torch::stack(sigma).to(device_);
    batch.floor = column(floor);
    batch.shot = column(shot);
    batch.misfit = column(misfit);
    batch.transfers = torch::stack(transfers);
    batch.channels = torch::tensor(channels).to(device_);
    return batch;
  }

  torch::Tensor transfer_of(const AcceleratedFrame& frame) {
    if (const auto kept = transfers_.find(frame.slot); kept != transfers_.end())
      return kept->second;
    const std::int64_t side = frame.kernel->width(), middle = side / 2;
    const torch::Tensor kernel = tensor_of(frame.kernel->view()).to(device_);
    // its centre goes to the corner
    const torch::Tensor whole = torch::constant_pad_nd(
        kernel, {0, tile_.transform.width - side, 0, tile_.transform.height - side});
    torch::Tensor transfer = torch::fft::rfft2(torch::roll(whole, {-middle, -middle}, {1, 2}))[0];
    if (keep_transfers_) transfers_.emplace(frame.slot, transfer);
    return transfer;
  }

  [[nodiscard]] torch::Tensor predict(const Batch& batch) const {
    const Rect data = tile_.tile->data;
    const std::int64_t f = tile_.factor, reach = tile_.reach;
    const torch::Tensor fields = back(estimate_.index_select(0, batch.channels) * batch.transfers);
    const torch::Tensor fine = fields.index(
        {Slice(), Slice(reach, reach + data.height * f), Slice(reach, reach + data.width * f)});
    if (f == 1) return fine;
    return fine.contiguous().view({-1, data.height, f, data.width, f}).sum({2, 4});
  }

  /// As observe_row(), of the same rows.
  [[nodiscard]] std::vector<AcceleratedSums> observe(const Batch& batch,
                                                     const torch::Tensor& prediction) const {
    const int first = (4 - tile_.tile->data.y % 4) % 4;
    const auto rows = [&](const torch::Tensor& values) {
      return values.size(1) == 1 ? values : values.index({Slice(), Slice(first, None, 4)});
    };
    const std::int64_t count = batch.light.size(0);
    std::vector<AcceleratedSums> sums(static_cast<std::size_t>(count));
    if (first >= prediction.size(1)) return sums;
    const Weighting& w = tile_.weighting;
    const torch::Tensor p = rows(prediction), known = rows(batch.known), sigma = rows(batch.sigma);
    const torch::Tensor light = torch::clamp_min(p - w.pedestal, 0);
    const torch::Tensor residual = rows(batch.light) - p, r2 = residual * residual;
    const torch::Tensor typical2 = batch.floor * sigma * sigma + batch.shot * light * sigma +
                                   batch.misfit * batch.misfit * light * light;
    const auto over = [&](const torch::Tensor& limit2) {
      return ((r2 > limit2) & known).sum(c10::IntArrayRef{1, 2}).cpu();
    };
    const torch::Tensor pixels = known.sum(c10::IntArrayRef{1, 2}).cpu();
    const float delta2 = w.delta * w.delta;
    const torch::Tensor off =
        over(w.absolute ? torch::full_like(typical2, delta2) : delta2 * typical2);
    const torch::Tensor rejected = w.reject_sigma > 0
                                       ? over(w.reject_sigma * w.reject_sigma * typical2)
                                       : torch::zeros_like(off);
    const torch::Tensor slots = slots_of(light / sigma, residual / sigma, known);
    const std::int64_t each = ResidualStatistics::slots;
    const torch::Tensor own =
        each * torch::arange(count, slots.options().dtype(torch::kLong)).view({-1, 1, 1});
    const torch::Tensor histogram =
        torch::bincount((slots + own).flatten(), {}, count * each).cpu();
    for (std::int64_t i = 0; i < count; ++i) {
      AcceleratedSums& sum = sums[static_cast<std::size_t>(i)];
      sum.statistics.add_counts(
          {histogram.data_ptr<std::int64_t>() + i * each, static_cast<std::size_t>(each)});
      const auto as_count = [i](const torch::Tensor& values) {
        return static_cast<std::uint64_t>(values[i].item<std::int64_t>());
      };
      sum.counts.pixels = as_count(pixels);
      if (!w.huber) continue;
      sum.counts.rejected = as_count(rejected);
      sum.counts.softened = as_count(off) - std::min(as_count(off), as_count(rejected));
    }
    return sums;
  }

  /// ResidualStatistics::slot() of each pixel.
  [[nodiscard]] static torch::Tensor slots_of(const torch::Tensor& light,
                                              const torch::Tensor& residual,
                                              const torch::Tensor& known) {
    using Statistics = ResidualStatistics;
    const auto bits = [](const torch::Tensor& values) {
      return values.contiguous().view(torch::kInt);
    };
    const torch::Tensor octave =
        torch::clamp(torch::bitwise_right_shift(bits(light), 23) - 127, 0, Statistics::octaves - 1);
    const torch::Tensor bin = torch::clamp(
        torch::bitwise_right_shift(bits(residual * residual), 20) - Statistics::first_bin, 0,
        Statistics::bins - 1);
    const torch::Tensor slot = octave * Statistics::bins + bin;
    return torch::where(known, slot, torch::full_like(slot, Statistics::nowhere));
  }

  /// As weigh_row(): weight * observed and weight * predicted.
  [[nodiscard]] std::pair<torch::Tensor, torch::Tensor> weigh(const Batch& batch,
                                                              const torch::Tensor& p) const {
    const Weighting& w = tile_.weighting;
    const torch::Tensor& sigma = batch.sigma;
    const torch::Tensor light = torch::clamp_min(p - w.pedestal, 0);
    const torch::Tensor variance = torch::clamp(batch.floor, 0.1, 10) * sigma * sigma;
    torch::Tensor shot = torch::full_like(batch.shot, 1 / w.pedestal);
    if (w.shot_noise) shot = torch::maximum(shot, batch.shot);
    const torch::Tensor spread = variance + shot * light * sigma + 1e-6;
    torch::Tensor weight;
    if (w.huber) {
      const torch::Tensor residual = batch.light - p, r2 = residual * residual;
      const torch::Tensor typical2 = variance + batch.shot * light * sigma +
                                     batch.misfit * batch.misfit * light * light + 1e-12;
      const float delta2 = w.delta * w.delta;
      const torch::Tensor limit2 =
          w.absolute ? torch::full_like(typical2, delta2) : delta2 * typical2;
      weight = torch::sqrt(limit2 / torch::maximum(r2, limit2)) / spread;
      if (w.reject_sigma > 0) weight = weight * (r2 <= w.reject_sigma * w.reject_sigma * typical2);
    } else {
      weight = 1 / spread;
    }
    weight = weight * batch.known;
    if (window_.defined()) weight = weight * window_;
    return {weight * batch.light, weight * p};
  }

  /// Each pixel into its fine pixels.
  [[nodiscard]] torch::Tensor spread(const torch::Tensor& pixels) const {
    if (tile_.factor == 1) return pixels;
    return pixels.repeat_interleave(tile_.factor, 1).repeat_interleave(tile_.factor, 2);
  }

  torch::Device device_;
  AcceleratedTile tile_;
  int cell_ = -1;
  torch::Tensor estimate_, numerator_, denominator_, window_;
  std::map<std::size_t, torch::Tensor> transfers_;  ///< of the cell and size of the last tile
  bool keep_transfers_ = true;
};

}  // namespace

std::unique_ptr<Accelerator> make_torch_accelerator(const std::string& device) {
  return std::make_unique<TorchAccelerator>(torch::Device(device));
}

const TorchAccelerators torch_accelerators{
    .open = [](const Device& device) -> std::unique_ptr<Accelerator> {
      return std::make_unique<TorchAccelerator>(torch_device(device));
    }};

}  // namespace limpid::multiframe
