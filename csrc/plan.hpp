#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernel.hpp"
#include "mel.hpp"
#include "spec.hpp"

namespace streamtag {

/// Numbers at an address that is a multiple of 64.
template <class T>
class Aligned {
 public:
  explicit Aligned(std::size_t size = 0) : memory_(size + 64 / sizeof(T)) {
    void* start = memory_.data();
    std::size_t space = memory_.size() * sizeof(T);
    data_ = static_cast<T*>(std::align(64, size * sizeof(T), start, space));
  }
  Aligned(Aligned&&) = default;
  Aligned& operator=(Aligned&&) = default;

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::int64_t i) { return data_[i]; }

 private:
  std::vector<T> memory_;
  T* data_;
};

/// The memory that the pointers of a Transform point to.
template <class Real>
struct TransformMemory {
  Aligned<Real> window, first_twiddles, stage_twiddles, unpack_twiddles, weights;
  Aligned<std::int32_t> order, spans, firsts;
};

/// The constant part of a front end. Streams with the same configuration share it.
class Plan {
 public:
  Plan(const Spec& spec, const Kernel& kernel);

  const Spec spec;
  const Kernel& kernel;
  /// Samples are clipped to +-limit, so that nothing can overflow.
  float limit;
  Tables tables{};
  /// Floats and doubles that the kernel needs as working memory.
  std::size_t scratch = 0, precise_scratch = 0;
  /// Frames that are computed at once; 1 if each is computed alone.
  std::int32_t batch = 1;

 private:
  void plan_faint(const std::vector<Band>& bands);
  void plan_log();

  TransformMemory<float> floats_;
  TransformMemory<double> doubles_;
  Aligned<float> faint_, weighting_;
};

/// Names of the instruction sets that this CPU can run, the best one first.
std::vector<const char*> instruction_sets();

/// The named kernel; "" stands for $STREAMTAG_ISA or, where that is not set, the best. Throws
/// std::invalid_argument.
const Kernel& kernel_for(const char* isa);

/// The plan of `spec` for the instruction set `isa`. It is made once: it is shared as long as a
/// front end uses it, and the last few are kept longer.
std::shared_ptr<const Plan> plan_for(const Spec& spec, const char* isa);

}  // namespace streamtag
