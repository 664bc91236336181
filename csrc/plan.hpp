#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "mel.hpp"
#include "spec.hpp"

namespace streamtag {

/// Everything about a front end that no sample changes; streams of one kind share it.
struct Plan {
  Spec spec;
  const struct Kernel* kernel = nullptr;
  /// Samples beyond it are clipped to it, so that nothing downstream can overflow.
  float limit = 0.0f;
  std::vector<float> window;
  std::vector<float> twiddles;
  std::vector<Band> bands;
  std::vector<float> weighting;
};

/// The code of one instruction set.
struct Kernel {
  const char* isa;
  /// Copies `count` samples, clipped to +-limit, NaN and infinities as 0; returns how many those
  /// were.
  std::int64_t (*clean)(const float* samples, std::int64_t count, float limit, float* out);
  /// Frame of the n_fft samples at `samples`. `peak` is the running maximum that top_db refers to.
  void (*frame)(const Plan& plan, const float* samples, float* peak, float* out);
};

/// Names of the instruction sets that this CPU can run, the best one first.
std::vector<const char*> instruction_sets();

/// The named kernel; "" is $STREAMTAG_ISA, or else the best. Throws std::invalid_argument.
const Kernel& kernel_for(const char* isa);

/// The plan of `spec` for the instruction set `isa`; made once, shared while anyone holds it.
std::shared_ptr<const Plan> plan_for(const Spec& spec, const char* isa);

}  // namespace streamtag
