#include "train/torch_training.h"

namespace limpid {

const TorchTraining torch_training{
    .make_drawer = by_libtorch::make_drawer,
    .make_corpus_writer = by_libtorch::make_corpus_writer,
    .simulate_night = by_libtorch::simulate_night,
    .train = by_libtorch::train,
    .evaluate = by_libtorch::evaluate,
    .record_table = by_libtorch::record_table,
};

}  // namespace limpid
