// The linear part of a frame once more, in double precision; compiled once per instruction set.

#define STREAMTAG_DOUBLE

#include "precise.hpp"

#include "fft.hpp"
#include "kernel.hpp"
#include "lanes.hpp"
#include "mix.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

template <int L>
void mels_of(const Transform<double>& tables, const float* samples, double* memory, float* mels) {
  const Scratch scratch(tables, memory);
  power_spectrum<L>(tables, samples, scratch);
  take_root(tables, tables.bins, scratch.power);
  mix<L>(tables, scratch.power, scratch.mels);
  for (int m = 0; m < tables.n_mels; ++m) mels[m] = static_cast<float>(scratch.mels[m]);
}

}  // namespace

void precise_mels(const Transform<double>& tables, const float* samples, double* memory,
                  float* mels) {
#if defined(__AVX512F__)
  if (tables.lanes == 8) return mels_of<8>(tables, samples, memory, mels);
#endif
  mels_of<4>(tables, samples, memory, mels);
}

}  // namespace streamtag::STREAMTAG_KERNEL
