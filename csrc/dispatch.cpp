#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "plan.hpp"

namespace streamtag {

namespace baseline {
extern const Kernel kernel;
}
#ifdef STREAMTAG_X86
namespace avx2 {
extern const Kernel kernel;
}
namespace avx512 {
extern const Kernel kernel;
}
#endif

namespace {

/// Kernels that this CPU can run, the best one first.
std::vector<const Kernel*> kernels() {
  std::vector<const Kernel*> found;
#ifdef STREAMTAG_X86
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    found.push_back(&avx512::kernel);
  if (has_avx2) found.push_back(&avx2::kernel);
#endif
  found.push_back(&baseline::kernel);
  return found;
}

}  // namespace

std::vector<const char*> instruction_sets() {
  std::vector<const char*> names;
  for (const Kernel* kernel : kernels()) names.push_back(kernel->isa);
  return names;
}

const Kernel& kernel_for(const char* isa) {
  if (*isa == '\0') {
    const char* wanted = std::getenv("STREAMTAG_ISA");
    if (wanted == nullptr || *wanted == '\0') return *kernels().front();
    isa = wanted;
  }
  std::string known;
  for (const Kernel* kernel : kernels()) {
    if (std::strcmp(kernel->isa, isa) == 0) return *kernel;
    known += std::string(known.empty() ? "" : ", ") + kernel->isa;
  }
  throw std::invalid_argument("instruction set: this CPU runs " + known + ", got '" + isa + "'");
}

}  // namespace streamtag
