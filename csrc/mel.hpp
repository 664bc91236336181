#pragma once

#include <cstdint>
#include <vector>

#include "spec.hpp"

namespace streamtag {

/// One row of the mel matrix: its weights from bin `first` on; empty if no bin lies inside.
struct Band {
  std::int64_t first = 0;
  std::vector<double> weights;
};

/// The (n_mels, bins) mel matrix, triangles linear in Hz, for Kaldi in mel.
std::vector<Band> mel_bands(const Spec& spec);

/// A-weighting in dB per bin (IEC 61672-1), floored at -80 dB.
std::vector<double> a_weighting(const Spec& spec);

/// The (n_fft,) analysis window, zeros around `win_length`.
std::vector<double> analysis_window(const Spec& spec);

}  // namespace streamtag
